import { describe, expect, it } from 'vitest';
import { KEPT_CLOSED_ROOTS } from '../../../src/volume/limits.js';
import { rootsToKeep } from '../../../src/volume/roots.js';
import type { RootFile } from '../../../src/store/root-files.js';

const HOUR_MS = 3_600_000;
const NOW_MS = 1_000 * HOUR_MS;

/** A root of which only what decides about it is there. */
function rootFile(generation: number, closed: boolean, timeMs: number): RootFile {
  const root = { generation, closed, timeMs } as RootFile['root'];
  return { name: String(generation), bytes: new Uint8Array(0), root };
}

function kept(roots: readonly RootFile[]): number[] {
  return rootsToKeep(roots, NOW_MS).map(({ root }) => root.generation);
}

describe('the roots that are kept', () => {
  it('are the newest two, and the newest closed ones', () => {
    const open = Array.from({ length: 30 }, (_, i) => rootFile(100 - i, false, 0));
    const closed = Array.from({ length: 30 }, (_, i) => rootFile(60 - i, true, 0));
    const wanted = closed.slice(0, KEPT_CLOSED_ROOTS).map(({ root }) => root.generation);
    expect(kept([...open, ...closed])).toEqual([100, 99, ...wanted]);
  });

  it('are one for each hour of a day beside them, whatever the clock does', () => {
    const often = Array.from({ length: 400 }, (_, i) => {
      return rootFile(1000 - i, true, NOW_MS - i * (HOUR_MS / 10));
    });
    const generations = kept(often);
    expect(generations).toHaveLength(KEPT_CLOSED_ROOTS + 23);
    expect(generations.at(-1)).toBe(1000 - 230);
    const ahead = often.map((each) => rootFile(each.root.generation, true, NOW_MS + HOUR_MS));
    expect(kept(ahead)).toHaveLength(KEPT_CLOSED_ROOTS);
  });
});
