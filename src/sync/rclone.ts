/**
 * A remote behind the real rclone: any backend of the user's rclone configuration.
 *
 * - Files are compared by size alone (`--size-only`): not by `--immutable`, which fails where only
 *   a time differs, and refuses to replace what a broken transfer left behind.
 * - One stream per file (`--multi-thread-streams 0`): with several, a transfer that is killed can
 *   leave a file of full size with holes in it, which nothing would ever replace.
 * - `--no-traverse`: each named file is looked up by itself instead of listing the remote again.
 * - Rclone silently passes over names on its list that its source does not have; so both directions
 *   check that every file was, or is now, there.
 * - The user's configuration and RCLONE_* variables reach rclone as they are.
 */
import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { ChunkvolError, errnoOf, fromSystem } from '../base/errors.js';
import { remoteFailure } from './failures.js';
import { makeFolders, requireFiles } from './local-side.js';
import { runTool } from './process.js';
import type { ToolCall, ToolResult } from './process.js';
import { bandwidthBytes, checkPaths, growing } from './remote.js';
import type { Remote, RemoteFile, TransferOptions } from './remote.js';
import type { RcloneUrl } from './url.js';

/** Where the user set none: a host that is down is noticed in seconds, not in minutes. */
const DEFAULT_ENVIRONMENT: Record<string, string> = {
  RCLONE_CONTIMEOUT: '20s',
  RCLONE_LOW_LEVEL_RETRIES: '3',
};

/** Errors come as JSON, and nothing is asked on the terminal. */
const COMMON_OPTIONS: readonly string[] = ['--use-json-log', '--ask-password=false'];

const LISTING_OPTIONS: readonly string[] = ['--files-only', '--no-modtime', '--no-mimetype'];

/** Names come through standard input, one a line. */
const SELECTION_OPTIONS: readonly string[] = ['--files-from-raw', '-'];

const TRANSFER_OPTIONS: readonly string[] = [
  ...SELECTION_OPTIONS,
  '--size-only',
  '--no-traverse',
  '--multi-thread-streams=0',
  '--stats=1s',
  '--stats-log-level=NOTICE',
];

const STATUS_NO_FOLDER = 3;

export class RcloneRemote implements Remote {
  readonly url: string;

  constructor(private readonly target: RcloneUrl) {
    this.url = target.text;
  }

  async list(folder: string, signal?: AbortSignal): Promise<RemoteFile[]> {
    const source = join(this.target.location, folder);
    const result = await this.run('lsjson', { args: [...LISTING_OPTIONS, '--', source], signal });
    if (result.status === 0) return this.parsed(result, folder);
    if (result.status === STATUS_NO_FOLDER) return [];
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
    const result = await this.transfer([source, this.target.location], paths, options);
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
    const result = await this.transfer([this.target.location, target], paths, options);
    if (result.status !== 0) throw this.failure('copy from', result, target);
    for (const name of paths) await this.settle(target, name, result);
  }

  async remove(paths: readonly string[], signal?: AbortSignal): Promise<void> {
    if (paths.length === 0) return;
    checkPaths(paths);
    const args = [...SELECTION_OPTIONS, '--', this.target.location];
    const result = await this.run('delete', { args, input: lines(paths), signal });
    if (result.status === 0 || result.status === STATUS_NO_FOLDER) return;
    throw this.failure('remove files from', result);
  }

  private transfer(
    ends: readonly string[],
    paths: readonly string[],
    { bandwidthLimit, onProgress, signal }: TransferOptions,
  ): Promise<ToolResult> {
    const limit =
      bandwidthLimit === undefined ? [] : [`--bwlimit=${bandwidthBytes(bandwidthLimit)}B`];
    const args = [...TRANSFER_OPTIONS, ...limit, '--', ...ends];
    return this.run('copy', { args, input: lines(paths), signal }, growing(onProgress));
  }

  private run(
    verb: string,
    call: Omit<ToolCall, 'tool' | 'keepErrorLine'>,
    report: (doneBytes: number) => void = () => undefined,
  ): Promise<ToolResult> {
    return runTool({
      ...call,
      tool: 'rclone',
      args: [verb, ...COMMON_OPTIONS, ...call.args],
      environment: { ...DEFAULT_ENVIRONMENT, ...process.env },
      keepErrorLine: logReader(report),
    });
  }

  private parsed(result: ToolResult, folder: string): RemoteFile[] {
    const files = parseListing(result.output, folder);
    if (files !== null) return files;
    const what = `cannot list ${folder} on ${this.url}: the answer of rclone is not a listing`;
    throw new ChunkvolError('remote', `${what}; try "rclone lsjson" by hand`);
  }

  /** Makes a downloaded file durable, which rclone does not; throws when it did not come. */
  private async settle(target: string, name: string, result: ToolResult): Promise<void> {
    const full = path.join(target, name);
    try {
      const file = await fs.open(full, 'r');
      await file.sync().finally(() => file.close());
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw fromSystem(error, 'sync', full);
      const reason = `${name} is not on the remote`;
      throw remoteFailure({ tool: 'rclone', action: 'copy from', url: this.url, result, reason });
    }
  }

  private failure(action: string, result: ToolResult, localTarget?: string): ChunkvolError {
    const reason = lastWords(result.errorLines);
    return remoteFailure({ tool: 'rclone', action, url: this.url, result, reason, localTarget });
  }
}

function join(location: string, folder: string): string {
  return /[:/]$/.test(location) ? location + folder : `${location}/${folder}`;
}

function lines(paths: readonly string[]): string {
  return paths.map((name) => `${name}\n`).join('');
}

/** Files of an `rclone lsjson`; null when the text is none. */
export function parseListing(output: string, folder: string): RemoteFile[] | null {
  let entries: unknown;
  try {
    entries = JSON.parse(output);
  } catch {
    return null;
  }
  if (!Array.isArray(entries)) return null;
  const files: RemoteFile[] = [];
  for (const entry of entries as unknown[]) {
    const { Name: name, Size: bytes, IsDir: isFolder } = (entry ?? {}) as Record<string, unknown>;
    if (typeof name !== 'string' || typeof bytes !== 'number') return null;
    if (isFolder !== true) files.push({ path: `${folder}/${name}`, bytes });
  }
  return files;
}

/**
 * Reads rclone's log: lines of JSON, of which those with "stats" tell the progress and those of an
 * error level are kept; and the last word of a failing rclone, which is plain text after a time.
 */
export function logReader(report: (doneBytes: number) => void): (line: string) => string | null {
  return (line) => {
    const entry = parseObject(line);
    if (entry === null) return line.replace(/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d /, '');
    const doneBytes = (entry['stats'] as { bytes?: unknown } | undefined)?.bytes;
    if (typeof doneBytes === 'number') report(doneBytes);
    const isError = ['error', 'critical', 'fatal', 'alert', 'emergency'].includes(
      String(entry['level']),
    );
    return isError && typeof entry['msg'] === 'string' ? entry['msg'] : null;
  };
}

function parseObject(line: string): Record<string, unknown> | null {
  if (!line.startsWith('{')) return null;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return null;
  }
}

/** "Failed to copy with 2 errors: last error was: …", which may go on over several lines. */
function lastWords(errorLines: readonly string[]): string {
  const start = errorLines.findLastIndex((line) => line.startsWith('Failed to '));
  const words = start < 0 ? errorLines.slice(-1) : errorLines.slice(start);
  const introduction =
    /^Failed to (\w+( with \d+ errors: last error was)?|create file system for ".*"): /;
  return words.join(' ').replace(introduction, '');
}
