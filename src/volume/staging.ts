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
import { SlotTable } from './slot-table.js';

/** What one commit takes: holes first, then blocks in ascending order, their plaintext in the arena. */
export interface Batch {
  readonly holes: readonly Range[];
  readonly blocks: Float64Array;
  /** Arena slot of each block. */
  readonly slots: Uint32Array;
}

/** What a slot of the arena holds. */
const FREE = 0;
const STAGED = 1;
const CUT = 2;

/** Behind the last of a chain of slots. */
const NONE = 0xffff_ffff;

export class Staging {
  /** Plaintext of `slotCount` blocks. */
  readonly arena: Uint8Array;
  private readonly free: Uint32Array;
  private freeCount: number;
  /** Newest staged or undurable version of a block. */
  private readonly current: SlotTable;
  private readonly states: Uint8Array;
  private readonly blockOf: Float64Array;
  /** The staged slots, chained in order of arrival. */
  private readonly following: Uint32Array;
  private readonly preceding: Uint32Array;
  private oldest: number = NONE;
  private newest: number = NONE;
  private stagedCount = 0;
  private readonly holes = new RangeSet();
  /** Cut, but not applied to the map yet. */
  private cutting: Batch | null = null;
  private cuttingHoles = new RangeSet();

  /** `shared`: in memory that another thread may be given to read. */
  constructor(
    readonly blockBytes: number,
    capacityBytes: number,
    shared = false,
  ) {
    const slotCount = Math.floor(capacityBytes / blockBytes);
    const arenaBytes = slotCount * blockBytes;
    this.arena = new Uint8Array(
      shared ? new SharedArrayBuffer(arenaBytes) : new ArrayBuffer(arenaBytes),
    );
    this.free = Uint32Array.from({ length: slotCount }, (_, index) => slotCount - 1 - index);
    this.freeCount = slotCount;
    this.current = new SlotTable(slotCount);
    this.states = new Uint8Array(slotCount);
    this.blockOf = new Float64Array(slotCount);
    this.following = new Uint32Array(slotCount);
    this.preceding = new Uint32Array(slotCount);
  }

  /** Blocks that can be staged before something must be released. */
  get room(): number {
    return this.freeCount;
  }

  get stagedBytes(): number {
    return this.stagedCount * this.blockBytes;
  }

  get stagedHoles(): number {
    return this.holes.size;
  }

  get isEmpty(): boolean {
    return this.stagedCount === 0 && this.holes.size === 0 && this.cutting === null;
  }

  /** Whether a block can be staged at once. */
  canStage(block: number): boolean {
    return this.freeCount > 0 || this.stagedSlot(block) >= 0;
  }

  /** Stages a block, whose plaintext stands at `at` of `source`. Needs room, or the block staged. */
  stage(block: number, source: Uint8Array, at: number): void {
    let slot = this.stagedSlot(block);
    if (slot < 0) {
      if (this.freeCount === 0) throw new RangeError('the staging buffer is full');
      slot = this.free[--this.freeCount]!;
      this.blockOf[slot] = block;
      this.current.set(block, slot);
      this.enchain(slot);
    }
    const isBlock = source.length === this.blockBytes;
    const plaintext = isBlock ? source : source.subarray(at, at + this.blockBytes);
    this.arena.set(plaintext, slot * this.blockBytes);
  }

  /** Stages that the blocks [start, end) read as zeros. */
  stageHole(start: number, end: number): void {
    if (end - start < this.current.size) {
      for (let block = start; block < end; block++) this.forget(block);
    } else {
      for (const block of [...this.current.keys()]) {
        if (block >= start && block < end) this.forget(block);
      }
    }
    this.holes.add(start, end);
  }

  /** The plaintext of a block, or 'hole', or null when the map must be asked. */
  lookup(block: number): Uint8Array | 'hole' | null {
    const slot = this.current.size > 0 ? this.current.get(block) : -1;
    if (slot >= 0) return this.plaintext(slot);
    if (this.holes.size > 0 && this.holes.has(block)) return 'hole';
    return this.cuttingHoles.size > 0 && this.cuttingHoles.has(block) ? 'hole' : null;
  }

  /** The first block behind `block` for which holes staged here may say otherwise. */
  nextHoleChange(block: number): number {
    return Math.min(this.holes.nextChange(block), this.cuttingHoles.nextChange(block));
  }

  /** The blocks of [start, end) that are held here, ascending. */
  heldIn(start: number, end: number): number[] {
    const held: number[] = [];
    if (end - start < this.current.size) {
      for (let block = start; block < end; block++)
        if (this.current.get(block) >= 0) held.push(block);
      return held;
    }
    for (const block of this.current.keys()) if (block >= start && block < end) held.push(block);
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
    const blocks = this.oldestBlocks(this.holes.size > 0 ? 0 : maxBlocks);
    const slots = new Uint32Array(blocks.length);
    for (let i = 0; i < blocks.length; i++) {
      slots[i] = this.current.get(blocks[i]!);
      this.unchain(slots[i]!, CUT);
    }
    for (const { start, end } of holes) this.cuttingHoles.add(start, end);
    this.cutting = { holes, blocks, slots };
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
      this.states[slot] = FREE;
      this.free[this.freeCount++] = slot;
    }
  }

  /** The first blocks in order of arrival, then sorted. */
  private oldestBlocks(limit: number): Float64Array {
    const blocks = new Float64Array(Math.min(limit, this.stagedCount));
    let slot = this.oldest;
    for (let i = 0; i < blocks.length; i++) {
      blocks[i] = this.blockOf[slot]!;
      slot = this.following[slot]!;
    }
    return blocks.sort();
  }

  /** The slot of a block that is staged: always its newest version. -1 when there is none. */
  private stagedSlot(block: number): number {
    const slot = this.current.get(block);
    return slot >= 0 && this.states[slot] === STAGED ? slot : -1;
  }

  private forget(block: number): void {
    const slot = this.stagedSlot(block);
    this.current.delete(block);
    if (slot < 0) return;
    this.unchain(slot, FREE);
    this.free[this.freeCount++] = slot;
  }

  private enchain(slot: number): void {
    this.states[slot] = STAGED;
    this.stagedCount++;
    this.preceding[slot] = this.newest;
    this.following[slot] = NONE;
    if (this.newest === NONE) this.oldest = slot;
    else this.following[this.newest] = slot;
    this.newest = slot;
  }

  private unchain(slot: number, state: typeof FREE | typeof CUT): void {
    this.states[slot] = state;
    this.stagedCount--;
    const before = this.preceding[slot]!;
    const after = this.following[slot]!;
    if (before === NONE) this.oldest = after;
    else this.following[before] = after;
    if (after === NONE) this.newest = before;
    else this.preceding[after] = before;
  }

  private plaintext(slot: number): Uint8Array {
    return this.arena.subarray(slot * this.blockBytes, (slot + 1) * this.blockBytes);
  }
}
