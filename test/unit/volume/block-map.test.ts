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

describe('a change below a node that fell out of the cache', () => {
  it('keeps what that node holds beside it', async () => {
    // At some of these lengths the leaf is still there and the node above it is not.
    for (let others = 1; others <= 20; others++) {
      const read = (_ordinal: number, _position: number, level: number): Promise<MapNode> =>
        Promise.resolve(nodeOf(level > 0 ? 1 : 7));
      const pointer = { depth: 2, ordinal: 1, position: 8 };
      const map = new BlockMap(pointer, 512 * 512, 4120, read, nothing, 4);
      await map.leaf(0);
      for (let other = 1; other <= others; other++) {
        map.peek(0);
        await map.leaf(512 * other);
      }
      expect(await map.prepare(Float64Array.of(3), [])).toBe(1);
      map.set(3, 9, 16);
      const dirty = map.takeDirty();
      expect(dirty.map(({ level }) => level)).toEqual([0, 1]);
      expect(entryOf(dirty[0]!, 4), `after ${others} others`).toEqual({ ordinal: 7, position: 8 });
      expect(entryOf(dirty[1]!, 4), `after ${others} others`).toEqual({ ordinal: 1, position: 8 });
    }
  });
});
