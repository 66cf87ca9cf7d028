/**
 * One client's socket: feeds what arrives to the handshake and then to the transmission phase, and
 * decides when the connection ends.
 *
 * Input flows only while somebody asks for it (see intake.ts). The connection is over when its socket
 * is closed *and* no request of it is in the device any more: until then it counts, so that a client
 * that reconnects in a loop gains nothing.
 */
import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.js';
import type { BufferPool } from './buffers.js';
import type { ExportDirectory, OpenDisk } from './exports.js';
import { Handshake } from './handshake.js';
import { Intake } from './intake.js';
import type { Account, MemoryBudget } from './memory-budget.js';
import { Outbox } from './outbox.js';
import { receive } from './receive.js';
import { Transmission } from './transmission.js';
import type { InFlight } from './transmission.js';

/** How long a client that has been told goodbye may take to read what is still to be sent. */
const LINGER_MS = 5_000;

export interface ConnectionOptions {
  readonly directory: ExportDirectory;
  readonly pool: BufferPool;
  readonly budget: MemoryBudget;
  readonly clock: Clock;
  readonly handshakeMs: number;
  readonly onError: (message: string) => void;
  readonly onOver: () => void;
}

export class Connection {
  private readonly socket: Socket;
  readonly #intake: Intake;
  readonly #outbox: Outbox<InFlight>;
  readonly #account: Account;
  #transmission: Transmission | null = null;
  #disk: OpenDisk | null = null;
  #cancelTimer: () => void;
  #requestsDone = false;
  #socketClosed = false;

  constructor(
    /** Nothing has been read from it. */
    accepted: Socket,
    private readonly options: ConnectionOptions,
  ) {
    this.#intake = new Intake(() => {
      if (socket.isPaused()) socket.resume();
    });
    const socket = receive(accepted, this.#intake, () => {
      this.#account.moved();
    });
    this.socket = socket;
    this.#outbox = new Outbox(socket, (sent) => {
      this.#transmission?.onSent(sent);
    });
    this.#account = options.budget.open(
      () => this.#transmission?.waitsForDevice !== true,
      () => {
        socket.destroy();
      },
    );
    this.#cancelTimer = options.clock.after(options.handshakeMs, () => {
      socket.destroy();
    });
    this.#listen();
    this.#handshake();
  }

  /** Takes no further request, answers those in flight, closes; who does not read is cut off in the end. */
  shutDown(): void {
    this.#finish();
    this.#cancelTimer();
    this.#linger();
  }

  /** The client's time begins when the device has done its part. */
  #linger(): void {
    this.#cancelTimer = this.options.clock.after(LINGER_MS, () => {
      if (this.#transmission?.waitsForDevice === true) this.#linger();
      else this.socket.destroy();
    });
  }

  #listen(): void {
    const { socket } = this;
    socket.on('end', () => {
      this.#finish();
    });
    // A client that goes away in the middle is no event worth a message; 'close' follows.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#socketClosed = true;
      this.#cancelTimer();
      this.#account.close();
      this.#finish();
      this.#endIfOver();
    });
  }

  #handshake(): void {
    const link = {
      intake: this.#intake,
      send: (bytes: Uint8Array): void => {
        this.#outbox.send(bytes);
      },
      whenSent: (then: () => void): void => {
        this.#outbox.whenEmpty(then);
      },
      close: (): void => {
        this.#finish();
      },
    };
    const handshake = new Handshake(link, this.options.directory, (session, disk) => {
      this.#cancelTimer();
      this.#disk = disk;
      this.#transmission = new Transmission(
        {
          intake: this.#intake,
          outbox: this.#outbox,
          pool: this.options.pool,
          account: this.#account,
          abort: () => {
            this.socket.destroy();
          },
          onIdle: () => {
            this.#onRequestsDone();
          },
          onError: this.options.onError,
        },
        session,
      );
      this.#transmission.start();
    });
    handshake.start();
  }

  #finish(): void {
    if (this.#transmission !== null) {
      this.#transmission.finish();
    } else {
      this.#intake.stop();
      this.#onRequestsDone();
    }
  }

  #onRequestsDone(): void {
    if (this.#requestsDone) return;
    this.#requestsDone = true;
    this.#outbox.whenEmpty(() => {
      this.socket.end(() => {
        this.socket.destroy();
      });
    });
    this.#endIfOver();
  }

  #endIfOver(): void {
    if (!this.#requestsDone || !this.#socketClosed) return;
    this.#disk?.close();
    this.#disk = null;
    this.options.onOver();
  }
}
