/**
 * The staging buffer: acknowledged blocks that are not in the log yet, and those that are but are not
 * known to be durable. Reads are answered from here first; overwrites of staged blocks coalesce.
 *
 * A block's plaintext stays here until a successful fdatasync covers its commit, so that it can be
 * written anew should the disk fail. A batch cut for a commit keeps its slots until `release`.
 *
 * Order: within a batch the holes come first, then the writes. So all holes staged so far go into the
 * next batch, before any write that was staged after them.
 */
import { RangeSet, type Range } from './ranges.js';

/** What one commit takes: holes first, then blocks in ascending order, their plaintext in the arena. */
export interface Batch {
  readonly holes: readonly Range[];
  readonly blocks: Float64Array;
  /** Arena slot of each block. */
  readonly slots: Uint32Array;
}

export class Staging {
  /** Plaintext of `slotCount` blocks. */
  readonly arena: Uint8Array;
  private readonly free: Uint32Array;
  private freeCount: number;
  /** Newest staged or undurable version of a block. */
  private readonly current = new Map<number, number>();
  /** Staged, in order of arrival. */
  private readonly staged = new Map<number, number>();
  private readonly holes = new RangeSet();
  /** Cut, but not applied to the map yet. */
  private cutting: Batch | null = null;
  private cuttingHoles = new RangeSet();

  constructor(
    readonly blockBytes: number,
    capacityBytes: number,
  ) {
    const slotCount = Math.floor(capacityBytes / blockBytes);
    this.arena = new Uint8Array(slotCount * blockBytes);
    this.free = Uint32Array.from({ length: slotCount }, (_, index) => slotCount - 1 - index);
    this.freeCount = slotCount;
  }

  /** Blocks that can be staged before something must be released. */
  get room(): number {
    return this.freeCount;
  }

  get stagedBytes(): number {
    return this.staged.size * this.blockBytes;
  }

  get stagedHoles(): number {
    return this.holes.size;
  }

  get isEmpty(): boolean {
    return this.staged.size === 0 && this.holes.size === 0 && this.cutting === null;
  }

  /** Whether a block can be staged at once. */
  canStage(block: number): boolean {
    return this.freeCount > 0 || this.staged.has(block);
  }

  /** Stages a block; the result is where its plaintext is to be put, at once. Needs room, or the block staged. */
  stage(block: number): Uint8Array {
    let slot = this.staged.get(block);
    if (slot === undefined) {
      if (this.freeCount === 0) throw new RangeError('the staging buffer is full');
      slot = this.free[--this.freeCount]!;
      this.staged.set(block, slot);
      this.current.set(block, slot);
    }
    return this.plaintext(slot);
  }

  /** Stages that the blocks [start, end) read as zeros. */
  stageHole(start: number, end: number): void {
    if (end - start < this.current.size) {
      for (let block = start; block < end; block++) this.forget(block);
    } else {
      for (const block of this.current.keys()) {
        if (block >= start && block < end) this.forget(block);
      }
    }
    this.holes.add(start, end);
  }

  /** The plaintext of a block, or 'hole', or null when the map must be asked. */
  lookup(block: number): Uint8Array | 'hole' | null {
    const slot = this.current.get(block);
    if (slot !== undefined) return this.plaintext(slot);
    if (this.holes.size > 0 && this.holes.has(block)) return 'hole';
    return this.cuttingHoles.size > 0 && this.cuttingHoles.has(block) ? 'hole' : null;
  }

  /** The first block behind `block` for which holes staged here may say otherwise. */
  nextHoleChange(block: number): number {
    return Math.min(this.holes.nextChange(block), this.cuttingHoles.nextChange(block));
  }

  /** The blocks of [start, end) that are held here, ascending. */
  heldIn(start: number, end: number): number[] {
    const held = [...this.current.keys()].filter((block) => block >= start && block < end);
    return held.sort((a, b) => a - b);
  }

  /**
   * Cuts a batch of at most `maxBlocks` blocks and `maxHoles` holes; null when nothing is staged. A
   * batch that was cut and never `applied` is handed out again.
   */
  cut(maxBlocks: number, maxHoles: number): Batch | null {
    if (this.cutting) return this.cutting;
    if (this.isEmpty) return null;
    const holes = this.holes.take(maxHoles);
    const blocks = this.holes.size > 0 ? [] : this.takeBlocks(maxBlocks);
    for (const { start, end } of holes) this.cuttingHoles.add(start, end);
    this.cutting = {
      holes,
      blocks: Float64Array.from(blocks, ([block]) => block),
      slots: Uint32Array.from(blocks, ([, slot]) => slot),
    };
    return this.cutting;
  }

  /** The map knows the batch now. */
  applied(): void {
    this.cutting = null;
    this.cuttingHoles = new RangeSet();
  }

  /** The batch is durable: its slots are free. */
  release(batch: Batch): void {
    for (let i = 0; i < batch.slots.length; i++) {
      const block = batch.blocks[i]!;
      const slot = batch.slots[i]!;
      if (this.current.get(block) === slot) this.current.delete(block);
      this.free[this.freeCount++] = slot;
    }
  }

  private takeBlocks(limit: number): [number, number][] {
    const taken: [number, number][] = [];
    for (const entry of this.staged) {
      if (taken.length === limit) break;
      taken.push(entry);
    }
    for (const [block] of taken) this.staged.delete(block);
    return taken.sort(([a], [b]) => a - b);
  }

  private forget(block: number): void {
    this.current.delete(block);
    const slot = this.staged.get(block);
    if (slot === undefined) return;
    this.staged.delete(block);
    this.free[this.freeCount++] = slot;
  }

  private plaintext(slot: number): Uint8Array {
    return this.arena.subarray(slot * this.blockBytes, (slot + 1) * this.blockBytes);
  }
}
