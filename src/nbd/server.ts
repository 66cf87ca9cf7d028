/**
 * The NBD server: listens on Unix sockets or TCP ports and gives each client a connection.
 *
 * Connections share nothing but the devices and a pool of buffers, so none can stall another. Their
 * number is bounded; a client beyond the bound is turned away at once.
 */
import * as fs from 'node:fs';
import * as net from 'node:net';
import { systemClock } from '../base/clock.js';
import type { Clock } from '../base/clock.js';
import { ChunkvolError, errnoOf, errorMessage, fromSystem } from '../base/errors.js';
import { formatAddress } from './address.js';
import type { NbdAddress } from './address.js';
import { BufferPool } from './buffers.js';
import { Connection } from './connection.js';
import type { ExportDirectory } from './exports.js';
import { MemoryBudget } from './memory-budget.js';

const MAX_CONNECTIONS = 1024;
const HANDSHAKE_MS = 30_000;
/** The kernel asks a silent TCP client whether it is still there after this long. */
const KEEP_ALIVE_MS = 60_000;
/** What Linux leaves for a path in a socket's address; a longer one would be cut short silently. */
const MAX_SOCKET_PATH_BYTES = 107;

export interface NbdServerOptions extends ExportDirectory {
  /** Told one line about every request that failed and every failure to accept. */
  readonly onError?: (message: string) => void;
  readonly clock?: Clock;
  /** Connections at one time; 1,024 unless told. */
  readonly maxConnections?: number;
  /** How long a client may take to choose an export; 30 s unless told. */
  readonly handshakeMs?: number;
}

export class NbdServer {
  readonly #connections = new Set<Connection>();
  readonly #listeners = new Set<net.Server>();
  readonly #pool = new BufferPool();
  readonly #clock: Clock;
  readonly #budget: MemoryBudget;
  #closing: Promise<void> | null = null;
  #onLastOver: (() => void) | null = null;

  constructor(private readonly options: NbdServerOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#budget = new MemoryBudget(this.#clock);
  }

  /** Clients that are connected, or still have a request in a device. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /**
   * Accepts clients at `address`, and gives it back with the real port where 0 was asked for. A socket
   * file that nobody listens on any more is replaced.
   * Throws ChunkvolError: 'exists' (address taken), 'usage' (path too long), 'closed', 'io'.
   */
  async listen(address: NbdAddress): Promise<NbdAddress> {
    if (this.#closing !== null) throw new ChunkvolError('closed', 'the NBD server is closed');
    if (address.kind === 'unix') await prepareSocketPath(address.path);
    const listener = net.createServer(
      { allowHalfOpen: true, noDelay: true, pauseOnConnect: true },
      (socket) => {
        this.#accept(socket);
      },
    );
    await startListening(listener, address);
    listener.on('error', (error) => {
      this.options.onError?.(`cannot accept at ${formatAddress(address)}: ${errorMessage(error)}`);
    });
    this.#listeners.add(listener);
    const bound = listener.address();
    const tcp = address.kind === 'tcp' && bound !== null && typeof bound === 'object';
    return tcp ? { ...address, port: bound.port } : address;
  }

  /** Stops accepting, lets requests in flight finish and answers them, closes connections. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const listener of this.#listeners) listener.close();
    const allOver = new Promise<void>((resolve) => {
      this.#onLastOver = resolve;
    });
    for (const connection of [...this.#connections]) connection.shutDown();
    if (this.#connections.size > 0) await allOver;
  }

  #accept(socket: net.Socket): void {
    const limit = this.options.maxConnections ?? MAX_CONNECTIONS;
    if (this.#closing !== null || this.#connections.size >= limit) {
      socket.destroy();
      return;
    }
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const connection = new Connection(socket, {
      directory: this.options,
      pool: this.#pool,
      budget: this.#budget,
      clock: this.#clock,
      handshakeMs: this.options.handshakeMs ?? HANDSHAKE_MS,
      onError: (message) => this.options.onError?.(message),
      onOver: () => {
        this.#connections.delete(connection);
        if (this.#connections.size === 0) this.#onLastOver?.();
      },
    });
    this.#connections.add(connection);
  }
}

function startListening(listener: net.Server, address: NbdAddress): Promise<void> {
  const where =
    address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
  return new Promise((resolve, reject) => {
    listener.once('error', (error) => {
      reject(listenError(error, address));
    });
    listener.listen(where, () => {
      listener.removeAllListeners('error');
      resolve();
    });
  });
}

function listenError(error: unknown, address: NbdAddress): ChunkvolError {
  const place = formatAddress(address);
  if (errnoOf(error) !== 'EADDRINUSE') return fromSystem(error, 'listen at', place);
  const message = `cannot listen at ${place}: something is there already; choose another`;
  return new ChunkvolError('exists', message, { cause: error });
}

/** Removes the socket file that a killed server left behind; anything else is left for `listen` to refuse. */
async function prepareSocketPath(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    const limit = `at most ${MAX_SOCKET_PATH_BYTES} bytes; choose a shorter one`;
    throw new ChunkvolError('usage', `the socket path ${path} is too long: ${limit}`);
  }
  const isSocket = fs.statSync(path, { throwIfNoEntry: false })?.isSocket() ?? false;
  if (isSocket && !(await someoneListens(path))) fs.rmSync(path, { force: true });
}

function someoneListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error) => {
      resolve(errnoOf(error) !== 'ECONNREFUSED');
    });
  });
}
