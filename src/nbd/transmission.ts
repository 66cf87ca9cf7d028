/**
 * The transmission phase of one connection: requests in, replies out, in whatever order the device
 * finishes them.
 *
 * Memory is bounded whatever a client sends: a request is admitted only while fewer than MAX_REQUESTS
 * are in flight, their buffers come to at most MAX_BUFFER_BYTES, and the server has memory left for
 * them (memory-budget.ts); it is in flight until the kernel has taken its reply. Until there is room for the next one nothing more is read from the
 * socket. So a client that never reads its replies stops only itself.
 *
 * A request that is refused has its payload skipped and is answered: the stream stays in step. A wrong
 * magic means that it is not, and ends the connection.
 */
import { errorMessage } from '../base/errors.js';
import { DATA_AT, pooledBytes } from './buffers.js';
import type { BufferPool } from './buffers.js';
import { nbdErrno } from './errno.js';
import type { Session } from './exports.js';
import type { Intake } from './intake.js';
import type { Account } from './memory-budget.js';
import type { Outbox } from './outbox.js';
import * as protocol from './protocol.js';
import { ChunkType, Command, Errno } from './protocol.js';
import type { Request } from './protocol.js';
import { MAX_STATUS_EXTENTS, checkRequest, perform, performNow, queryStatus } from './requests.js';

/** Requests of one connection between their header's arrival and their reply's departure. */
const MAX_REQUESTS = 256;
/** Their buffers together; a request of the largest payload fits alone. */
const MAX_BUFFER_BYTES: number = protocol.MAX_PAYLOAD_BYTES;

const NO_BYTES = Buffer.alloc(0);

/** An admitted request and the memory it holds. */
export interface InFlight {
  readonly request: Request;
  readonly bufferBytes: number;
  buffer: Buffer | null;
  /** What is read into or written from: a part of the buffer. */
  data: Buffer;
}

export interface TransmissionLink {
  readonly intake: Intake;
  readonly outbox: Outbox<InFlight>;
  readonly pool: BufferPool;
  readonly account: Account;
  /** The client broke the protocol: ends the connection at once. */
  abort(): void;
  /** No request is in flight any more, and none will come. */
  onIdle(): void;
  onError(message: string): void;
}

export class Transmission {
  readonly #header: Buffer = Buffer.alloc(protocol.REQUEST_BYTES);
  #requestCount = 0;
  #bufferBytes = 0;
  /** A decoded request that waits for room. */
  #waiting: Request | null = null;
  /** The write whose payload is arriving, to be kept or to be skipped. */
  #arriving: InFlight | null = null;
  #finishing = false;
  #inDeviceCount = 0;

  constructor(
    private readonly link: TransmissionLink,
    private readonly session: Session,
  ) {}

  start(): void {
    this.link.intake.fill(this.#header, this.#onHeader);
  }

  /** Takes no further request; calls the link's `onIdle` when those in flight have been answered. */
  finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    this.#waiting = null;
    this.link.intake.stop();
    this.link.account.stopWaiting();
    if (this.#arriving !== null) {
      // The socket may still read into its buffer: nobody else may have it.
      if (this.#arriving.buffer !== null) this.link.pool.abandon(this.#arriving.buffer);
      this.#arriving.buffer = null;
      this.#release(this.#arriving);
    }
    if (this.#requestCount === 0) this.link.onIdle();
  }

  /** The device has not finished everything yet; otherwise what is still in flight waits for the client. */
  get waitsForDevice(): boolean {
    return this.#inDeviceCount > 0;
  }

  /** A batch of replies has left. */
  onSent(sent: readonly InFlight[]): void {
    this.link.account.moved();
    for (const inFlight of sent) this.#release(inFlight);
    if (this.#finishing) {
      if (this.#requestCount === 0) this.link.onIdle();
    } else if (this.#waiting !== null) {
      this.#admitIfRoom(this.#waiting);
    }
  }

  readonly #onHeader = (): void => {
    const request = protocol.decodeRequest(this.#header);
    if (request === null) this.link.abort();
    else if (request.command === Command.disconnect) this.finish();
    else this.#admitIfRoom(request);
  };

  #admitIfRoom(request: Request): void {
    const errno = checkRequest(request, this.session);
    const bufferBytes = errno === Errno.none ? bufferBytesOf(request) : 0;
    const room =
      this.#requestCount < MAX_REQUESTS &&
      this.#bufferBytes + bufferBytes <= MAX_BUFFER_BYTES &&
      this.link.account.take(bufferBytes, this.#retry);
    this.#waiting = room ? null : request;
    if (!room) return;
    this.#requestCount += 1;
    this.#bufferBytes += bufferBytes;
    const inFlight: InFlight = { request, bufferBytes, buffer: null, data: NO_BYTES };
    if (errno === Errno.none) this.#admit(inFlight);
    else this.#refuse(inFlight, errno);
  }

  /** The server has memory again. */
  readonly #retry = (): void => {
    if (this.#waiting !== null) this.#admitIfRoom(this.#waiting);
  };

  #admit(inFlight: InFlight): void {
    const { request } = inFlight;
    if (request.command === Command.read || request.command === Command.write) {
      inFlight.buffer = this.link.pool.take(request.bytes);
      inFlight.data = inFlight.buffer.subarray(DATA_AT, DATA_AT + request.bytes);
    }
    if (request.command === Command.write) {
      this.#arriving = inFlight;
      this.link.intake.fill(inFlight.data, this.#onPayload);
    } else {
      this.#execute(inFlight);
      this.start();
    }
  }

  readonly #onPayload = (): void => {
    const inFlight = this.#arriving!;
    this.#arriving = null;
    this.#execute(inFlight);
    this.start();
  };

  /** A refused write is answered after its payload: clients expect no reply to what they still send. */
  #refuse(inFlight: InFlight, errno: number): void {
    const payloadBytes = inFlight.request.command === Command.write ? inFlight.request.bytes : 0;
    this.#arriving = inFlight;
    this.link.intake.skip(payloadBytes, () => {
      this.#arriving = null;
      this.#answerError(inFlight, errno);
      this.start();
    });
  }

  #execute(inFlight: InFlight): void {
    try {
      const isDone = performNow(inFlight.request, this.session.device, inFlight.data);
      if (isDone) this.#answer(inFlight);
      else void this.#executeWithWait(inFlight);
    } catch (error) {
      this.#answerFailure(inFlight, error);
    }
  }

