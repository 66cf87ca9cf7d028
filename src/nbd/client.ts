/**
 * A small NBD client for tools, the demo and tests: one connection, any number of requests in flight.
 *
 * It checks nothing that the server checks: a request that is out of range or too long is sent, and
 * its refusal comes back as an NbdError. When the connection is lost, every request that has no
 * answer yet fails, and so does every later one.
 */
import * as net from 'node:net';
import type { Extent, WriteOptions } from '../base/block-device.js';
import { ChunkvolError, errorMessage } from '../base/errors.js';
import { formatAddress } from './address.js';
import type { NbdAddress } from './address.js';
import { NbdError } from './errno.js';
import { Intake } from './intake.js';
import { Negotiation } from './negotiate.js';
import type { Negotiated } from './negotiate.js';
import * as protocol from './protocol.js';
import {
  ChunkType,
  Command,
  CommandFlag,
  Errno,
  ExtentFlag,
  TransmissionFlag,
} from './protocol.js';

export interface NbdClientOptions {
  /** "" (the default export) unless told. */
  readonly exportName?: string;
  /** Asks for structured replies and base:allocation; true unless told. */
  readonly structuredReplies?: boolean;
}

export interface ZeroOptions extends WriteOptions {
  readonly noHole?: boolean;
  /** Fail rather than be slower than a write. */
  readonly fast?: boolean;
}

/** A request that was sent and has no final answer yet. */
interface Pending {
  readonly operation: string;
  /** Its replies, errors among them, must be chunks. */
  readonly chunked: boolean;
  readonly offset: number;
  /** Where a read's data go. */
  readonly into: Buffer;
  readonly onDone: (extents: Extent[]) => void;
  readonly onError: (error: ChunkvolError) => void;
  extents: Extent[];
  error: ChunkvolError | null;
  /** How much of `into` chunks have filled so far. */
  filledBytes: number;
}

interface Order {
  readonly operation: string;
  readonly command: number;
  readonly flags?: number;
  readonly offset: number;
  readonly bytes: number;
  readonly payload?: Uint8Array;
  readonly into?: Buffer;
}

const NO_BYTES = Buffer.alloc(0);
/** Commands whose replies are chunks once structured replies are agreed on. */
const CHUNKED_COMMANDS: ReadonlySet<number> = new Set([Command.read, Command.blockStatus]);

export class NbdClient {
  readonly #pending = new Map<number, Pending>();
  readonly #head: Buffer = Buffer.alloc(protocol.SIMPLE_REPLY_BYTES);
  #nextCookie = 1;
  #failure: ChunkvolError | null = null;

  private constructor(
    private readonly socket: net.Socket,
    private readonly intake: Intake,
    /** What server and client agreed on. */
    readonly negotiated: Negotiated,
  ) {
    this.#readHead();
  }

  /** Throws ChunkvolError 'io' when there is no server, or it does not offer the export. */
  static async connect(address: NbdAddress, options: NbdClientOptions = {}): Promise<NbdClient> {
    const { exportName = '', structuredReplies = true } = options;
    return handshake(address, async (negotiation, socket, intake) => {
      const negotiated = await negotiation.go(exportName, structuredReplies);
      const client = new NbdClient(socket, intake, negotiated);
      socket.on('close', () => {
        client.#fail(new ChunkvolError('io', 'the connection to the NBD server was lost'));
      });
      return client;
    });
  }

  /** The exports of the server at `address`. Throws as `connect` does. */
  static async list(address: NbdAddress): Promise<protocol.ListEntry[]> {
    return handshake(address, async (negotiation, socket) => {
      const entries = await negotiation.list();
      await negotiation.abort();
      socket.destroy();
      return entries;
    });
  }

  get sizeBytes(): number {
    return this.negotiated.sizeBytes;
  }

  get readOnly(): boolean {
    return (this.negotiated.transmissionFlags & TransmissionFlag.readOnly) !== 0;
  }

  /** The `bytes` bytes from `offset`. Like all requests, throws NbdError when the server refuses. */
  async read(
    offset: number,
    bytes: number,
    options: { readonly dontFragment?: boolean } = {},
  ): Promise<Buffer> {
    const into = Buffer.allocUnsafeSlow(bytes);
    const flags = options.dontFragment === true ? CommandFlag.dontFragment : 0;
    await this.#request({ operation: 'read', command: Command.read, flags, offset, bytes, into });
    return into;
  }

