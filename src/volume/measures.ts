/** What snapshots cost, and what has changed between two states of the disk. */
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { NODE_FANOUT } from '../format/map-node.js';
import type { MapPointer, Snapshot } from '../format/snapshot.js';
import type { Group } from '../store/group.js';
import type { ReadNode } from './block-map.js';
import type { Checkpointer } from './checkpoint.js';
import { bytesByClass, LiveCount } from './liveness.js';
import type { LogEnd } from './log-end.js';
import type { ReadEpochs } from './read-epochs.js';
import type { SnapshotInfo, Snapshots } from './snapshots.js';
import { forEachSlot, slotVersions, walkTrees, type LoadedVersion, type Version } from './walk.js';
import type { WritePath } from './write-path.js';

export interface SnapshotUse extends SnapshotInfo {
  /** What deleting this one alone would free in the log: blocks and map nodes, without parity. */
  readonly freedBytes: number;
}

/** Bytes of the disk. */
export interface ChangedRange {
  readonly offset: number;
  readonly bytes: number;
}

export class Measures {
  private readonly blockSlotBytes: number;

  constructor(
    private readonly end: LogEnd,
    private readonly checkpointer: Checkpointer,
    private readonly writePath: WritePath,
    private readonly snapshots: Snapshots,
    private readonly readNode: ReadNode,
    private readonly epochs: ReadEpochs,
  ) {
    this.blockSlotBytes = end.parts.roots.facts.blockBytes + SLOT_OVERHEAD_BYTES;
  }

  /** Of each snapshot, the oldest first. */
  uses(signal?: AbortSignal): Promise<SnapshotUse[]> {
    return this.epochs.run(async () => {
      const { trees, list } = await this.freeze();
      const own = (owners: readonly number[]): number | null =>
        owners.length === 1 ? owners[0]! : null;
      const bytes = await this.sums(trees, trees.length, own, signal);
      return list.map((info, at) => ({ ...info, freedBytes: bytes[at + 1]! }));
    });
  }

  /** What deleting these snapshots together would free. Throws 'not-found'. */
  freedBy(names: readonly string[], signal?: AbortSignal): Promise<number> {
    return this.epochs.run(async () => {
      for (const name of names) this.snapshots.get(name);
      const { trees, list } = await this.freeze();
      const chosen = new Set(
        list.flatMap(({ name }, at) => (names.includes(name) ? [at + 1] : [])),
      );
      const exclusive = (owners: readonly number[]): number | null =>
        owners.every((tree) => chosen.has(tree)) ? 0 : null;
      const [bytes] = await this.sums(trees, 1, exclusive, signal);
      return bytes!;
    });
  }

  /**
   * Calls `visit` for every range that differs between a snapshot and another one (null: the disk as it
   * is), ascending, one after the other; ranges that touch are one. Throws 'not-found', 'interrupted',
   * and what `visit` throws.
   */
  changes(
    from: string,
    to: string | null,
    visit: (range: ChangedRange) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    return this.epochs.run(async () => {
      const first = this.snapshots.get(from).map;
      const { trees } = await this.freeze();
      const second = to === null ? trees[0]! : this.snapshots.get(to).map;
      const { blockBytes } = this.end.parts.roots.facts;
      await compare([first, second], this.readNode, blockBytes, visit, signal);
    });
  }

  /** A snapshot, and the groups that its map and its blocks stand in. Throws 'not-found'. */
  contentOf(name: string, signal?: AbortSignal): Promise<{ snapshot: Snapshot; groups: Group[] }> {
    return this.epochs.run(async () => {
      const snapshot = this.snapshots.get(name);
      const count = new LiveCount(this.blockSlotBytes);
      const leaf = (versions: readonly LoadedVersion[], index: number): void => {
        forEachSlot(versions, index, (_block, ordinal, _position, trees) => {
          count.block(ordinal, trees);
        });
      };
      const node = (versions: readonly LoadedVersion[]): void => {
        count.node(versions);
      };
      await walkTrees([snapshot.map], this.readNode, { node, leaf }, signal);
      const ordinals = [...count.result().live.keys()].sort((a, b) => a - b);
      return { snapshot, groups: ordinals.map((ordinal) => this.end.parts.groups.get(ordinal)) };
    });
  }

  private sums(
    trees: readonly MapPointer[],
    classes: number,
    classOf: (owners: readonly number[]) => number | null,
    signal?: AbortSignal,
  ): Promise<number[]> {
    return bytesByClass(trees, classes, classOf, this.blockSlotBytes, this.readNode, signal);
  }

  /** The maps of the disk and of all snapshots, as they stand in the log at one moment. */
  private async freeze(): Promise<{ trees: MapPointer[]; list: SnapshotInfo[] }> {
    return this.writePath.settled(async () => {
      await this.checkpointer.settleMap();
      const { map, heads } = this.end.parts;
      const list = this.snapshots.list();
      return { trees: [map.root, ...heads.snapshots.map((snapshot) => snapshot.map)], list };
    });
  }
}

async function compare(
  trees: readonly MapPointer[],
  readNode: ReadNode,
  blockBytes: number,
  visit: (range: ChangedRange) => void | Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  let open = { offset: 0, bytes: 0 };
  const differs = (versions: readonly Version[]): boolean =>
    versions.some((version) => version.trees.length === 1);
  const leaf = async (versions: readonly LoadedVersion[], index: number): Promise<void> => {
    for (let slot = 0; slot < NODE_FANOUT; slot++) {
      if (!differs(slotVersions(versions, slot))) continue;
      const offset = (index * NODE_FANOUT + slot) * blockBytes;
      if (offset === open.offset + open.bytes) {
        open.bytes += blockBytes;
      } else {
        if (open.bytes > 0) await visit(open);
        open = { offset, bytes: blockBytes };
      }
    }
  };
  await walkTrees(trees, readNode, { enter: differs, leaf }, signal);
  if (open.bytes > 0) await visit(open);
}