  async #executeWithWait(inFlight: InFlight): Promise<void> {
    const { request } = inFlight;
    this.#inDeviceCount += 1;
    try {
      if (request.command === Command.blockStatus) {
        const extents = await queryStatus(request, this.session.device);
        const id = protocol.ALLOCATION_CONTEXT_ID;
        this.link.outbox.send(protocol.encodeStatusChunk(request, id, extents), inFlight);
      } else {
        await perform(request, this.session.device, inFlight.data);
        this.#answer(inFlight);
      }
    } catch (error) {
      this.#answerFailure(inFlight, error);
    } finally {
      this.#inDeviceCount -= 1;
      // A device that takes its time takes it from nobody's client.
      this.link.account.moved();
    }
  }

  #answerFailure(inFlight: InFlight, error: unknown): void {
    this.link.onError(`an NBD request failed: ${errorMessage(error)}`);
    this.#answerError(inFlight, nbdErrno(error));
  }

  #answer(inFlight: InFlight): void {
    if (inFlight.request.command === Command.read) this.#answerRead(inFlight);
    else this.#answerSimple(inFlight, Errno.none);
  }

  /** Header and data leave as one piece: the buffer keeps room for the header before the data. */
  #answerRead(inFlight: InFlight): void {
    const { request } = inFlight;
    if (request.bytes === 0) {
      this.#answerEmptyRead(inFlight);
      return;
    }
    const buffer = inFlight.buffer!;
    const headerBytes = this.session.structuredReplies
      ? protocol.CHUNK_HEADER_BYTES + protocol.DATA_CHUNK_PREFIX_BYTES
      : protocol.SIMPLE_REPLY_BYTES;
    const at = DATA_AT - headerBytes;
    if (this.session.structuredReplies) {
      protocol.encodeDataChunk(buffer, at, request, request.offset, request.bytes);
    } else {
      protocol.encodeSimpleReply(buffer, at, request, Errno.none);
    }
    this.link.outbox.send(buffer.subarray(at, DATA_AT + request.bytes), inFlight);
  }

  /** A data chunk must describe at least one byte, so that a reply of none is a NONE chunk. */
  #answerEmptyRead(inFlight: InFlight): void {
    if (!this.session.structuredReplies) {
      this.#answerSimple(inFlight, Errno.none);
      return;
    }
    const at = this.link.outbox.reserve(protocol.CHUNK_HEADER_BYTES, inFlight);
    protocol.encodeLastChunk(this.link.outbox.strip, at, inFlight.request, ChunkType.none, 0);
  }

  #answerSimple(inFlight: InFlight, errno: number): void {
    const at = this.link.outbox.reserve(protocol.SIMPLE_REPLY_BYTES, inFlight);
    protocol.encodeSimpleReply(this.link.outbox.strip, at, inFlight.request, errno);
  }

  /** Where data could have come as chunks, an error must come as one too. */
  #answerError(inFlight: InFlight, errno: number): void {
    const { request } = inFlight;
    const asChunk = request.command === Command.read || request.command === Command.blockStatus;
    if (!this.session.structuredReplies || !asChunk) {
      this.#answerSimple(inFlight, errno);
      return;
    }
    const bytes = protocol.CHUNK_HEADER_BYTES + protocol.ERROR_CHUNK_BYTES;
    const at = this.link.outbox.reserve(bytes, inFlight);
    protocol.encodeErrorChunk(this.link.outbox.strip, at, request, errno);
  }

  #release(inFlight: InFlight): void {
    this.#requestCount -= 1;
    this.#bufferBytes -= inFlight.bufferBytes;
    this.link.account.give(inFlight.bufferBytes);
    if (inFlight.buffer !== null) this.link.pool.giveBack(inFlight.buffer);
  }
}

/** The memory that a checked request holds while it is in flight. */
function bufferBytesOf(request: Request): number {
  switch (request.command) {
    case Command.read:
    case Command.write:
      return pooledBytes(request.bytes);
    case Command.blockStatus:
      return MAX_STATUS_EXTENTS * protocol.STATUS_EXTENT_BYTES;
    default:
      return 0;
  }
}