  /** `payload` must not change before the promise settles. */
  async write(offset: number, payload: Uint8Array, options?: WriteOptions): Promise<void> {
    const bytes = payload.length;
    const flags = fua(options);
    const command = Command.write;
    await this.#request({ operation: 'write', command, flags, offset, bytes, payload });
  }

  async flush(): Promise<void> {
    await this.#request({ operation: 'flush', command: Command.flush, offset: 0, bytes: 0 });
  }

  async trim(offset: number, bytes: number, options?: WriteOptions): Promise<void> {
    const flags = fua(options);
    await this.#request({ operation: 'trim', command: Command.trim, flags, offset, bytes });
  }

  async writeZeroes(offset: number, bytes: number, options: ZeroOptions = {}): Promise<void> {
    const flags =
      fua(options) |
      (options.noHole === true ? CommandFlag.noHole : 0) |
      (options.fast === true ? CommandFlag.fastZero : 0);
    const command = Command.writeZeroes;
    await this.#request({ operation: 'write zeroes', command, flags, offset, bytes });
  }

  async cache(offset: number, bytes: number): Promise<void> {
    await this.#request({ operation: 'cache', command: Command.cache, offset, bytes });
  }

  /** Extents from `offset` on, of at least one byte and perhaps fewer than `bytes` in all. */
  async blockStatus(
    offset: number,
    bytes: number,
    options: { readonly one?: boolean } = {},
  ): Promise<Extent[]> {
    const flags = options.one === true ? CommandFlag.requestOne : 0;
    const command = Command.blockStatus;
    return this.#request({ operation: 'query status', command, flags, offset, bytes });
  }

  /** Waits for what is in flight and takes leave of the server. */
  async disconnect(): Promise<void> {
    if (this.#failure !== null) return;
    const closed = new Promise<void>((resolve) => {
      this.socket.once('close', resolve);
    });
    this.#send({ operation: 'disconnect', command: Command.disconnect, offset: 0, bytes: 0 }, 0);
    await closed;
  }

  /** Drops the connection as it is. */
  destroy(): void {
    this.socket.destroy();
  }

  #request(order: Order): Promise<Extent[]> {
    const failure = this.#failure;
    if (failure !== null) return Promise.reject(failure);
    return new Promise((resolve, reject) => {
      const cookie = this.#nextCookie;
      this.#nextCookie = (cookie + 1) % 2 ** 32;
      this.#pending.set(cookie, {
        operation: order.operation,
        chunked: this.negotiated.structuredReplies && CHUNKED_COMMANDS.has(order.command),
        offset: order.offset,
        into: order.into ?? NO_BYTES,
        onDone: resolve,
        onError: reject,
        extents: [],
        error: null,
        filledBytes: 0,
      });
      this.#send(order, cookie);
    });
  }

  #send(order: Order, cookieLow: number): void {
    const header = Buffer.allocUnsafe(protocol.REQUEST_BYTES);
    const { command, flags = 0, offset, bytes, payload } = order;
    protocol.encodeRequest(header, 0, { command, flags, offset, bytes, cookieHigh: 0, cookieLow });
    this.socket.cork();
    this.socket.write(header);
    if (payload !== undefined && payload.length > 0) this.socket.write(payload);
    process.nextTick(() => {
      this.socket.uncork();
    });
  }

  #readHead(): void {
    this.intake.fill(this.#head, () => {
      const head = protocol.decodeReplyHead(this.#head);
      const pending = head === null ? undefined : this.#pending.get(head.cookieLow);
      if (head === null || pending === undefined) this.#outOfStep();
      else if ((head.kind === 'simple') === pending.chunked) this.#outOfStep();
      else if (head.kind === 'simple') this.#onSimple(head.cookieLow, pending, head.errno);
      else this.#onChunk(head, pending);
    });
  }

  #onSimple(cookie: number, pending: Pending, errno: number): void {
    if (errno !== Errno.none) pending.error = new NbdError(pending.operation, errno);
    const dataBytes = errno === Errno.none ? pending.into.length : 0;
    this.intake.fill(pending.into.subarray(0, dataBytes), () => {
      this.#settle(cookie, pending);
    });
  }

  #onChunk(head: Extract<protocol.ReplyHead, { kind: 'chunk' }>, pending: Pending): void {
    const length = Buffer.alloc(protocol.CHUNK_HEADER_BYTES - protocol.SIMPLE_REPLY_BYTES);
    this.intake.fill(length, () => {
      this.#onChunkPayload(head.type, length.readUInt32BE(0), pending, () => {
        if ((head.flags & protocol.CHUNK_DONE) === 0) this.#readHead();
        else if (isWhole(pending)) this.#settle(head.cookieLow, pending);
        else this.#outOfStep();
      });
    });
  }

  #onChunkPayload(type: number, bytes: number, pending: Pending, then: () => void): void {
    if (type === ChunkType.offsetData) {
      this.#onData(bytes - protocol.DATA_CHUNK_PREFIX_BYTES, pending, then);
      return;
    }
    if (bytes > protocol.MAX_PAYLOAD_BYTES) {
      this.#outOfStep();
      return;
    }
    const payload = Buffer.alloc(bytes);
    this.intake.fill(payload, () => {
      if (takePayload(type, payload, pending)) then();
      else this.#outOfStep();
    });
  }

  #onData(dataBytes: number, pending: Pending, then: () => void): void {
    const prefix = Buffer.alloc(protocol.DATA_CHUNK_PREFIX_BYTES);
    this.intake.fill(prefix, () => {
      const part = partOf(pending, protocol.readUint64(prefix, 0), dataBytes);
      if (part === null) this.#outOfStep();
      else this.intake.fill(part, then);
    });
  }

  #settle(cookie: number, pending: Pending): void {
    this.#pending.delete(cookie);
    if (pending.error === null) pending.onDone(pending.extents);
    else pending.onError(pending.error);
    this.#readHead();
  }

  #outOfStep(): void {
    this.#fail(new ChunkvolError('io', 'the NBD server does not keep to the protocol'));
    this.socket.destroy();
  }

  #fail(failure: ChunkvolError): void {
    this.#failure ??= failure;
    for (const pending of this.#pending.values()) pending.onError(this.#failure);
    this.#pending.clear();
  }
}

