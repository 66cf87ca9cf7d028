/**
 * Which blocks of the log are likely to be overwritten soon, told from what they were written over: what
 * replaces a block that did not live long mostly does not live long itself (Wang et al., Separating data via
 * block invalidation time inference for write amplification reduction in log-structured storage, FAST 2022).
 *
 * So a collection can tell them apart before it has moved them once: the others go to where blocks are that
 * have come through every collection. Only this process knows it, of groups that it has written.
 */
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { MAX_SURVIVED } from '../format/chunk-header.js';
import type { Group } from '../store/group.js';

export class Warmth {
  private readonly units: number;
  /** A bit for each slot, by where it begins; none at all while nothing in the group is warm. */
  private readonly bits = new WeakMap<Group, Uint8Array>();

  constructor(blockBytes: number) {
    this.units = (blockBytes + SLOT_OVERHEAD_BYTES) / 8;
  }

  /** A block was put into a group of the log over one that stood in `before`, if there was one. */
  note(group: Group, position: number, before: Group | undefined): void {
    const isWarm = before !== undefined && before.survived < MAX_SURVIVED;
    let bits = this.bits.get(group);
    if (!bits || (isWarm && bits.length === 0)) {
      bits = new Uint8Array(isWarm ? this.slotsOf(group) / 8 + 1 : 0);
      this.bits.set(group, bits);
    }
    const slot = this.slotAt(position);
    if (isWarm) bits[slot >> 3]! |= 1 << (slot & 7);
  }

  /** How many collections a block will count as having come through when it is moved from there. */
  survivedBy(group: Group, position: number): number {
    const bits = this.bits.get(group);
    const slot = this.slotAt(position);
    const isCold = bits !== undefined && ((bits[slot >> 3] ?? 0) & (1 << (slot & 7))) === 0;
    return isCold ? MAX_SURVIVED : Math.min(group.survived + 1, MAX_SURVIVED);
  }

  private slotAt(position: number): number {
    return Math.floor(position / this.units);
  }

  private slotsOf({ geometry }: Group): number {
    return this.slotAt((geometry.data * geometry.chunkBytes) / 8);
  }
}
