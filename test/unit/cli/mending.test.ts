import { describe, expect, it } from 'vitest';
import { beyondParity } from '../../../src/cli/mending.js';
import type { Finding } from '../../../src/repair/scrub.js';
import type { Group } from '../../../src/store/group.js';

const GROUP = {
  ordinal: 3,
  id: new Uint8Array(16),
  geometry: { data: 4, parity: 2, unitBytes: 65536, chunkBytes: 2 ** 20 },
} as Partial<Group> as Group;

function damaged(place: number, from: number, to: number, part = 'units'): Finding {
  return { group: GROUP, place, path: `file ${place}`, damages: [{ part, from, to }] } as Finding;
}

describe('beyondParity', () => {
  it('is empty for damage in two files of a group with two parity files', () => {
    expect(beyondParity([damaged(0, 0, 100, 'file'), damaged(5, 0, 100, 'file')])).toEqual([]);
  });

  it('names a group with three files missing', () => {
    const findings = [0, 2, 4].map((place) => damaged(place, 0, 100, 'file'));
    expect(beyondParity(findings)).toEqual(['group 3 (00000000)']);
  });

  it('looks at places in the files, not at their number', () => {
    const apart = [damaged(0, 0, 10), damaged(1, 10, 20), damaged(2, 20, 30)];
    expect(beyondParity(apart)).toEqual([]);
    const together = [damaged(0, 0, 11), damaged(1, 5, 20), damaged(2, 10, 30)];
    expect(beyondParity(together)).toHaveLength(1);
  });

  it('counts a file that is cut short once', () => {
    const findings = [0, 1].map((place) => damaged(place, 0, 100));
    const sizes = [0, 1].map((place) => damaged(place, 30, 100, 'size'));
    expect(beyondParity([...findings, ...sizes])).toEqual([]);
  });

  it('leaves headers and footers out, which are replicated', () => {
    const findings = [0, 1, 2, 3].map((place) => damaged(place, 0, 10, 'footer'));
    expect(beyondParity(findings)).toEqual([]);
  });
});
