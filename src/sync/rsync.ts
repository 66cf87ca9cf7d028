/**
 * A remote behind the real rsync: a local folder, a host over ssh, or an rsync daemon.
 *
 * - Files arrive under temporary names; an interrupted one is kept in PARTIAL_FOLDER beside its
 *   place and continued by the next transfer, checked as a whole by rsync before it gets its name.
 * - Files are compared by size alone (`--size-only`), for a name never gets a second content.
 * - Lists of names go through standard input, separated by NUL; names of folders on a host go
 *   through rsync's own protocol (`--protect-args`), so that no shell there sees them.
 * - Options that an old, or a restricted, rsync on either side refuses and that can be done without
 *   are left out from then on (OPTIONAL).
 */
import * as fs from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { ChunkvolError } from '../base/errors.js';
import { remoteFailure } from './failures.js';
import { makeFolders, requireFiles } from './local-side.js';
import { runTool } from './process.js';
import type { ToolCall, ToolResult } from './process.js';
import { bandwidthBytes, checkPaths, foldersOf, growing } from './remote.js';
import type { Remote, RemoteFile, TransferOptions } from './remote.js';
import type { RsyncUrl } from './url.js';

/** Holds what interrupted transfers left, on either side; rsync removes it when it is empty. */
const PARTIAL_FOLDER = '.chunkvol-partial';

const CONNECT_TIMEOUT_SECONDS = 30;

/** Without a byte for so long a connection counts as broken; an fsync of 16 GiB takes less. */
const IDLE_TIMEOUT_SECONDS = 300;

const OPTIONAL: readonly string[] = ['--mkpath', '--fsync', '--protect-args', '--no-motd'];

/** What may stand in a folder's name when a shell on the host sees it after all. */
const SHELL_SAFE = /^[\w@%+=:,./~[\]-]+$/;

/** Some files vanished while rsync was listing: as if it had come a moment later. */
const STATUS_VANISHED = 24;

const TRANSFER_OPTIONS: readonly string[] = [
  '--from0',
  '--files-from=-',
  '--no-implied-dirs',
  '--size-only',
  '--times',
  '--omit-dir-times',
  `--partial-dir=${PARTIAL_FOLDER}`,
  '--mkpath',
  '--fsync',
  '--info=progress2',
  '--no-human-readable',
];

export class RsyncRemote implements Remote {
  readonly url: string;
  private readonly refused = new Set<string>();

  constructor(private readonly target: RsyncUrl) {
    this.url = target.text;
  }

  async list(folder: string, signal?: AbortSignal): Promise<RemoteFile[]> {
    const source = `${this.target.location}/${folder}/`;
    const args = ['--list-only', '--no-human-readable', '--', source];
    const result = await this.run({ args, signal });
    if (result.status === 0 || result.status === STATUS_VANISHED) {
      return parseListing(result.output, folder);
    }
    if (saysFolderIsMissing(result)) return [];
    throw this.failure(`list ${folder} on`, result);
  }

  async upload(
    localFolder: string,
    paths: readonly string[],
    options: TransferOptions = {},
  ): Promise<void> {
    if (paths.length === 0) return;
    checkPaths(paths);
    const source = path.resolve(localFolder);
    await requireFiles(source, paths);
    const ends = [`${source}/`, `${this.target.location}/`];
    const result = await this.transfer(ends, paths, options);
    if (result.status !== 0) throw this.failure('copy to', result);
  }

  async download(
    localFolder: string,
    paths: readonly string[],
    options: TransferOptions = {},
  ): Promise<void> {
    if (paths.length === 0) return;
    checkPaths(paths);
    const target = path.resolve(localFolder);
    await makeFolders(target, paths);
    const source = this.downloadSource();
    const names = paths.map((name) => source.prefix + name);
    const result = await this.transfer([source.location, `${target}/`], names, options);
    if (result.status !== 0) throw this.failure('copy from', result, target);
  }

