/**
 * Buffers for the payloads of requests, lent and taken back, so that a steady load allocates nothing.
 *
 * Sizes are powers of two from 4 KiB to the largest payload. Every buffer has room for a reply's
 * header before its data, so that a read is answered with one piece of memory; the data begin at
 * `DATA_AT`, a multiple of 64. What is kept for reuse is bounded; the rest goes to the collector.
 *
 * Large buffers that are kept are memory that other threads can work on. The collector does not count
 * such memory: it is left to it only where a connection breaks off.
 */
import { MAX_PAYLOAD_BYTES } from './protocol.js';

/** Where the data begin in a lent buffer. */
export const DATA_AT = 64;

const SMALLEST_SHIFT = 12;
const SMALLEST_BYTES: number = 2 ** SMALLEST_SHIFT;
const LARGEST_SHIFT: number = Math.log2(MAX_PAYLOAD_BYTES);
/** From this size on buffers are large. */
const LARGE_SHIFT = 16;
/** Kept for reuse, all sizes together. */
const KEPT_SMALL_BYTES: number = 8 * 1024 * 1024;
const KEPT_LARGE_BYTES: number = 24 * 1024 * 1024;

export class BufferPool {
  readonly #free: Buffer[][] = [];
  #keptSmallBytes = 0;
  /** Lent or kept. */
  #sharedBytes = 0;

  constructor() {
    for (let shift = SMALLEST_SHIFT; shift <= LARGEST_SHIFT; shift++) this.#free.push([]);
  }

  /** A buffer of `DATA_AT` bytes and at least `dataBytes` more; its contents are left from earlier use. */
  take(dataBytes: number): Buffer {
    const shift = sizeShift(dataBytes);
    const kept = this.#free[shift - SMALLEST_SHIFT]?.pop();
    if (kept === undefined) return this.#allocate(shift);
    if (shift < LARGE_SHIFT) this.#keptSmallBytes -= kept.length;
    return kept;
  }

  /** Takes back what `take` gave; nobody may use it any more. */
  giveBack(buffer: Buffer): void {
    const shift = sizeShift(buffer.length - DATA_AT);
    if (shift < LARGE_SHIFT) {
      if (this.#keptSmallBytes + buffer.length > KEPT_SMALL_BYTES) return;
      this.#keptSmallBytes += buffer.length;
    } else if (!(buffer.buffer instanceof SharedArrayBuffer)) {
      return;
    }
    this.#free[shift - SMALLEST_SHIFT]?.push(buffer);
  }

  /** What `take` gave will not come back: somebody may write to it still. */
  abandon(buffer: Buffer): void {
    if (buffer.buffer instanceof SharedArrayBuffer) this.#sharedBytes -= buffer.length;
  }

  #allocate(shift: number): Buffer {
    const bytes = DATA_AT + 2 ** shift;
    if (shift < LARGE_SHIFT || this.#sharedBytes + bytes > KEPT_LARGE_BYTES) {
      return Buffer.allocUnsafeSlow(bytes);
    }
    this.#sharedBytes += bytes;
    return Buffer.from(new SharedArrayBuffer(bytes));
  }
}

/** The memory that a payload of `dataBytes` holds on to, without the header's room. */
export function pooledBytes(dataBytes: number): number {
  return 1 << sizeShift(dataBytes);
}

function sizeShift(dataBytes: number): number {
  if (dataBytes > MAX_PAYLOAD_BYTES) {
    throw new RangeError(`a payload of ${dataBytes} bytes is too long`);
  }
  return dataBytes <= SMALLEST_BYTES ? SMALLEST_SHIFT : 32 - Math.clz32(dataBytes - 1);
}
