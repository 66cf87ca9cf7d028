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

  sorted(): GatheredSlots {
    const { count, ordinals, positions } = this;
    const order = Uint32Array.from({ length: count }, (_, i) => i);
    order.sort((a, b) => ordinals[a]! - ordinals[b]! || positions[a]! - positions[b]!);
    return reordered({ count, blocks: this.blocks, ordinals, positions }, order);
  }
}

/** The slots at these indexes. */
export function reordered(slots: GatheredSlots, order: Uint32Array): GatheredSlots {
  return {
    count: order.length,
    blocks: Float64Array.from(order, (i) => slots.blocks[i]!),
    ordinals: Uint32Array.from(order, (i) => slots.ordinals[i]!),
    positions: Uint32Array.from(order, (i) => slots.positions[i]!),
  };
}
