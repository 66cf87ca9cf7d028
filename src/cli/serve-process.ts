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
import { nbdUri, type NbdAddress } from '../nbd/address.js';
import { NbdServer } from '../nbd/server.js';
import { Attachments } from './attachments.js';
import type { Attachment, Target } from './attachment.js';
import { ControlServer, type Operation, type OperationContext } from './control-server.js';
import { operationsOf } from './operations.js';
import { ServedExports } from './served-exports.js';
import { openSession, type Session, type SessionOptions } from './session.js';
import { onStopSignal } from './signals.js';

export interface ServeOptions extends SessionOptions {
  readonly address: NbdAddress;
  readonly controlPath: string;
  /** Ends with the last thing that is attached. */
  readonly background: boolean;
  readonly onNotice: (line: string) => void;
  /** Told once clients are accepted. */
  readonly onReady: (uri: string) => void;
}

/** What the operation `attached` tells of a server. */
export interface ServerFacts {
  readonly pid: number;
  readonly uri: string;
  readonly address: NbdAddress;
  readonly folder: string;
  readonly readOnly: boolean;
  /** Ends with the last thing that is attached. */
  readonly background: boolean;
  readonly attachments: readonly Attachment[];
}

interface StopArguments {
  /** Where nothing is attached any more; null: end whatever else is attached. */
  readonly targets: readonly string[] | null;
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
  #address: NbdAddress;
  readonly #attachments: Attachments;
  readonly #exports: ServedExports;
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
    this.#address = options.address;
    this.#attachments = new Attachments(session.volume, () => this.#exports.users(null));
    this.#exports = new ServedExports(session.volume, this.#attachments.all);
    const { find, list } = this.#exports;
    this.#nbd = new NbdServer({ find, list, onError: options.onNotice });
  }

  async start(): Promise<void> {
    this.#address = await this.#nbd.listen(this.options.address);
    this.#control = await ControlServer.start(this.options.controlPath, this.#operations());
    onStopSignal(() => {
      this.#onStopped();
    });
    this.options.onReady(nbdUri(this.#address));
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

  #operations(): Record<string, Operation> {
    const { session } = this;
    const host = {
      ...session,
      server: { pid: process.pid, uri: nbdUri(this.#address) },
      attachments: this.#attachments.all,
      served: this.#exports,
    };
    return {
      ...operationsOf(host),
      attached: () => Promise.resolve(this.#facts()),
      register: (args) => this.#attachments.add(args as Attachment),
      unregister: (args) => {
        this.#attachments.remove((args as Pick<Target, 'target'>).target);
        return Promise.resolve();
      },
      stop: (args, context) => this.#stop(args as StopArguments, context),
    };
  }

  #facts(): ServerFacts {
    const { folder, volume } = this.session;
    return {
      pid: process.pid,
      uri: nbdUri(this.#address),
      address: this.#address,
      folder,
      readOnly: volume.readOnly,
      background: this.options.background,
      attachments: this.#attachments.all,
    };
  }

  /** Whether it ends; while more is attached than what `targets` names, it goes on without that. */
  async #stop({ targets }: StopArguments, { signal }: OperationContext): Promise<boolean> {
    const isLast = this.#attachments.all.every(({ target }) => targets?.includes(target) ?? true);
    if (!isLast) {
      for (const target of targets ?? []) this.#attachments.remove(target);
      return false;
    }
    await this.session.volume.flush();
    try {
      await this.shutDown(signal);
      return true;
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
