import { describe, expect, it } from 'vitest';
import { invert, parityMatrix, rebuildMatrix } from '../../../src/erasure/matrix.js';
import { oracleEncode } from '../../support/erasure-oracle.js';

/** All ways to choose `count` of `from`, in order. */
function choices(from: readonly number[], count: number): number[][] {
  if (count === 0) return [[]];
  return from.flatMap((first, index) =>
    choices(from.slice(index + 1), count - 1).map((rest) => [first, ...rest]),
  );
}

function rangeTo(length: number): number[] {
  return Array.from({ length }, (_, index) => index);
}

/** The library's parity rows, read off the parity of unit vectors. */
function libraryMatrix(dataUnits: number, parityUnits: number): Uint8Array[] {
  const data = rangeTo(dataUnits).map((unit) =>
    Uint8Array.from(rangeTo(dataUnits), (at) => (at === unit ? 1 : 0)),
  );
  return oracleEncode(data, parityUnits);
}

describe('the parity matrix', () => {
  it('of 4 + 2 is this one, for ever', () => {
    expect(parityMatrix(4, 2)).toEqual([
      new Uint8Array([27, 28, 18, 20]),
      new Uint8Array([28, 27, 20, 18]),
    ]);
  });

  it("is the library's for every geometry", () => {
    for (let dataUnits = 1; dataUnits <= 32; dataUnits++) {
      for (let parityUnits = 1; parityUnits <= 8; parityUnits++) {
        const geometry = `${dataUnits} + ${parityUnits}`;
        const ours = parityMatrix(dataUnits, parityUnits);
        expect(ours, geometry).toEqual(libraryMatrix(dataUnits, parityUnits));
      }
    }
  });

  it('has only invertible square submatrices, so that any k units are enough', () => {
    for (let dataUnits = 1; dataUnits <= 16; dataUnits++) {
      const rows = parityMatrix(dataUnits, 4);
      for (let size = 1; size <= Math.min(4, dataUnits); size++) {
        for (const chosenRows of choices(rangeTo(4), size)) {
          for (const columns of choices(rangeTo(dataUnits), size)) {
            const square = chosenRows.map((row) => Uint8Array.from(columns, (c) => rows[row]![c]!));
            expect(() => invert(square)).not.toThrow();
          }
        }
      }
    }
  });

  it.each([
    [0, 2],
    [33, 2],
    [4, -1],
    [4, 9],
    [1.5, 2],
    [4, NaN],
  ])('of %d + %d is refused', (dataUnits, parityUnits) => {
    expect(() => parityMatrix(dataUnits, parityUnits)).toThrow(RangeError);
  });
});

describe('invert', () => {
  it('gives the matrix that multiplies to the identity, pivots on zero included', () => {
    expect(invert([new Uint8Array([0, 1]), new Uint8Array([2, 0])])).toEqual([
      new Uint8Array([0, 142]),
      new Uint8Array([1, 0]),
    ]);
  });

  it('refuses a singular matrix', () => {
    expect(() => invert([new Uint8Array([1, 2]), new Uint8Array([2, 4])])).toThrow(RangeError);
  });
});

describe('rebuildMatrix', () => {
  it('takes the first k units present, and targets the absent ones', () => {
    const { sources, targets } = rebuildMatrix(3, 2, [true, false, true, true, true]);
    expect(sources).toEqual([0, 2, 3]);
    expect(targets).toEqual([1]);
  });

  it('copies nothing when nothing is lost', () => {
    expect(rebuildMatrix(2, 1, [true, true, true]).rows).toEqual([]);
  });

  it('refuses too few units and a list of the wrong length', () => {
    expect(() => rebuildMatrix(2, 1, [true, false, false])).toThrow('only 1 units');
    expect(() => rebuildMatrix(2, 1, [true, true])).toThrow('3 entries');
  });
});
