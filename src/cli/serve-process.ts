/**
 * A volume being served: the open volume, its NBD server and its control socket, from the first to the
 * last moment of the process.
 *
 * The end comes by a signal or by the operation `stop`. Either way operations are aborted, requests in
 * flight are answered, and the volume is closed, which makes everything durable and seals it. `stop`
 * is refused while the volume cannot make everything durable, as the data would be lost with the
 * process.
 */
import { errorMessage } from '../base/errors.js';
import { NbdServer } from '../nbd/server.js';
import type { NbdExport } from '../nbd/exports.js';
import { nbdUri, type NbdAddress } from '../nbd/address.js';
import type { Attachment } from './attachment.js';
import { ControlServer, type Operation, type OperationContext } from './control-server.js';
import { operationsOf } from './operations.js';
import { openSession, type Session, type SessionOptions } from './session.js';
import { onStopSignal } from './signals.js';

export interface ServeOptions extends SessionOptions {
  readonly address: NbdAddress;
  readonly controlPath: string;
  readonly onNotice: (line: string) => void;
  /** Told once clients are accepted. */
  readonly onReady: (uri: string) => void;
}

/** What the operation `attached` tells of a server. */
export interface ServerFacts {
  readonly pid: number;
  readonly uri: string;
  readonly folder: string;
  readonly sizeBytes: number;
  readonly attachments: readonly Attachment[];
}

/** Serves until it is told to stop. Throws what opening, listening and closing throw. */
export async function serve(folder: string, options: ServeOptions): Promise<void> {
  // Sockets and files made from here on are this user's alone.
  process.umask(0o077);
  const session = await openSession(folder, options);
  const server = new ServeProcess(session, options);
  try {
    await server.start();
    await server.stopped;
  } finally {
    await server.shutDown();
  }
}

class ServeProcess {
  readonly stopped: Promise<void>;
  #onStopped!: () => void;
  #uri = '';
  readonly #attachments: Attachment[] = [];
  readonly #nbd: NbdServer;
  #control: ControlServer | null = null;
  #shutDown: Promise<void> | null = null;

  constructor(
    private readonly session: Session,
    private readonly options: ServeOptions,
  ) {
    this.stopped = new Promise((resolve) => {
      this.#onStopped = resolve;
    });
    const served = this.#export();
    this.#nbd = new NbdServer({
      find: (name) => (name === '' || name === served.name ? served : null),
      list: () => [served],
      onError: options.onNotice,
    });
  }

  async start(): Promise<void> {
    const address = await this.#nbd.listen(this.options.address);
    this.#uri = nbdUri(address);
    this.#control = await ControlServer.start(this.options.controlPath, this.#operations());
    onStopSignal(() => {
      this.#onStopped();
    });
    this.options.onReady(this.#uri);
  }

  /** Ends everything, once; throws when the volume could not be closed properly. */
  shutDown(except?: AbortSignal): Promise<void> {
    this.#shutDown ??= this.#end(except);
    return this.#shutDown;
  }

  async #end(except?: AbortSignal): Promise<void> {
    try {
      await this.#control?.abortOperations(except);
      await this.#nbd.close();
    } finally {
      await this.session.close().finally(() => {
        if (except === undefined) this.#control?.close();
      });
    }
  }

  #export(): NbdExport {
    const { volume } = this.session;
    return {
      name: volume.name,
      description: `chunkvol volume ${volume.name}`,
      facts: volume,
      open: () => ({ device: volume, close: () => undefined }),
    };
  }

  #operations(): Record<string, Operation> {
    const { session } = this;
    const host = {
      ...session,
      server: { pid: process.pid, uri: this.#uri },
      attachments: this.#attachments,
    };
    return {
      ...operationsOf(host),
      attached: (args) => Promise.resolve(this.#attached(args as { register?: Attachment })),
      stop: (_, context) => this.#stop(context),
    };
  }

  #attached({ register }: { register?: Attachment }): ServerFacts {
    if (register) this.#attachments.push(register);
    return {
      pid: process.pid,
      uri: this.#uri,
      folder: this.session.folder,
      sizeBytes: this.session.volume.sizeBytes,
      attachments: this.#attachments,
    };
  }

  async #stop({ signal }: OperationContext): Promise<void> {
    await this.session.volume.flush();
    try {
      await this.shutDown(signal);
    } catch (error) {
      this.options.onNotice(`cannot close the volume: ${errorMessage(error)}`);
      throw error;
    } finally {
      // The answer is on its way before the process can end by itself.
      setImmediate(() => this.#control?.close());
      this.#onStopped();
    }
  }
}
