/**
 * A table from block number to slot of the staging buffer, in typed arrays: what a Map does, without an
 * object or a rehash in the way of every write.
 *
 * Open addressing with linear probing, at most half full; what is removed leaves no gap, for those that
 * were pushed behind it move up.
 */

const EMPTY = 0xffff_ffff;

/** Odd numbers of 32 bits whose bits have no pattern: the golden ratio's, and another prime. */
const LOW_FACTOR = 0x9e37_79b1;
const HIGH_FACTOR = 0x85eb_ca77;

export class SlotTable {
  private readonly blocks: Float64Array;
  private readonly slots: Uint32Array;
  private readonly mask: number;
  private readonly shift: number;
  private count = 0;

  /** A table for up to `capacity` blocks. */
  constructor(capacity: number) {
    const bits = Math.ceil(Math.log2(Math.max(capacity, 1) * 2));
    const places = 2 ** bits;
    this.shift = 32 - bits;
    this.blocks = new Float64Array(places);
    this.slots = new Uint32Array(places).fill(EMPTY);
    this.mask = places - 1;
  }

  get size(): number {
    return this.count;
  }

  /** The slot of a block; -1 when it has none. */
  get(block: number): number {
    const at = this.find(block);
    return this.slots[at] === EMPTY ? -1 : this.slots[at]!;
  }

  set(block: number, slot: number): void {
    const at = this.find(block);
    if (this.slots[at] === EMPTY) {
      if (this.count * 2 > this.mask) throw new RangeError('the table of staged blocks is full');
      this.count++;
      this.blocks[at] = block;
    }
    this.slots[at] = slot;
  }

  delete(block: number): void {
    let gap = this.find(block);
    if (this.slots[gap] === EMPTY) return;
    this.count--;
    for (let at = (gap + 1) & this.mask; this.slots[at] !== EMPTY; at = (at + 1) & this.mask) {
      // An entry may move up to the gap unless its home lies behind it.
      const home = this.homeOf(this.blocks[at]!);
      if (((at - home) & this.mask) < ((at - gap) & this.mask)) continue;
      this.blocks[gap] = this.blocks[at]!;
      this.slots[gap] = this.slots[at]!;
      gap = at;
    }
    this.slots[gap] = EMPTY;
  }

  /** Blocks in no particular order; the table must not change meanwhile. */
  *keys(): Generator<number> {
    for (let at = 0; at <= this.mask; at++) {
      if (this.slots[at] !== EMPTY) yield this.blocks[at]!;
    }
  }

  /** Where a block is, or the free place where it belongs. */
  private find(block: number): number {
    let at = this.homeOf(block);
    while (this.slots[at] !== EMPTY && this.blocks[at] !== block) at = (at + 1) & this.mask;
    return at;
  }

  /**
   * Neighbours are scattered: a run of the table without a gap is what a removal walks through. Only here
   * a block number is cut to 32 bits, and the rest of it is mixed in.
   */
  private homeOf(block: number): number {
    const high = Math.floor(block / 2 ** 32);
    return Math.imul((block >>> 0) ^ Math.imul(high, HIGH_FACTOR), LOW_FACTOR) >>> this.shift;
  }
}
