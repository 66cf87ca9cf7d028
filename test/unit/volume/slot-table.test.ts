import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SlotTable } from '../../../src/volume/slot-table.js';

const CAPACITY = 8;

/** Few enough to meet again, and some that differ only above 32 bits. */
const block = fc.oneof(
  fc.integer({ min: 0, max: 40 }),
  fc.integer({ min: 0, max: 8 }).map((high) => high * 2 ** 32 + 7),
  fc.constantFrom(2 ** 53 - 1, 2 ** 52, 2 ** 32, 2 ** 31),
);

const step = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), block, slot: fc.nat(1000) }),
  fc.record({ kind: fc.constant('delete' as const), block, slot: fc.constant(0) }),
);

describe('the table of staged blocks', () => {
  it('does what a Map does', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100, size: 'max' }), (steps) => {
        const table = new SlotTable(CAPACITY);
        const model = new Map<number, number>();
        for (const { kind, block: number, slot } of steps) {
          if (kind === 'delete') {
            table.delete(number);
            model.delete(number);
          } else if (model.size < CAPACITY || model.has(number)) {
            table.set(number, slot);
            model.set(number, slot);
          }
        }
        expect(table.size).toBe(model.size);
        for (const [number, slot] of model) expect(table.get(number)).toBe(slot);
        const inOrder = (numbers: Iterable<number>): number[] => [...numbers].sort((a, b) => a - b);
        expect(inOrder(table.keys())).toEqual(inOrder(model.keys()));
        for (let other = 41; other < 50; other++) expect(table.get(other)).toBe(-1);
      }),
      { numRuns: 100 },
    );
  });

  it('takes no more than it was made for', () => {
    const table = new SlotTable(2);
    for (let number = 0; number < 2; number++) table.set(number, number);
    expect(() => {
      for (let number = 2; number < 9; number++) table.set(number, number);
    }).toThrow(RangeError);
  });
});
