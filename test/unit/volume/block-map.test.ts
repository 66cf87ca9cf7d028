/** The map's cache, where loads and changes meet. */
import { describe, expect, it } from 'vitest';
import type { MapNode } from '../../../src/format/map-node.js';
import { BlockMap, entryOf } from '../../../src/volume/block-map.js';

const nothing = (): undefined => undefined;

/** A node whose entries all name one address. */
function nodeOf(ordinal: number): MapNode {
  return new Uint32Array(1024).map((_, at) => (at % 2 === 0 ? ordinal : 8));
}

describe('a load that a removal overtakes', () => {
  it('starts again for all who wait for it, those who came after the removal too', async () => {
    const reads: (() => void)[] = [];
    const map = new BlockMap(
      { depth: 2, ordinal: 1, position: 8 },
      512 * 512,
      4120,
      (_ordinal, _position, level) => {
        if (level > 0) return Promise.resolve(nodeOf(1));
        return new Promise((resolve) => {
          reads.push(() => {
            resolve(nodeOf(7));
          });
        });
      },
      nothing,
    );
    await map.prepare(new Float64Array(0), []);
    const early = map.leaf(0);
    while (reads.length === 0) await Promise.resolve();
    // Two whole leaves elsewhere are cut off, while the first one is being read.
    map.clear({ start: 512 * 10, end: 512 * 12 });
    const late = map.leaf(0);
    for (let i = 0; i < 20; i++) {
      await Promise.resolve();
      reads.splice(0).forEach((read) => {
        read();
      });
    }
    for (const leaf of [await early, await late]) {
      expect(leaf && entryOf(leaf, 3)).toEqual({ ordinal: 7, position: 8 });
    }
  });
});
