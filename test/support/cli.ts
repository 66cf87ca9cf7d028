/**
 * The compiled program, run as a user would: in processes of their own, with a home, a runtime folder
 * and a state folder that are this test's alone.
 *
 * `releaseAll` belongs in an afterEach. It copes with a test that stopped half-way: servers are killed
 * and what nbdfuse shows is unmounted.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { StatusReport } from '../../src/cli/status-report.js';
import packageJson from '../../package.json' with { type: 'json' };

/** Another build than that of `npm run build`, for who works on a part of it. */
const PROGRAM: string =
  process.env.CHUNKVOL_TEST_PROGRAM ??
  fileURLToPath(new URL(`../../${packageJson.bin.chunkvol}`, import.meta.url));

const TIMEOUT_MS = 50_000;

/** The passphrase of every volume that `create` makes. */
export const PASSPHRASE = 'correct horse';

export interface CliResult {
  /** null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  /** On top of the world's own; undefined takes a variable away. */
  readonly env?: Record<string, string | undefined>;
  readonly cwd?: string;
}

export class CliWorld {
  readonly folder: string;
  readonly passphraseFile: string;
  /** What node runs. */
  readonly program: string = PROGRAM;
  readonly #children: ChildProcess[] = [];

  constructor() {
    if (!fs.existsSync(PROGRAM)) throw new Error(`${PROGRAM} is not there: npm run build first`);
    this.folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'cv-')));
    for (const name of ['home', 'run']) fs.mkdirSync(this.path(name), { mode: 0o700 });
    this.passphraseFile = this.path('passphrase');
    fs.writeFileSync(this.passphraseFile, `${PASSPHRASE}\n`);
  }

  path(...parts: string[]): string {
    return path.join(this.folder, ...parts);
  }

  /** The environment of every process. Passphrases are stretched with as little as is allowed. */
  get environment(): NodeJS.ProcessEnv {
    return {
      PATH: process.env.PATH,
      HOME: this.path('home'),
      XDG_RUNTIME_DIR: this.path('run'),
      CHUNKVOL_KDF_MEMORY: '8M',
    };
  }

  /** Runs the program to its end. */
  run(words: readonly string[], options: RunOptions = {}): Promise<CliResult> {
    const child = this.spawn(words, options);
    child.stdin!.on('error', () => undefined).end(options.input ?? '');
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    let stdout = '';
    let stderr = '';
    child.stdout!.on('data', (bytes: Buffer) => (stdout += bytes.toString()));
    child.stderr!.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status) => {
        clearTimeout(timer);
        resolve({ status, stdout, stderr });
      });
    });
  }

  /** The same with the passphrase; throws with all that was said unless it ends with status 0. */
  async ok(words: readonly string[], options: RunOptions = {}): Promise<CliResult> {
    const result = await this.run(words, this.#withPassphrase(options));
    if (result.status === 0) return result;
    throw new Error(`chunkvol ${words.join(' ')}: status ${result.status}\n${result.stderr}`);
  }

  /** Without taking a passphrase from anywhere but the arguments. */
  spawn(words: readonly string[], options: RunOptions = {}): ChildProcess {
    const child = spawn(process.execPath, [PROGRAM, ...words], {
      cwd: options.cwd ?? this.folder,
      env: { ...this.environment, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    return child;
  }

  /** A small volume: chunk files of 1 MiB, 4 + 2 a group unless told otherwise. Returns its folder. */
  async create(name: string, ...options: readonly string[]): Promise<string> {
    const folder = this.path(name);
    const size = ['--size', '32M', '--chunk-size', '1M'];
    await this.ok(['create', folder, ...size, ...options]);
    return folder;
  }

  async status(volume: string): Promise<StatusReport> {
    const { stdout } = await this.ok(['-C', volume, 'status', '--json']);
    return JSON.parse(stdout) as StatusReport;
  }

  /** Serves in the foreground; resolves with the socket once it accepts. */
  async serve(
    volume: string,
    ...options: readonly string[]
  ): Promise<{ child: ChildProcess; uri: string; socket: string }> {
    const child = this.spawn(['-C', volume, 'serve', ...options], this.#withPassphrase({}));
    let said = '';
    child.stderr!.on('data', (bytes: Buffer) => (said += bytes.toString()));
    const uri = await new Promise<string>((resolve, reject) => {
      child.stdout!.on('data', (bytes: Buffer) => {
        const ready = /^ready (\S+)$/m.exec(bytes.toString());
        if (ready) resolve(ready[1]!);
      });
      child.once('close', (status) => {
        reject(new Error(`serve ended with status ${status}: ${said}`));
      });
    });
    return { child, uri, socket: decodeURIComponent(uri.replace(/^.*socket=/, '')) };
  }

  /** Ends a process and returns its exit status; null when a signal ended it. */
  async end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const status = new Promise<number | null>((resolve) => child.once('close', resolve));
    child.kill(signal);
    return status;
  }

  releaseAll(): void {
    for (const child of this.#children) child.kill('SIGKILL');
    for (const pid of this.serverPids()) process.kill(pid, 'SIGKILL');
    const mounts = fs.readFileSync('/proc/self/mounts', 'utf8').split('\n');
    for (const line of mounts.reverse()) {
      const target = line.split(' ')[1] ?? '';
      if (target.startsWith(`${this.folder}/`)) spawnSync('fusermount3', ['-u', '-z', target]);
    }
    fs.rmSync(this.folder, { recursive: true, force: true });
  }

  /** Servers of this world that are alive, by what they were started with. */
  serverPids(): number[] {
    return fs
      .readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        const words = commandLine(pid);
        return words.includes('serve') && words.some((word) => word.startsWith(`${this.folder}/`));
      });
  }

  #withPassphrase(options: RunOptions): RunOptions {
    return { ...options, env: { CHUNKVOL_PASSPHRASE: PASSPHRASE, ...options.env } };
  }
}

/** The words that a process was started with; [] when it is gone. */
export function commandLine(pid: number): string[] {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
