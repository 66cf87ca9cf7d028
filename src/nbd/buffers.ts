/**
 * Buffers for the payloads of requests, lent and taken back, so that a steady load allocates nothing.
 *
 * Sizes are powers of two from 4 KiB to the largest payload. Every buffer has room for a reply's
 * header before its data, so that a read is answered with one piece of memory; the data begin at
 * `DATA_AT`, a multiple of 64. What is kept for reuse is bounded; the rest goes to the collector.
 */
import { MAX_PAYLOAD_BYTES } from './protocol.js';

/** Where the data begin in a lent buffer. */
export const DATA_AT = 64;

const SMALLEST_SHIFT = 12;
const SMALLEST_BYTES: number = 2 ** SMALLEST_SHIFT;
const LARGEST_SHIFT: number = Math.log2(MAX_PAYLOAD_BYTES);
/** Kept for reuse, all sizes together; the largest buffers are just over it and never kept. */
const KEPT_BYTES: number = 32 * 1024 * 1024;

export class BufferPool {
  readonly #free: Buffer[][] = [];
  #keptBytes = 0;

  constructor() {
    for (let shift = SMALLEST_SHIFT; shift <= LARGEST_SHIFT; shift++) this.#free.push([]);
  }

  /** A buffer of `DATA_AT` bytes and at least `dataBytes` more; its contents are left from earlier use. */
  take(dataBytes: number): Buffer {
    const shift = sizeShift(dataBytes);
    const kept = this.#free[shift - SMALLEST_SHIFT]?.pop();
    if (kept === undefined) return Buffer.allocUnsafeSlow(DATA_AT + 2 ** shift);
    this.#keptBytes -= kept.length;
    return kept;
  }

  /** Takes back what `take` gave; nobody may use it any more. */
  giveBack(buffer: Buffer): void {
    if (this.#keptBytes + buffer.length > KEPT_BYTES) return;
    this.#keptBytes += buffer.length;
    this.#free[sizeShift(buffer.length - DATA_AT) - SMALLEST_SHIFT]?.push(buffer);
  }
}

/** The memory that a payload of `dataBytes` holds on to, without the header's room. */
export function pooledBytes(dataBytes: number): number {
  return 2 ** sizeShift(dataBytes);
}

function sizeShift(dataBytes: number): number {
  if (dataBytes > MAX_PAYLOAD_BYTES) {
    throw new RangeError(`a payload of ${dataBytes} bytes is too long`);
  }
  return dataBytes <= SMALLEST_BYTES ? SMALLEST_SHIFT : 32 - Math.clz32(dataBytes - 1);
}
