/**
 * A disk in memory with a write cache that forgets: what was not flushed is lost at a power cut, or stays,
 * block by block as chance has it, whatever the order it was written in. For NBD exports under real file
 * systems and real kernels.
 */
import type { BlockDevice, Extent, WriteOptions } from '../../src/base/block-device.js';
import { ChunkvolError } from '../../src/base/errors.js';
import { eachBlock } from './memory-device.js';

type Block = Uint8Array | undefined;

/** So many blocks are in the cache at least when the power is cut, and up to as many more. */
const BLOCKS_AT_WORK = 8;

export class VolatileDisk implements BlockDevice {
  readonly blockBytes = 4096;
  readonly readOnly = false;
  /** Blocks that power cuts took back to what they were before. */
  lostBlocks = 0;
  /** Blocks that are not holes. None of them is changed in place. */
  readonly #blocks = new Map<number, Uint8Array>();
  /** What the blocks were at the last flush that have changed since. */
  readonly #flushed = new Map<number, Block>();
  #isOff = false;
  #onChange: () => void = () => undefined;

  constructor(readonly sizeBytes: number) {}

  /**
   * Cuts the power, as soon as there is something to lose. From then on nothing works; of what was not
   * flushed each block is kept or lost.
   */
  async cutPower(random: () => number): Promise<void> {
    await this.#holds(BLOCKS_AT_WORK * (1 + random()));
    this.#isOff = true;
    for (const [index, block] of this.#flushed) {
      if (random() < 0.5) continue;
      this.#set(index, block);
      this.lostBlocks++;
    }
    this.#flushed.clear();
  }

  switchOn(): void {
    this.#isOff = false;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#enter(() => {
      eachBlock(this.blockBytes, offset, into.length, (index, from, length, at) => {
        const block = this.#blocks.get(index);
        if (block) into.set(block.subarray(from, from + length), at);
        else into.fill(0, at, at + length);
      });
    });
  }

  write(offset: number, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    return this.#change(offset, bytes.length, options, (block, from, length, at) => {
      const changed = block?.slice() ?? new Uint8Array(this.blockBytes);
      changed.set(bytes.subarray(at, at + length), from);
      return changed;
    });
  }

  zero(offset: number, bytes: number, options?: WriteOptions): Promise<void> {
    return this.#change(offset, bytes, options, (block, from, length) => {
      return length === this.blockBytes ? undefined : block?.slice().fill(0, from, from + length);
    });
  }

  trim(offset: number, bytes: number, options?: WriteOptions): Promise<void> {
    return this.zero(offset, bytes, options);
  }

  flush(): Promise<void> {
    return this.#enter(() => {
      this.#flushed.clear();
    });
  }

  extents(offset: number, bytes: number, maxExtents: number): Promise<Extent[]> {
    const extents: { bytes: number; hole: boolean }[] = [];
    return this.#enter(() => {
      eachBlock(this.blockBytes, offset, bytes, (index, _, length) => {
        const hole = !this.#blocks.has(index);
        const last = extents.at(-1);
        if (last?.hole === hole) last.bytes += length;
        else extents.push({ bytes: length, hole });
      });
      return extents.slice(0, maxExtents);
    });
  }

  /** Resolves when so many blocks are in the cache. */
  #holds(blocks: number): Promise<void> {
    return new Promise((resolve) => {
      this.#onChange = () => {
        if (this.#flushed.size >= blocks) resolve();
      };
      this.#onChange();
    });
  }

  /** Each operation is one step: a power cut comes before or after. */
  #enter<T>(step: () => T): Promise<T> {
    return Promise.resolve().then(() => {
      if (this.#isOff) throw new ChunkvolError('io', 'the power is off');
      return step();
    });
  }

  #change(
    offset: number,
    bytes: number,
    options: WriteOptions | undefined,
    changed: (block: Block, from: number, length: number, at: number) => Block,
  ): Promise<void> {
    return this.#enter(() => {
      eachBlock(this.blockBytes, offset, bytes, (index, from, length, at) => {
        const block = this.#blocks.get(index);
        if (!this.#flushed.has(index)) this.#flushed.set(index, block);
        this.#set(index, changed(block, from, length, at));
        if (options?.durable === true) this.#flushed.delete(index);
      });
      this.#onChange();
    });
  }

  #set(index: number, block: Block): void {
    if (block) this.#blocks.set(index, block);
    else this.#blocks.delete(index);
  }
}