  /** Lets an empty folder be the truth about exactly the named files, which deletes them. */
  async remove(paths: readonly string[], signal?: AbortSignal): Promise<void> {
    if (paths.length === 0) return;
    checkPaths(paths);
    const empty = await fs.mkdtemp(path.join(os.tmpdir(), 'chunkvol-'));
    try {
      await makeFolders(empty, paths);
      const deletion = ['--recursive', '--delete', '--existing', '--ignore-existing'];
      const selection = ['--from0', '--include-from=-', '--exclude=*'];
      const args = [...deletion, ...selection, '--', `${empty}/`, `${this.target.location}/`];
      const result = await this.run({ args, input: deletionRules(paths), signal });
      if (result.status === 0 || saysTargetIsMissing(result)) return;
      throw this.failure('remove files from', result);
    } finally {
      await fs.rm(empty, { recursive: true, force: true });
    }
  }

  private transfer(
    ends: readonly string[],
    paths: readonly string[],
    { bandwidthLimit, onProgress, signal }: TransferOptions,
  ): Promise<ToolResult> {
    const limit = bandwidthLimit === undefined ? [] : [limitOption(bandwidthLimit)];
    return this.run({
      args: [...TRANSFER_OPTIONS, ...limit, '--', ...ends],
      input: paths.map((name) => `${name}\0`).join(''),
      signal,
      onOutput: progressReader(growing(onProgress)),
    });
  }

  /**
   * Where files come from, and what to put before their names. From a daemon it is the module, with
   * the folder in the names up to a '/./': a daemon that serves a module without chroot does not
   * find files listed relative to a folder of it (rsync 3.5.0: "file has vanished").
   */
  private downloadSource(): { location: string; prefix: string } {
    const { kind, location } = this.target;
    const [, module, folder] = /^(rsync:\/\/[^/]+\/[^/]+)\/(.*)$/.exec(location) ?? [];
    if (kind !== 'daemon' || module === undefined || folder === undefined) {
      return { location: `${location}/`, prefix: '' };
    }
    return { location: `${module}/`, prefix: `${folder}/./` };
  }

  /** Runs rsync, again without them when it refuses options that can be done without. */
  private async run(call: Omit<ToolCall, 'tool'>): Promise<ToolResult> {
    for (;;) {
      const args = [...this.connection(), ...call.args].filter((arg) => !this.refused.has(arg));
      const result = await runTool({ ...call, tool: 'rsync', args });
      if (result.status === 0) return result;
      const refusedNow = args.filter((arg) => OPTIONAL.includes(arg) && saysRefused(result, arg));
      if (refusedNow.length === 0) return result;
      for (const option of refusedNow) this.refused.add(option);
      this.checkUnprotectedName();
    }
  }

  private connection(): string[] {
    const idle = `--timeout=${IDLE_TIMEOUT_SECONDS}`;
    if (this.target.kind === 'local') return [idle];
    if (this.target.kind === 'daemon') {
      return [idle, `--contimeout=${CONNECT_TIMEOUT_SECONDS}`, '--no-motd', '--protect-args'];
    }
    const shell = remoteShell();
    return [idle, '--protect-args', ...(shell === null ? [] : ['-e', shell])];
  }

  private checkUnprotectedName(): void {
    const bare = this.target.kind === 'ssh' && this.refused.has('--protect-args');
    if (!bare || SHELL_SAFE.test(this.target.location)) return;
    const what =
      'rsync there refuses --protect-args, without which the name of the folder is not safe';
    const next = 'choose a folder whose name has neither spaces nor special characters';
    throw new ChunkvolError('remote', `cannot use ${this.url}: ${what}; ${next}`);
  }

  private failure(action: string, result: ToolResult, localTarget?: string): ChunkvolError {
    const reason = lastWords(result.errorLines);
    return remoteFailure({ tool: 'rsync', action, url: this.url, result, reason, localTarget });
  }
}

