/** Keeping every file of a volume where it is, for as long as somebody needs. */
import { ChunkvolError, errorMessage } from '../base/errors.js';
import { systemLocks } from '../base/lock.js';
import { ControlClient } from './control-client.js';

export interface Hold {
  /** Why it ended before it was released, or null. */
  readonly lost: string | null;
  release(): Promise<void>;
}

/**
 * Returns when nothing is deleted any more: a process that serves the volume is told so, and where
 * there is none the lock on the folder keeps everybody from opening it.
 * Throws ChunkvolError('in-use') where a process has it open that does not serve.
 */
export async function holdFiles(folder: string): Promise<Hold> {
  const server = await ControlClient.find(folder);
  if (server) return ServerHold.take(server);
  const lock = await systemLocks.acquire(folder);
  return { lost: null, release: () => lock.release() };
}

/** Lasts as long as the call of the server's operation `hold`. */
class ServerHold implements Hold {
  lost: string | null = null;
  readonly #controller = new AbortController();
  #ended: Promise<void> = Promise.resolve();

  /** Throws what the server says in place of holding. */
  static async take(server: ControlClient): Promise<ServerHold> {
    const hold = new ServerHold();
    await new Promise<void>((resolve, reject) => {
      const { signal } = hold.#controller;
      const onPart = (): void => {
        resolve();
      };
      hold.#ended = server
        .call('hold', {}, { signal, onPart })
        .then(() => new ChunkvolError('closed', 'the server ended'), toError)
        .then((error) => {
          reject(error);
          if (!signal.aborted) hold.lost = errorMessage(error);
        });
    });
    return hold;
  }

  release(): Promise<void> {
    this.#controller.abort();
    return this.#ended;
  }
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
