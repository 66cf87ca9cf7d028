/** What of a range of the disk is hole and what is data: from the staging buffer and the map. */
import type { Extent } from '../base/block-device.js';
import { NODE_FANOUT } from '../format/map-node.js';
import { entryOf, type BlockMap } from './block-map.js';
import type { Staging } from './staging.js';

/** Consecutive extents from `offset` on, at most `maxExtents`; they may end before the range does. */
export async function findExtents(
  staging: Staging,
  map: BlockMap,
  offset: number,
  bytes: number,
  maxExtents: number,
): Promise<Extent[]> {
  const { blockBytes } = staging;
  const end = offset + bytes;
  const held = new HeldBlocks(
    staging,
    Math.floor(offset / blockBytes),
    Math.ceil(end / blockBytes),
  );
  const runs: { bytes: number; hole: boolean }[] = [];
  for (let at = offset; at < end;) {
    const block = Math.floor(at / blockBytes);
    const limit = Math.ceil(end / blockBytes);
    const { hole, next } = await runAt(staging, map, held, block, limit);
    const until = Math.min(next * blockBytes, end);
    const last = runs[runs.length - 1];
    if (last?.hole === hole) last.bytes += until - at;
    else if (runs.length === maxExtents) return runs;
    else runs.push({ bytes: until - at, hole });
    at = until;
  }
  return runs;
}

/** What `block` is, and up to which block that is known to go on. */
async function runAt(
  staging: Staging,
  map: BlockMap,
  held: HeldBlocks,
  block: number,
  limit: number,
): Promise<{ hole: boolean; next: number }> {
  const staged = staging.lookup(block);
  if (staged === 'hole') {
    const next = Math.min(staging.nextHoleChange(block), held.nextBehind(block), limit);
    return { hole: true, next };
  }
  if (staged) return { hole: false, next: block + 1 };
  const leaf = await map.leaf(block);
  if (leaf) return { hole: entryOf(leaf, block % NODE_FANOUT) === null, next: block + 1 };
  const next = await map.nextLeafStart(block, limit);
  return { hole: true, next: Math.min(next, held.nextBehind(block), limit) };
}

/**
 * The blocks that the staging buffer held when the question was asked, so that a hole of any size ends
 * before the next of them at once. One that came since may be told either way.
 */
class HeldBlocks {
  private readonly blocks: readonly number[];
  private next = 0;

  constructor(staging: Staging, start: number, end: number) {
    this.blocks = staging.heldIn(start, end);
  }

  /** The first one behind `block`, which never goes back; Infinity when there is none. */
  nextBehind(block: number): number {
    while (this.next < this.blocks.length && this.blocks[this.next]! <= block) this.next++;
    return this.blocks[this.next] ?? Infinity;
  }
}