/** Rsync splits this into words itself and starts no shell; null leaves $RSYNC_RSH to it. */
function remoteShell(): string | null {
  const chosen = process.env['CHUNKVOL_SSH'];
  if (chosen !== undefined && chosen !== '') return chosen;
  const ofRsync = process.env['RSYNC_RSH'];
  if (ofRsync !== undefined && ofRsync !== '') return null;
  return `ssh -oBatchMode=yes -oConnectTimeout=${CONNECT_TIMEOUT_SECONDS}`;
}

/** Rsync counts in KiB per second; 0 would mean no limit. */
function limitOption(bandwidthLimit: string): string {
  return `--bwlimit=${Math.max(1, Math.round(bandwidthBytes(bandwidthLimit) / 1024))}`;
}

/**
 * A line of a listing: type and permissions, bytes, date, time, name. Only plain files count. Rsync
 * writes bytes that are not printable as \#ooo; no file of a volume has such a name, so these are
 * other people's, and left out.
 */
const LISTED_FILE = /^-\S{9,10} +(\d+) \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d (.+)$/;

export function parseListing(output: string, folder: string): RemoteFile[] {
  const files: RemoteFile[] = [];
  for (const line of output.split('\n')) {
    const [, digits, name] = LISTED_FILE.exec(line) ?? [];
    if (digits === undefined || name === undefined || /\\#\d{3}/.test(name)) continue;
    files.push({ path: `${folder}/${name}`, bytes: Number(digits) });
  }
  return files;
}

/**
 * Rules, NUL-separated, that expose the named files to deletion, and what interrupted transfers
 * left beside them; all else is excluded, which protects it. A backslash quotes in a rule that has
 * other special characters, and stands for itself in one that has none.
 */
export function deletionRules(paths: readonly string[]): string {
  const folders = foldersOf(paths).flatMap((folder) => {
    const parts = folder.split('/');
    return parts.map((_, depth) => `/${quotePattern(parts.slice(0, depth + 1).join('/'))}/`);
  });
  const partial = foldersOf(paths).map(
    (folder) => `/${quotePattern(folder)}/${PARTIAL_FOLDER}/***`,
  );
  const files = paths.map((name) => `/${quotePattern(name)}`);
  return [...new Set(folders), ...partial, ...files].map((rule) => `${rule}\0`).join('');
}

function quotePattern(name: string): string {
  return /[*?[]/.test(name) ? name.replace(/[*?[\\]/g, '\\$&') : name;
}

/** Understands what `--info=progress2` writes: '   1234  56%  …', each line over the last one. */
export function progressReader(report: (doneBytes: number) => void): (text: string) => void {
  let rest = '';
  return (text) => {
    const lines = (rest + text).split(/[\r\n]/);
    rest = lines.pop()!.slice(-200);
    for (const line of lines) {
      const digits = /^\s*(\d+)\s+\d+%/.exec(line)?.[1];
      if (digits !== undefined) report(Number(digits));
    }
  };
}

function saysFolderIsMissing({ errorLines }: ToolResult): boolean {
  const failed = errorLines.filter((line) => / failed: /.test(line));
  return (
    failed.length > 0 && failed.every((line) => /\b(change_dir|link_stat) .*\(2\)$/.test(line))
  );
}

function saysTargetIsMissing({ errorLines }: ToolResult): boolean {
  return errorLines.some((line) => /\b(mkdir|change_dir) .* failed: .*\(2\)$/.test(line));
}

function saysRefused({ errorLines }: ToolResult, option: string): boolean {
  const short = option === '--protect-args' ? '|-s\\b|--secluded-args' : '';
  const named = new RegExp(`(^|[\\s"'])(${option}${short})`);
  const refusal = /unknown option|unrecognized option|refuse|disabled|not supported/i;
  return errorLines.some((line) => refusal.test(line) && named.test(line));
}

/** The last line that says more than that rsync ended. */
function lastWords(errorLines: readonly string[]): string {
  const hollow =
    /^rsync error: |connection unexpectedly closed|\] (read|write) error: |^rsync: connection/;
  return errorLines.findLast((line) => !hollow.test(line)) ?? errorLines.at(-1) ?? '';
}
