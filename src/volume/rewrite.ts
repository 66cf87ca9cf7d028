/**
 * Writes maps of snapshots anew where they lead to slots that were moved.
 *
 * Depth first, children before parents, in commits of bounded size. A node that several snapshots share
 * is written once. The new nodes change nothing until a snapshot gets its new pointer, which comes last
 * and only when all of them are durable. What fails before that leaves garbage and no more.
 */
import { ChunkvolError } from '../base/errors.js';
import { NODE_FANOUT, type MapNode } from '../format/map-node.js';
import type { MapPointer, Snapshot } from '../format/snapshot.js';
import type { CachedNode, ReadNode } from './block-map.js';
import type { Checkpointer } from './checkpoint.js';
import { addressKey, type Gathered, type GatheredSlots } from './gather.js';
import type { LogEnd } from './log-end.js';
import type { NewPlaces } from './relocation.js';
import type { WritePath } from './write-path.js';

/** Where a node stands now; null while it waits to be written. */
type Place = { readonly ordinal: number; readonly position: number } | null;

/** A node on its way to the log, and the entries of nodes above it that are to name its new place. */
interface Pending {
  readonly node: CachedNode;
  readonly parents: { readonly words: MapNode; readonly slot: number }[];
  place: Place;
}

export class MapRewriter {
  private readonly known = new Map<string, Pending>();
  private waiting: Pending[] = [];
  private tainted: Gathered['tainted'] = new Set();
  private readonly replacements: number;

  constructor(
    private readonly end: LogEnd,
    private readonly checkpointer: Checkpointer,
    private readonly writePath: WritePath,
    private readonly readNode: ReadNode,
    private readonly slots: GatheredSlots,
    private readonly moved: NewPlaces,
  ) {
    this.replacements = end.replacements;
  }

  /**
   * The snapshot as its map stands now; the same one when nothing of it was moved. `tainted`: the nodes, of
   * this snapshot at least, that are to be written anew. Throws 'io' when the disk failed meanwhile: what
   * was placed is void, and the snapshots stay as they are.
   */
  async rewrite(snapshot: Snapshot, tainted: Gathered['tainted']): Promise<Snapshot> {
    const { depth, ordinal, position } = snapshot.map;
    this.tainted = tainted;
    if (!tainted.has(addressKey(ordinal, position))) return snapshot;
    const top = await this.node(depth - 1, 0, ordinal, position);
    await this.flush();
    return { ...snapshot, map: pointerTo(depth, top) };
  }

  private async node(
    level: number,
    index: number,
    ordinal: number,
    position: number,
  ): Promise<Pending> {
    const key = addressKey(ordinal, position);
    const known = this.known.get(key);
    if (known) return known;
    const words = (await this.readNode(ordinal, position, level, index)).slice();
    const node = { level, index, words, dirty: false, ordinal, position, recent: false };
    const pending: Pending = { node, parents: [], place: null };
    if (level === 0) this.followBlocks(words);
    else await this.followNodes(words, level, index);
    this.known.set(key, pending);
    this.waiting.push(pending);
    if (this.waiting.length >= this.checkpointer.nodesPerCommit) await this.flush();
    return pending;
  }

  private async followNodes(words: MapNode, level: number, index: number): Promise<void> {
    for (let slot = 0; slot < NODE_FANOUT; slot++) {
      const ordinal = words[slot * 2]!;
      const position = words[slot * 2 + 1]!;
      if (!this.tainted.has(addressKey(ordinal, position))) continue;
      const child = await this.node(level - 1, index * NODE_FANOUT + slot, ordinal, position);
      if (child.place) name(words, slot, child.place);
      else child.parents.push({ words, slot });
    }
  }

  private followBlocks(words: MapNode): void {
    for (let slot = 0; slot < NODE_FANOUT; slot++) {
      const at = this.find(words[slot * 2]!, words[slot * 2 + 1]!);
      const ordinal = at === null ? 0 : this.moved.ordinals[at]!;
      if (at !== null && ordinal !== 0) {
        name(words, slot, { ordinal, position: this.moved.positions[at]! });
      }
    }
  }

  /** Index of a gathered slot; null for any other. */
  private find(ordinal: number, position: number): number | null {
    const { count, ordinals, positions } = this.slots;
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const before =
        ordinals[middle]! < ordinal ||
        (ordinals[middle] === ordinal && positions[middle]! < position);
      if (before) low = middle + 1;
      else high = middle;
    }
    return ordinals[low] === ordinal && positions[low] === position ? low : null;
  }

  /** Brings the nodes that wait to the log. */
  private async flush(): Promise<void> {
    const batch = this.waiting;
    this.waiting = [];
    if (batch.length === 0) return;
    await this.writePath.exclusively(async () => {
      const nodes = batch.map(({ node }) => node);
      const { log } = this.end.parts;
      const writer = await this.checkpointer.writerFor(log.checkpointPieces(nodes, 0), 0);
      const before = writer.address;
      let next = 0;
      log.appendNodes(writer, nodes, (_, position) => {
        const pending = batch[next++]!;
        pending.place = { ordinal: writer.group.ordinal, position };
        for (const { words, slot } of pending.parents.splice(0)) name(words, slot, pending.place);
      });
      this.end.noteLogged(writer.address - before);
      await this.end.makeDurable();
    });
    if (this.end.replacements === this.replacements) return;
    throw new ChunkvolError('io', 'the disk failed while maps of snapshots were written');
  }
}

function name(words: MapNode, slot: number, place: NonNullable<Place>): void {
  words[slot * 2] = place.ordinal;
  words[slot * 2 + 1] = place.position;
}

function pointerTo(depth: number, { place }: Pending): MapPointer {
  if (!place) throw new RangeError('a map whose top node was not written');
  return { depth, ...place };
}
