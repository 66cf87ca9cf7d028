/**
 * What of the log is alive: slots of blocks and map nodes that the disk's map or a snapshot's names.
 *
 * Exact for the moment at which the trees were taken. What is dead then is dead for good: nothing ever
 * comes to refer to an old slot but by way of a tree that did so before.
 */
import type { MapPointer } from '../format/snapshot.js';
import { NODE_SLOT_BYTES, type ReadNode } from './block-map.js';
import { forEachSlot, walkTrees, type Visitor } from './walk.js';

export interface Liveness {
  /** Live bytes by ordinal of the group. */
  readonly live: ReadonlyMap<number, number>;
  /** Bytes of those that only snapshots name. */
  readonly snapshotBytes: number;
  /** Blocks that the disk's own map names. */
  readonly mappedBlocks: number;
}

/** Sums up live bytes during a walk in which tree 0 is the disk's own. */
export class LiveCount {
  private readonly byGroup = new Map<number, number>();
  private snapshotOnly = 0;
  private mapped = 0;
  /** Slots of one group often come one after the other. */
  private ordinal = 0;
  private pending = 0;

  constructor(private readonly blockSlotBytes: number) {}

  node(versions: Parameters<NonNullable<Visitor['node']>>[0]): void {
    for (const { ordinal, trees } of versions) this.add(ordinal, NODE_SLOT_BYTES, trees);
  }

  block(ordinal: number, trees: readonly number[]): void {
    if (trees[0] === 0) this.mapped++;
    this.add(ordinal, this.blockSlotBytes, trees);
  }

  result(): Liveness {
    this.settle();
    return {
      live: this.byGroup,
      snapshotBytes: this.snapshotOnly,
      mappedBlocks: this.mapped,
    };
  }

  private add(ordinal: number, bytes: number, trees: readonly number[]): void {
    if (ordinal !== this.ordinal) {
      this.settle();
      this.ordinal = ordinal;
    }
    this.pending += bytes;
    if (trees[0] !== 0) this.snapshotOnly += bytes;
  }

  private settle(): void {
    const before = this.byGroup.get(this.ordinal) ?? 0;
    if (this.pending > 0) this.byGroup.set(this.ordinal, before + this.pending);
    this.pending = 0;
  }
}

/**
 * Bytes in the log, by class. `classOf` tells the class of what exactly these trees name, or null for
 * what does not count; it must not count anything that it does not count for fewer trees. Parts of the
 * maps in which nothing can count are not looked at.
 */
export async function bytesByClass(
  trees: readonly MapPointer[],
  classes: number,
  classOf: (trees: readonly number[]) => number | null,
  blockSlotBytes: number,
  readNode: ReadNode,
  signal?: AbortSignal,
): Promise<number[]> {
  const sums = Array.from({ length: classes }, () => 0);
  const add = (owners: readonly number[], bytes: number): void => {
    const found = classOf(owners);
    if (found !== null) sums[found]! += bytes;
  };
  const visitor: Visitor = {
    enter: (versions) => versions.some((version) => classOf(version.trees) !== null),
    node: (versions) => {
      for (const version of versions) add(version.trees, NODE_SLOT_BYTES);
    },
    leaf: (versions, index) => {
      forEachSlot(versions, index, (_block, _ordinal, _position, owners) => {
        add(owners, blockSlotBytes);
      });
    },
  };
  await walkTrees(trees, readNode, visitor, signal);
  return sums;
}
