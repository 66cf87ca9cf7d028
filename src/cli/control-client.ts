/** The other side of control-server.ts: asks the process that serves a volume to do something. */
import * as net from 'node:net';
import { ChunkvolError, errnoOf, fromSystem } from '../base/errors.js';
import {
  CONTROL_PROTOCOL,
  decodeError,
  decodeReply,
  encodeLine,
  readLines,
} from './control-protocol.js';
import type { Progress } from './control-protocol.js';
import { allControlSockets, possibleControlSockets } from './runtime-folder.js';

export interface CallOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Gets the pieces of a long result, in order. */
  readonly onPart?: ((part: unknown) => void) | undefined;
  /** Aborting leaves the connection, which makes the server abort the operation. */
  readonly signal?: AbortSignal | undefined;
}

/** A running server. Each call is a connection of its own. */
export class ControlClient {
  private constructor(readonly path: string) {}

  /** The server of the volume in `folder`; null when none runs (or none of this user). */
  static async find(folder: string): Promise<ControlClient | null> {
    return (await answering(possibleControlSockets(folder)))[0] ?? null;
  }

  /** All servers of this user. */
  static async all(): Promise<ControlClient[]> {
    return answering(allControlSockets());
  }

  static at(path: string): ControlClient {
    return new ControlClient(path);
  }

  /** The operation's result. Throws the server's error; 'closed' when the server died meanwhile. */
  call(operation: string, args: object = {}, options: CallOptions = {}): Promise<unknown> {
    const { signal, onProgress, onPart } = options;
    const socket = net.connect({ path: this.path });
    return new Promise<unknown>((resolve, reject) => {
      const onAbort = (): void => {
        reject(new ChunkvolError('interrupted', `${operation} was interrupted`));
        socket.destroy();
      };
      if (signal?.aborted) {
        onAbort();
        return;
      }
      signal?.addEventListener('abort', onAbort, { once: true });
      socket.on('error', (error) => {
        reject(fromSystem(error, 'reach the server at', this.path));
      });
      socket.on('close', () => {
        signal?.removeEventListener('abort', onAbort);
        reject(new ChunkvolError('closed', `the server ended before ${operation} was done`));
      });
      readLines(socket, (line) => {
        const reply = decodeReply(line);
        if (reply === null) return;
        if ('progress' in reply) onProgress?.(reply.progress);
        else if ('part' in reply) onPart?.(reply.part);
        else if ('result' in reply) resolve(reply.result);
        else reject(decodeError(reply.error));
      });
      socket.write(encodeLine({ protocol: CONTROL_PROTOCOL, operation, arguments: args }));
    });
  }

  /** Whether someone listens. */
  async answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const probe = net.connect({ path: this.path });
      probe.once('connect', () => {
        probe.destroy();
        resolve(true);
      });
      probe.once('error', (error) => {
        // A server too busy to accept is there all the same.
        resolve(errnoOf(error) === 'EAGAIN');
      });
    });
  }
}

async function answering(paths: readonly string[]): Promise<ControlClient[]> {
  const found: ControlClient[] = [];
  for (const path of paths) {
    const client = ControlClient.at(path);
    if (await client.answers()) found.push(client);
  }
  return found;
}
