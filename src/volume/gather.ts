/**
 * What a collection has to move: the live slots of the groups that are to be emptied, found by a walk of
 * all maps that counts everything else at the same time.
 */
import type { MapPointer } from '../format/snapshot.js';
import type { ReadNode } from './block-map.js';
import { LiveCount, type Liveness } from './liveness.js';
import { MAX_GATHERED_SLOTS } from './limits.js';
import { forEachSlot, walkTrees, type LoadedVersion } from './walk.js';

/** Where a node of the disk's own map stands. */
export interface NodePlace {
  readonly level: number;
  readonly index: number;
  readonly ordinal: number;
  readonly position: number;
}

/** Live block slots, in order of ordinal and position once sorted; entry i of each array is one slot. */
export interface GatheredSlots {
  readonly count: number;
  readonly blocks: Float64Array;
  readonly ordinals: Uint32Array;
  readonly positions: Uint32Array;
}

export interface Gathered {
  readonly liveness: Liveness;
  readonly slots: GatheredSlots;
  /** Nodes of the disk's map that stand in the groups. */
  readonly headNodes: readonly NodePlace[];
  /** Addresses of nodes of snapshots that stand in the groups, or lead to something there. */
  readonly tainted: ReadonlySet<string>;
}

export function addressKey(ordinal: number, position: number): string {
  return `${ordinal}:${position}`;
}

/** `trees`: the disk's own map, then the snapshots'. Takes at most MAX_GATHERED_SLOTS slots. */
export async function gather(
  trees: readonly MapPointer[],
  victims: ReadonlySet<number>,
  blockSlotBytes: number,
  readNode: ReadNode,
  signal?: AbortSignal,
): Promise<Gathered> {
  const gathering = new Gathering(victims, blockSlotBytes);
  await walkTrees(trees, readNode, gathering, signal);
  return gathering.result();
}

class Gathering {
  private readonly count: LiveCount;
  private readonly slots: Slots;
  private readonly headNodes: NodePlace[] = [];
  private readonly tainted = new Set<string>();

  constructor(
    private readonly victims: ReadonlySet<number>,
    blockSlotBytes: number,
  ) {
    this.count = new LiveCount(blockSlotBytes);
    this.slots = new Slots(victims.size === 0 ? 0 : MAX_GATHERED_SLOTS);
  }

  node(versions: readonly LoadedVersion[], level: number, index: number): void {
    this.count.node(versions);
    for (const { ordinal, position, trees } of versions) {
      if (!this.victims.has(ordinal)) continue;
      if (trees[0] === 0) this.headNodes.push({ level, index, ordinal, position });
      if (isHeld(trees)) this.tainted.add(addressKey(ordinal, position));
    }
  }

  leaf(versions: readonly LoadedVersion[], index: number): void {
    const before = this.slots.size;
    forEachSlot(versions, index, (block, ordinal, position, trees) => {
      this.count.block(ordinal, trees);
      if (this.victims.has(ordinal)) this.slots.add(block, ordinal, position);
    });
    if (this.slots.size > before) this.taint(versions, (ordinal) => this.victims.has(ordinal));
  }

  left(versions: readonly LoadedVersion[], level: number): void {
    if (level === 0 || this.tainted.size === 0) return;
    this.taint(versions, (ordinal, position) => this.tainted.has(addressKey(ordinal, position)));
  }

  result(): Gathered {
    const { headNodes, tainted } = this;
    return { liveness: this.count.result(), slots: this.slots.sorted(), headNodes, tainted };
  }

  /** Marks those versions that a snapshot has and in which an entry is concerned. */
  private taint(
    versions: readonly LoadedVersion[],
    concerns: (ordinal: number, position: number) => boolean,
  ): void {
    for (const { ordinal, position, trees, words } of versions) {
      if (!isHeld(trees)) continue;
      for (let at = 0; at < words.length; at += 2) {
        if (words[at] === 0 || !concerns(words[at]!, words[at + 1]!)) continue;
        this.tainted.add(addressKey(ordinal, position));
        break;
      }
    }
  }
}

/** Whether another tree than the disk's own is among them. */
function isHeld(trees: readonly number[]): boolean {
  return trees.length > 1 || trees[0] !== 0;
}

class Slots {
  private count = 0;
  private readonly blocks: Float64Array;
  private readonly ordinals: Uint32Array;
  private readonly positions: Uint32Array;

  constructor(capacity: number) {
    this.blocks = new Float64Array(capacity);
    this.ordinals = new Uint32Array(capacity);
    this.positions = new Uint32Array(capacity);
  }

  get size(): number {
    return this.count;
  }

  /** What there is no more room for is left for another time. */
  add(block: number, ordinal: number, position: number): void {
    if (this.count === this.blocks.length) return;
    this.blocks[this.count] = block;
    this.ordinals[this.count] = ordinal;
    this.positions[this.count] = position;
    this.count++;
  }

  /** Writers wait while this runs: numbers are sorted in an instant, pairs by a function of ours are not. */
  sorted(): GatheredSlots {
    const { count, ordinals, positions } = this;
    const bounds = this.boundsByGroup();
    // Position and index in one number of 50 bits.
    const keys = new Float64Array(count);
    const ends = new Map(bounds);
    for (let i = 0; i < count; i++) {
      const at = ends.get(ordinals[i]!)!;
      keys[at] = positions[i]! * MAX_GATHERED_SLOTS + i;
      ends.set(ordinals[i]!, at + 1);
    }
    for (const [ordinal, from] of bounds) keys.subarray(from, ends.get(ordinal)).sort();
    const order = new Uint32Array(count);
    for (let i = 0; i < count; i++) order[i] = keys[i]! % MAX_GATHERED_SLOTS;
    return reordered({ count, blocks: this.blocks, ordinals, positions }, order);
  }

  /** Where the slots of each group begin when all are in order of ordinals. */
  private boundsByGroup(): Map<number, number> {
    const counts = new Map<number, number>();
    for (let i = 0; i < this.count; i++) {
      const ordinal = this.ordinals[i]!;
      counts.set(ordinal, (counts.get(ordinal) ?? 0) + 1);
    }
    let before = 0;
    const bounds = new Map<number, number>();
    for (const ordinal of [...counts.keys()].sort((a, b) => a - b)) {
      bounds.set(ordinal, before);
      before += counts.get(ordinal)!;
    }
    return bounds;
  }
}

/** The slots at these indexes. */
export function reordered(slots: GatheredSlots, order: Uint32Array): GatheredSlots {
  const count = order.length;
  const blocks = new Float64Array(count);
  const ordinals = new Uint32Array(count);
  const positions = new Uint32Array(count);
  // `from` with a function takes several times as long.
  for (let i = 0; i < count; i++) {
    const from = order[i]!;
    blocks[i] = slots.blocks[from]!;
    ordinals[i] = slots.ordinals[from]!;
    positions[i] = slots.positions[from]!;
  }
  return { count, blocks, ordinals, positions };
}
