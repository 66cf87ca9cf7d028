/** Where the blocks of a group go when it is emptied, by what they were written over. */
import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import { makeGeometry } from '../../../src/base/geometry.js';
import { MAX_SURVIVED } from '../../../src/format/chunk-header.js';
import type { Group } from '../../../src/store/group.js';
import { Warmth } from '../../../src/volume/warmth.js';

const BLOCK_BYTES = 4096;
/** Of a slot, in units of positions. */
const SLOT = (BLOCK_BYTES + 24) / 8;
const GEOMETRY = makeGeometry(4, 2, MIB, BLOCK_BYTES);
const FIRST = 64;
/** Slots of a group, the last of which ends where the group does. */
const SLOTS = Math.floor(((4 * MIB) / 8 - FIRST) / SLOT);

function groupOf(survived: number): Group {
  return { survived, geometry: GEOMETRY } as Group;
}

describe('blocks of a group that is emptied', () => {
  it('go on by one, as long as nothing is known of them', () => {
    const warmth = new Warmth(BLOCK_BYTES);
    for (let survived = 0; survived < MAX_SURVIVED; survived++) {
      expect(warmth.survivedBy(groupOf(survived), FIRST)).toBe(survived + 1);
    }
    expect(warmth.survivedBy(groupOf(MAX_SURVIVED), FIRST)).toBe(MAX_SURVIVED);
  });

  it('go to the end at once where they replace nothing, or what has come through everything', () => {
    const warmth = new Warmth(BLOCK_BYTES);
    const group = groupOf(0);
    warmth.note(group, FIRST, undefined);
    warmth.note(group, FIRST + SLOT, groupOf(MAX_SURVIVED));
    expect(warmth.survivedBy(group, FIRST)).toBe(MAX_SURVIVED);
    expect(warmth.survivedBy(group, FIRST + SLOT)).toBe(MAX_SURVIVED);
  });

  it('go on by one where they replace what had not, each for itself, from the first slot to the last', () => {
    const warmth = new Warmth(BLOCK_BYTES);
    const group = groupOf(0);
    const isWarm = (slot: number): boolean => slot % 3 === 0 || slot === SLOTS - 1;
    for (let slot = 0; slot < SLOTS; slot++) {
      const before = groupOf(isWarm(slot) ? slot % MAX_SURVIVED : MAX_SURVIVED);
      warmth.note(group, FIRST + slot * SLOT, before);
    }
    for (let slot = 0; slot < SLOTS; slot++) {
      const survived = warmth.survivedBy(group, FIRST + slot * SLOT);
      expect([slot, survived]).toEqual([slot, isWarm(slot) ? 1 : MAX_SURVIVED]);
    }
  });
});