/** Takes in a chunk other than data; false when it makes no sense. */
function takePayload(type: number, payload: Buffer, pending: Pending): boolean {
  switch (type) {
    case ChunkType.none:
      return payload.length === 0;
    case ChunkType.offsetHole: {
      if (payload.length !== protocol.HOLE_CHUNK_BYTES) return false;
      const offset = protocol.readUint64(payload, 0);
      return partOf(pending, offset, payload.readUInt32BE(8))?.fill(0) !== undefined;
    }
    case ChunkType.blockStatus: {
      const extents = protocol.decodeStatusPayload(payload);
      if (extents === null) return false;
      pending.extents = extents.map(({ bytes, flags }) => ({
        bytes,
        hole: (flags & ExtentFlag.hole) !== 0,
      }));
      return true;
    }
    case ChunkType.error:
    case ChunkType.errorOffset:
      if (payload.length < protocol.ERROR_CHUNK_BYTES) return false;
      pending.error = new NbdError(pending.operation, payload.readUInt32BE(0));
      return true;
    default:
      return false;
  }
}

/** The part of a read's buffer for disk bytes from `offset`; null where that is outside of it. */
function partOf(pending: Pending, offset: number, bytes: number): Buffer | null {
  const at = offset - pending.offset;
  const inside = at >= 0 && bytes > 0 && at + bytes <= pending.into.length;
  if (!inside) return null;
  pending.filledBytes += bytes;
  return pending.into.subarray(at, at + bytes);
}

/** False when a read was said to be over, and not to have failed, before all its bytes had come. */
function isWhole(pending: Pending): boolean {
  return pending.error !== null || pending.filledBytes === pending.into.length;
}

function fua(options: WriteOptions | undefined): number {
  return options?.durable === true ? CommandFlag.fua : 0;
}

/** Connects, greets, and hands over to `use`; whatever fails on the way fails as one ChunkvolError. */
function handshake<T>(
  address: NbdAddress,
  use: (negotiation: Negotiation, socket: net.Socket, intake: Intake) => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const where =
      address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
    const socket = net.connect({ ...where, noDelay: true });
    const intake = new Intake(() => {
      if (socket.isPaused()) socket.resume();
    });
    const fail = (reason: string, cause?: unknown): void => {
      const message = `cannot use the NBD server at ${formatAddress(address)}: ${reason}`;
      reject(new ChunkvolError('io', message, { cause }));
    };
    socket.on('data', (chunk: Buffer) => {
      intake.push(chunk);
      if (intake.idle) socket.pause();
    });
    socket.on('error', (error) => {
      fail(errorMessage(error), error);
    });
    socket.on('close', () => {
      fail('it closed the connection');
    });
    const negotiation = new Negotiation(socket, intake);
    negotiation
      .greet()
      .then(() => use(negotiation, socket, intake))
      .then(resolve, (error: unknown) => {
        socket.destroy();
        fail(errorMessage(error), error);
      });
  });
}
