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
  const runs: { bytes: number; hole: boolean }[] = [];
  for (let at = offset; at < end;) {
    const block = Math.floor(at / blockBytes);
    const limit = Math.ceil(end / blockBytes);
    const { hole, next } = await runAt(staging, map, block, limit);
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
  block: number,
  limit: number,
): Promise<{ hole: boolean; next: number }> {
  const staged = staging.lookup(block);
  if (staged === 'hole') {
    const next = Math.min(staging.nextHoleChange(block), limit);
    return staging.holdsAny(block, next) ? { hole: true, next: block + 1 } : { hole: true, next };
  }
  if (staged) return { hole: false, next: block + 1 };
  const leaf = await map.leaf(block);
  if (leaf) return { hole: entryOf(leaf, block % NODE_FANOUT) === null, next: block + 1 };
  const next = Math.min(await map.nextLeafStart(block, limit), limit);
  return staging.holdsAny(block, next) ? { hole: true, next: block + 1 } : { hole: true, next };
}
