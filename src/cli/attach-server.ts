/**
 * The server behind `attach`: `chunkvol serve` as a process of its own, in a session of its own, that
 * outlives the command. The passphrase goes through a pipe: neither arguments nor environment, which
 * other programs can read, ever hold it (the program takes $CHUNKVOL_PASSPHRASE away at its start).
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Credential } from '../crypto/key-slot.js';
import { ChunkvolError, exitStatus } from '../base/errors.js';
import { ToldFailure } from './exit.js';

const READY = /^ready \S+$/m;
const STOP_TIMEOUT_MS = 120_000;
const PROGRAM = fileURLToPath(new URL('start.cjs', import.meta.url));

export interface ServerOptions {
  readonly socket: string;
  readonly readOnly: boolean;
  readonly acceptLoss: boolean;
}

export class BackgroundServer {
  private constructor(private readonly child: ChildProcess) {}

  /**
   * Returns when the server accepts clients. When it fails it has told the user why, and this throws
   * ToldFailure with its status; 'interrupted' when the signal says so, with the server gone.
   */
  static async start(
    folder: string,
    credential: Credential,
    options: ServerOptions,
    signal: AbortSignal,
  ): Promise<BackgroundServer> {
    const child = spawn(process.execPath, [PROGRAM, ...words(folder, credential, options)], {
      detached: true,
      // A process that stands in a folder keeps its file system from being unmounted.
      cwd: '/',
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stderr.on('data', (text: Buffer) => process.stderr.write(text));
    child.stdin.on('error', () => undefined).end(secretLine(credential));
    const server = new BackgroundServer(child);
    const onAbort = (): void => {
      child.kill('SIGTERM');
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await server.#ready(signal);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    return server;
  }

  /** Lets go of it: this process can end, the server stays. */
  release(): void {
    this.child.stdout?.destroy();
    this.child.stderr?.destroy();
    this.child.unref();
  }

  /** Ends it and waits until it is gone. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, 'exit');
    const force = setTimeout(() => this.child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    this.child.kill('SIGTERM');
    await gone;
    clearTimeout(force);
  }

  #ready(signal: AbortSignal): Promise<void> {
    const { child } = this;
    let said = '';
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.stdout!.on('data', (text: Buffer) => {
        said += text.toString();
        if (READY.test(said)) resolve();
      });
      child.once('close', (status, killedBy) => {
        if (signal.aborted) reject(new ChunkvolError('interrupted', 'attach was interrupted'));
        else if (killedBy === null) reject(new ToldFailure(status ?? exitStatus(null)));
        else reject(new ChunkvolError('internal', `the server was ended by ${killedBy}`));
      });
    });
  }
}

function words(folder: string, credential: Credential, options: ServerOptions): string[] {
  const key = credential.kind === 'passphrase' ? '--passphrase-file' : '--key-file';
  const flags = [
    ...(options.readOnly ? ['--read-only'] : []),
    ...(options.acceptLoss ? ['--accept-loss'] : []),
  ];
  return ['-C', folder, 'serve', '--background', '--socket', options.socket, key, '-', ...flags];
}

/** As `serve` reads it: of a passphrase it takes one line end away, and a CR before it. */
function secretLine(credential: Credential): Uint8Array {
  if (credential.kind === 'key-file') return credential.secret;
  return Buffer.concat([credential.passphrase, Buffer.from('\r\n')]);
}
