/** What a collection gathers, by the walk of a map whose nodes are made up. */
import { describe, expect, it } from 'vitest';
import { NODE_FANOUT, type MapNode } from '../../../src/format/map-node.js';
import { gather } from '../../../src/volume/gather.js';

const SLOT_BYTES = 4128;
/** In the order in which the walk meets them, which is none of numbers, nor of their digits. */
const VICTIMS = new Set([1_000_000, 4_294_967_295, 3]);
const BYSTANDER = 7;

interface Slot {
  readonly block: number;
  readonly ordinal: number;
  readonly position: number;
}

/** A map of two levels: slots of four groups, one of them no victim, in no order of positions. */
function mapOf(leaves: number): { read: (level: number, index: number) => MapNode; slots: Slot[] } {
  const groups = [...VICTIMS, BYSTANDER];
  const slots: Slot[] = [];
  for (let block = 0; block < leaves * NODE_FANOUT; block++) {
    // Every block stands in a place of its own, up to the highest position that there is.
    const position = 4_294_967_295 - ((block * 7919) % (leaves * NODE_FANOUT)) * 516;
    slots.push({ block, ordinal: groups[(block * 5) % groups.length]!, position });
  }
  const read = (level: number, index: number): MapNode => {
    const node = new Uint32Array(NODE_FANOUT * 2);
    for (let at = 0; at < NODE_FANOUT; at++) {
      const slot = slots[index * NODE_FANOUT + at];
      if (level === 1 && at < leaves) node.set([BYSTANDER, at + 1], at * 2);
      else if (level === 0) node.set([slot!.ordinal, slot!.position], at * 2);
    }
    return node;
  };
  return { read, slots };
}

describe('gathering', () => {
  it('gives the slots of the groups that are to be emptied, in order of groups and positions', async () => {
    const { read, slots } = mapOf(5);
    const top = { depth: 2, ordinal: BYSTANDER, position: 0 };
    const readNode = (_ordinal: number, _position: number, level: number, index: number) =>
      Promise.resolve(read(level, index));
    const gathered = (await gather([top], VICTIMS, SLOT_BYTES, readNode)).slots;

    const expected = slots
      .filter(({ ordinal }) => VICTIMS.has(ordinal))
      .sort((a, b) => a.ordinal - b.ordinal || a.position - b.position);
    expect(gathered.count).toBe(expected.length);
    expect([...gathered.ordinals]).toEqual(expected.map(({ ordinal }) => ordinal));
    expect([...gathered.positions]).toEqual(expected.map(({ position }) => position));
    expect([...gathered.blocks]).toEqual(expected.map(({ block }) => block));
  });
});
