/**
 * The compiled program as a user runs it (dist/cli/start.cjs, which `npm test` builds first): commands
 * with their exit status and words, servers that can be stopped and killed, copies of whole folders.
 *
 * A Sandbox owns a temporary folder and every process started through it. Each process leads a group
 * of its own, so that a kill takes the tools along that it has started. State, sockets and rclone's
 * configuration are kept inside of the folder. `release` belongs in an afterEach or afterAll; it ends
 * what still runs, whatever the test came to.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { NbdClient } from '../../src/nbd/client.js';

/** Another build than that of `npm run build`, for who works on a part of it. */
export const PROGRAM: string =
  process.env.CHUNKVOL_TEST_PROGRAM ??
  fileURLToPath(new URL('../../dist/cli/start.cjs', import.meta.url));

/** Longer than any command of a test takes, so that a hang fails the test and says where. */
const COMMAND_TIMEOUT_MS = 120_000;
const READY_TIMEOUT_MS = 60_000;

export interface Outcome {
  readonly words: readonly string[];
  /** null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly environment?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** A command that runs, with the tools that it has started. */
export class Running {
  readonly outcome: Promise<Outcome>;
  readonly startedMs: number = performance.now();
  #stdout = '';
  #stderr = '';

  constructor(
    readonly child: ChildProcess,
    private readonly words: readonly string[],
  ) {
    child.stdout!.on('data', (text: Buffer) => (this.#stdout += text.toString()));
    child.stderr!.on('data', (text: Buffer) => (this.#stderr += text.toString()));
    this.outcome = new Promise((resolve) => {
      child.once('close', (status) => {
        resolve({ words, status, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
  }

  get stdout(): string {
    return this.#stdout;
  }

  get isOver(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Ends the whole group at once, and waits until it is gone. */
  async kill(): Promise<void> {
    signalGroup(this.child.pid!, 'SIGKILL');
    await this.outcome;
  }

  signal(name: NodeJS.Signals): void {
    if (!this.isOver) this.child.kill(name);
  }

  /** Its outcome, or a failure that names it when it does not end. */
  async ended(timeoutMs: number = COMMAND_TIMEOUT_MS): Promise<Outcome> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const said = `${this.#stdout}${this.#stderr}`;
        reject(new Error(`chunkvol ${this.words.join(' ')} does not end: ${said}`));
      }, timeoutMs);
    });
    try {
      return await Promise.race([this.outcome, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A `chunkvol serve` that is ready. */
export class ServedVolume {
  private constructor(
    readonly running: Running,
    readonly socket: string,
    /** From the start of the process to the line "ready". */
    readonly readyMs: number,
  ) {}

  /** Waits for it; null when it ends before it is ready. */
  static async ready(running: Running, socket: string): Promise<ServedVolume | null> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!/^ready \S+$/m.test(running.stdout)) {
      if (running.isOver) return null;
      if (performance.now() > deadline) throw new Error('serve neither gets ready nor ends');
      await delay(5);
    }
    return new ServedVolume(running, socket, performance.now() - running.startedMs);
  }

  connect(): Promise<NbdClient> {
    return NbdClient.connect({ kind: 'unix', path: this.socket });
  }

  kill(): Promise<void> {
    return this.running.kill();
  }

  /** As a user stops it: SIGTERM, which makes everything durable. */
  async stop(): Promise<Outcome> {
    this.running.signal('SIGTERM');
    return this.running.ended();
  }
}

export class Sandbox {
  readonly folder: string = fs.realpathSync(
    fs.mkdtempSync(path.join(os.tmpdir(), 'chunkvol-e2e-')),
  );
  readonly keyFile: string = path.join(this.folder, 'key');
  readonly environment: NodeJS.ProcessEnv;
  readonly #running = new Set<Running>();
  #socketCount = 0;

  constructor() {
    fs.writeFileSync(this.keyFile, Buffer.alloc(32, 7), { mode: 0o600 });
    const runtime = path.join(this.folder, 'run');
    fs.mkdirSync(runtime, { mode: 0o700 });
    this.environment = {
      ...process.env,
      XDG_RUNTIME_DIR: runtime,
      XDG_STATE_HOME: path.join(this.folder, 'state'),
      RCLONE_CONFIG: path.join(this.folder, 'rclone.conf'),
      // The least that is allowed: what is tested is not how long a passphrase withstands guessing.
      CHUNKVOL_KDF_MEMORY: '8M',
    };
    fs.writeFileSync(path.join(this.folder, 'rclone.conf'), '');
    delete this.environment['AWS_CA_BUNDLE'];
    delete this.environment['CHUNKVOL_VOLUME'];
    delete this.environment['CHUNKVOL_PASSPHRASE'];
  }

  path(...names: string[]): string {
    return path.join(this.folder, ...names);
  }

  /** Starts `chunkvol` with these words. */
  start(words: readonly string[], options: RunOptions = {}): Running {
    const child = spawn(process.execPath, [PROGRAM, ...words], {
      detached: true,
      cwd: options.cwd ?? this.folder,
      env: { ...this.environment, ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const running = new Running(child, words);
    this.#running.add(running);
    return running;
  }

  /** Runs `chunkvol` with these words to its end. */
  async run(words: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    return this.start(words, options).ended();
  }

  /** Runs it and requires status 0. */
  async succeed(words: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const outcome = await this.run(words, options);
    expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
    return outcome;
  }

  /** The words of a command on a volume, opened with the sandbox's key file. */
  on(volume: string, verb: string, ...words: string[]): string[] {
    return ['-C', volume, verb, '--key-file', this.keyFile, ...words];
  }

  /** A new volume, of 1 MiB chunk files unless told, that the sandbox's key file opens. */
  async create(volume: string, ...words: string[]): Promise<string> {
    const size = words.includes('--size') ? [] : ['--size', '256M'];
    const chunk = words.includes('--chunk-size') ? [] : ['--chunk-size', '1M'];
    await this.succeed([...this.on(volume, 'create', ...size, ...chunk, ...words)]);
    return volume;
  }

  /** Starts `chunkvol serve`, without waiting for anything. */
  startServer(
    volume: string,
    words: readonly string[] = [],
    options: RunOptions = {},
  ): { running: Running; socket: string } {
    const socket = this.path(`nbd-${++this.#socketCount}`);
    const running = this.start(this.on(volume, 'serve', '--socket', socket, ...words), options);
    return { running, socket };
  }

  /** Starts `chunkvol serve` and waits until it is ready, or has failed. */
  async tryServe(volume: string, ...words: string[]): Promise<ServedVolume | Outcome> {
    const { running, socket } = this.startServer(volume, words);
    return (await ServedVolume.ready(running, socket)) ?? running.ended();
  }

  /** Starts `chunkvol serve` and requires it to get ready. */
  async serve(volume: string, ...words: string[]): Promise<ServedVolume> {
    const served = await this.tryServe(volume, ...words);
    if (served instanceof ServedVolume) return served;
    throw new Error(`serve ended with status ${served.status}: ${served.stderr}`);
  }

  /** Starts `chunkvol serve` and requires it to fail. */
  async serveFailing(volume: string, ...words: string[]): Promise<Outcome> {
    const served = await this.tryServe(volume, ...words);
    if (!(served instanceof ServedVolume)) return served;
    await served.kill();
    throw new Error(`serve ${words.join(' ')} got ready, which it must not`);
  }

  /** Serves the volume for as long as `work` takes, with one client connected. */
  async withServer<T>(
    volume: string,
    work: (client: NbdClient, server: ServedVolume) => Promise<T>,
    ...words: string[]
  ): Promise<T> {
    const server = await this.serve(volume, ...words);
    const client = await server.connect();
    const result = await work(client, server);
    await client.disconnect();
    expect((await server.stop()).status, 'status of serve').toBe(0);
    return result;
  }

  /** Ends what still runs and removes the folder. Never throws. */
  async release(): Promise<void> {
    for (const running of this.#running) {
      // Tools of a killed command may outlive it in its group.
      signalGroup(running.child.pid!, 'SIGKILL');
      await running.outcome;
    }
    fs.rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // The group is gone already.
  }
}

/**
 * Requires a failure as docs/cli.md promises it: this status, and on standard error `chunkvol: ` and
 * one line that says what `message` looks for. Remarks on the way to it are lines of the same form.
 */
export function expectFailure(
  outcome: Outcome,
  status: number,
  message: RegExp,
  options: { readonly remarks?: boolean } = {},
): void {
  const told = `chunkvol ${outcome.words.join(' ')} said: ${outcome.stderr}`;
  expect(outcome.status, told).toBe(status);
  const lines = outcome.stderr.trimEnd().split('\n');
  for (const line of lines) expect(line, told).toMatch(/^chunkvol: \S/);
  expect(lines.at(-1), told).toMatch(message);
  expect(outcome.stderr, told).not.toMatch(/unexpected failure/);
  if (options.remarks !== true) expect(lines, told).toHaveLength(1);
}

/** What a folder holds, by path: size and digest of each file. Not the lock, which each opening takes. */
export function fingerprint(folder: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const name = path.relative(folder, file);
    if (!entry.isFile() || name === path.join('local', 'lock')) continue;
    const digest = createHash('sha256').update(fs.readFileSync(file)).digest('hex');
    found.set(name, `${fs.statSync(file).size} ${digest}`);
  }
  return found;
}

/** The names in a folder of the volume, sorted; those that end in `suffix`, or have none. */
export function filesIn(volume: string, folder: string, suffix = ''): string[] {
  const names = fs.readdirSync(path.join(volume, folder)).sort();
  return names.filter((name) =>
    suffix === '' ? /^[0-9a-f]{32}$/.test(name) : name.endsWith(suffix),
  );
}

export function delay(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}
