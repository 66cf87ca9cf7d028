/**
 * A disk in memory for tests: blocks that were never written, or were zeroed, are holes. Its size may
 * be anything, since only written blocks take memory. Every operation takes effect in one step after
 * `before` has let it pass, which is where a test delays it or makes it fail.
 */
import type { BlockDevice, Extent, WriteOptions } from '../../src/base/block-device.js';
import { ChunkvolError } from '../../src/base/errors.js';

export type DeviceOperation = 'read' | 'write' | 'zero' | 'trim' | 'flush' | 'extents';

export interface MemoryDeviceOptions {
  readonly blockBytes?: number;
  readonly readOnly?: boolean;
  /** Awaited before an operation takes effect; what it throws, the operation throws. */
  readonly before?: (operation: DeviceOperation, offset: number, bytes: number) => Promise<void>;
}

export class MemoryDevice implements BlockDevice {
  readonly blockBytes: number;
  readonly readOnly: boolean;
  /** How often each operation took effect, and how often it was asked to be durable. */
  readonly counts: Record<DeviceOperation | 'durable', number> = {
    read: 0,
    write: 0,
    zero: 0,
    trim: 0,
    flush: 0,
    extents: 0,
    durable: 0,
  };
  readonly #blocks = new Map<number, Uint8Array>();
  readonly #before: MemoryDeviceOptions['before'];

  constructor(
    public sizeBytes: number,
    options: MemoryDeviceOptions = {},
  ) {
    this.blockBytes = options.blockBytes ?? 4096;
    this.readOnly = options.readOnly ?? false;
    this.#before = options.before;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#enter('read', offset, into.length);
    eachBlock(this.blockBytes, offset, into.length, (index, from, length, at) => {
      const block = this.#blocks.get(index);
      if (block) into.set(block.subarray(from, from + length), at);
      else into.fill(0, at, at + length);
    });
  }

  async write(offset: number, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    await this.#enter('write', offset, bytes.length, options);
    eachBlock(this.blockBytes, offset, bytes.length, (index, from, length, at) => {
      let block = this.#blocks.get(index);
      if (!block) this.#blocks.set(index, (block = new Uint8Array(this.blockBytes)));
      block.set(bytes.subarray(at, at + length), from);
    });
  }

  async zero(offset: number, bytes: number, options?: WriteOptions): Promise<void> {
    await this.#enter('zero', offset, bytes, options);
    this.#clear(offset, bytes);
  }

  async trim(offset: number, bytes: number, options?: WriteOptions): Promise<void> {
    await this.#enter('trim', offset, bytes, options);
    this.#clear(offset, bytes);
  }

  async flush(): Promise<void> {
    await this.#enter('flush', 0, 0);
  }

  async extents(offset: number, bytes: number, maxExtents: number): Promise<Extent[]> {
    await this.#enter('extents', offset, bytes);
    const extents: { bytes: number; hole: boolean }[] = [];
    const end = offset + bytes;
    let at = offset;
    while (at < end && extents.length <= maxExtents) {
      const next = Math.min(end, (Math.floor(at / this.blockBytes) + 1) * this.blockBytes);
      const hole = !this.#blocks.has(Math.floor(at / this.blockBytes));
      const last = extents.at(-1);
      if (last?.hole === hole) last.bytes += next - at;
      else extents.push({ bytes: next - at, hole });
      at = next;
    }
    return extents.slice(0, maxExtents);
  }

  /** Blocks that take memory. */
  get blockCount(): number {
    return this.#blocks.size;
  }

  async #enter(
    operation: DeviceOperation,
    offset: number,
    bytes: number,
    options?: WriteOptions,
  ): Promise<void> {
    if (offset < 0 || offset + bytes > this.sizeBytes) {
      throw new Error(`${operation} of ${bytes} bytes at ${offset} is outside of the disk`);
    }
    if (this.readOnly && (operation === 'write' || operation === 'zero' || operation === 'trim')) {
      throw new ChunkvolError('read-only', 'the disk is read-only');
    }
    if (this.#before) await this.#before(operation, offset, bytes);
    this.counts[operation] += 1;
    if (options?.durable === true) this.counts.durable += 1;
  }

  #clear(offset: number, bytes: number): void {
    const end = offset + bytes;
    const firstWhole = Math.ceil(offset / this.blockBytes);
    const endWhole = Math.floor(end / this.blockBytes);
    for (const index of this.#indexesBetween(firstWhole, endWhole)) this.#blocks.delete(index);
    if (firstWhole > endWhole) {
      this.#clearPart(offset, end);
    } else {
      this.#clearPart(offset, firstWhole * this.blockBytes);
      this.#clearPart(endWhole * this.blockBytes, end);
    }
  }

  /** Zeros bytes of one block. */
  #clearPart(offset: number, end: number): void {
    const index = Math.floor(offset / this.blockBytes);
    const start = index * this.blockBytes;
    if (offset < end) this.#blocks.get(index)?.fill(0, offset - start, end - start);
  }

  /** Written blocks of a range, found in the time of the smaller of the range and the disk's contents. */
  #indexesBetween(first: number, end: number): number[] {
    if (end - first > this.#blocks.size) {
      return [...this.#blocks.keys()].filter((index) => index >= first && index < end);
    }
    return Array.from({ length: Math.max(0, end - first) }, (_, at) => first + at);
  }
}

/** Visits each block that a range of bytes touches: `length` bytes from `from` on, which are those at `at` of the range. */
export function eachBlock(
  blockBytes: number,
  offset: number,
  bytes: number,
  visit: (index: number, from: number, length: number, at: number) => void,
): void {
  let at = 0;
  while (at < bytes) {
    const index = Math.floor((offset + at) / blockBytes);
    const from = offset + at - index * blockBytes;
    const length = Math.min(bytes - at, blockBytes - from);
    visit(index, from, length, at);
    at += length;
  }
}
