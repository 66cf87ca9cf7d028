import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileKernel, Kernel } from '../../../src/erasure/kernel.js';
import * as reference from '../../../src/erasure/reference.js';
import { RowCodec } from '../../../src/erasure/row-codec.js';
import { oracleEncode, oracleReconstruct } from '../../support/erasure-oracle.js';

/** Bytes that look random, the same for the same seed (xorshift32). */
function noise(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed ^ 0x9e3779b9) | 1;
  for (let at = 0; at < length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** A codec with noise in every unit, parity included. */
async function filledCodec(
  dataUnits: number,
  parityUnits: number,
  unitBytes: number,
  seed = 1,
): Promise<RowCodec> {
  const codec = await RowCodec.create(dataUnits, parityUnits, unitBytes);
  unitsOf(codec).forEach((unit, index) => {
    unit.set(noise(unitBytes, seed * 64 + index));
  });
  return codec;
}

function unitsOf(codec: RowCodec): Uint8Array[] {
  return Array.from({ length: codec.dataUnits + codec.parityUnits }, (_, i) => codec.unit(i));
}

/** Copies of the units as they are now. */
function snapshot(codec: RowCodec): Uint8Array[] {
  return unitsOf(codec).map((unit) => unit.slice());
}

/** Overwrites the lost units, has them reconstructed, and compares the row with `whole`. */
function loseAndReconstruct(codec: RowCodec, whole: readonly Uint8Array[], lost: number[]): void {
  const units = unitsOf(codec);
  for (const index of lost) units[index]!.set(noise(codec.unitBytes, 1000 + index));
  codec.reconstruct(units.map((_, index) => !lost.includes(index)));
  expectEqual(units, whole, `lost ${lost.join(', ')} of ${codec.dataUnits} + ${codec.parityUnits}`);
}

/** Unit by unit with Buffer.compare, because toEqual takes seconds for megabytes. */
function expectEqual(
  actual: readonly Uint8Array[],
  expected: readonly Uint8Array[],
  message: string,
): void {
  const same = (unit: Uint8Array, index: number): boolean =>
    Buffer.compare(unit, expected[index]!) === 0;
  expect(actual.length, message).toBe(expected.length);
  expect(actual.map(same), message).toEqual(expected.map(() => true));
}

/** All sets of at most `most` of the numbers below `count`. */
function subsets(count: number, most: number): number[][] {
  const grow = (set: number[]): number[][] => {
    if (set.length === most) return [set];
    const larger: number[][] = [];
    for (let next = (set.at(-1) ?? -1) + 1; next < count; next++) larger.push([...set, next]);
    return [set, ...larger.flatMap(grow)];
  };
  return grow([]);
}

const geometry = fc.record({
  dataUnits: fc.integer({ min: 1, max: 32 }),
  parityUnits: fc.integer({ min: 0, max: 8 }),
  unitBytes: fc.integer({ min: 1, max: 200 }).map((words) => words * 8),
  seed: fc.integer({ min: 1, max: 1_000_000 }),
});

describe('encode', () => {
  it("equals the library's bytes for every k to 16 and m to 4", async () => {
    for (let dataUnits = 1; dataUnits <= 16; dataUnits++) {
      for (let parityUnits = 1; parityUnits <= 4; parityUnits++) {
        const codec = await filledCodec(dataUnits, parityUnits, 264, dataUnits);
        codec.encode();
        const units = snapshot(codec);
        const parity = oracleEncode(units.slice(0, dataUnits), parityUnits);
        expectEqual(units.slice(dataUnits), parity, `${dataUnits} + ${parityUnits}`);
      }
    }
  });

  it("equals the library's and the reference's bytes for geometries to 32 + 8", async () => {
    await fc.assert(
      fc.asyncProperty(geometry, async ({ dataUnits, parityUnits, unitBytes, seed }) => {
        const codec = await filledCodec(dataUnits, parityUnits, unitBytes, seed);
        const data = snapshot(codec).slice(0, dataUnits);
        codec.encode();
        const parity = oracleEncode(data, parityUnits);
        expectEqual(unitsOf(codec), [...data, ...parity], 'kernel');
        expectEqual(reference.encode(data, parityUnits), parity, 'reference');
      }),
      { numRuns: 60 },
    );
  });

  it('equals the library in units of many blocks that end where the memory ends', async () => {
    for (const parityUnits of [1, 2, 3, 4, 5, 8]) {
      const codec = await filledCodec(8, parityUnits, 65536);
      codec.encode();
      const units = snapshot(codec);
      expectEqual(units.slice(8), oracleEncode(units.slice(0, 8), parityUnits), `m ${parityUnits}`);
    }
  });

  it('changes the bytes of the range and no others', async () => {
    const range = fc.tuple(fc.integer({ min: 0, max: 2300 }), fc.integer({ min: 0, max: 2300 }));
    const codecs = await Promise.all([1, 2, 3, 4, 6].map((m) => filledCodec(3, m, 2300 * 8)));
    const before = codecs.map(snapshot);
    const whole = before.map((units) => [
      ...units.slice(0, 3),
      ...oracleEncode(units.slice(0, 3), units.length - 3),
    ]);
    fc.assert(
      fc.property(fc.nat(codecs.length - 1), range, (which, ends) => {
        const from = Math.min(...ends) * 8;
        const to = Math.max(...ends) * 8;
        const codec = codecs[which]!;
        codec.encode(from, to);
        const expected = before[which]!.map((unit, index) => {
          const mixed = unit.slice();
          mixed.set(whole[which]![index]!.subarray(from, to), from);
          return mixed;
        });
        expectEqual(unitsOf(codec), expected, `[${from}, ${to})`);
        before[which]!.forEach((unit, index) => {
          codec.unit(index).set(unit);
        });
      }),
      { numRuns: 200 },
    );
  });

  it('does nothing without parity', async () => {
    const codec = await filledCodec(3, 0, 64);
    const before = snapshot(codec);
    codec.encode();
    expectEqual(unitsOf(codec), before, 'data');
  });
});

describe('accumulate', () => {
  it('adds up to what encode computes, over any range', async () => {
    await fc.assert(
      fc.asyncProperty(geometry, async ({ dataUnits, parityUnits, unitBytes, seed }) => {
        const codec = await filledCodec(dataUnits, parityUnits, unitBytes, seed);
        codec.encode();
        const whole = snapshot(codec);
        const middle = Math.floor(unitBytes / 16) * 8;
        unitsOf(codec)
          .slice(dataUnits)
          .forEach((unit) => unit.fill(0));
        for (let index = 0; index < dataUnits; index++) {
          codec.accumulate(index, middle);
          codec.accumulate(index, 0, middle);
        }
        expectEqual(unitsOf(codec), whole, 'accumulated');
      }),
      { numRuns: 30 },
    );
  });
});

describe('reconstruct', () => {
  it('restores 4 + 2 from every loss of up to two units', async () => {
    const codec = await filledCodec(4, 2, 16384);
    codec.encode();
    const whole = snapshot(codec);
    const losses = subsets(6, 2);
    expect(losses.length).toBe(1 + 6 + 15);
    for (const lost of losses) loseAndReconstruct(codec, whole, lost);
  });

  it('restores 5 + 3 from every loss, more than are kept prepared', async () => {
    const codec = await filledCodec(5, 3, 104);
    codec.encode();
    const whole = snapshot(codec);
    for (let round = 0; round < 2; round++) {
      for (const lost of subsets(8, 3)) loseAndReconstruct(codec, whole, lost);
    }
  });

  it('equals the library and the reference for geometries to 32 + 8', async () => {
    const loss = fc.uniqueArray(fc.nat(39), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(geometry, loss, async (shape, candidates) => {
        const { dataUnits, parityUnits, unitBytes, seed } = shape;
        const codec = await filledCodec(dataUnits, parityUnits, unitBytes, seed);
        codec.encode();
        const whole = snapshot(codec);
        const units = dataUnits + parityUnits;
        const lost = [...new Set(candidates.map((index) => index % units))].slice(0, parityUnits);
        loseAndReconstruct(codec, whole, lost);
        const left = whole.map((unit, index) => (lost.includes(index) ? null : unit));
        expectEqual(await oracleReconstruct(left, dataUnits), whole, 'library');
        expectEqual(reference.reconstruct(left, dataUnits), whole, 'reference');
      }),
      { numRuns: 60 },
    );
  });

  it('changes the bytes of the range and no others', async () => {
    const codec = await filledCodec(4, 2, 16384);
    codec.encode();
    const whole = snapshot(codec);
    for (const [from, to] of [
      [0, 8],
      [8, 4136],
      [8184, 8208],
      [16376, 16384],
      [64, 64],
    ] as const) {
      codec.unit(1).fill(0xaa);
      codec.unit(4).fill(0xaa);
      codec.reconstruct([true, false, true, true, false, true], from, to);
      for (const index of [1, 4]) {
        const expected = new Uint8Array(16384).fill(0xaa);
        expected.set(whole[index]!.subarray(from, to), from);
        expectEqual([codec.unit(index)], [expected], `unit ${index} of [${from}, ${to})`);
      }
    }
  });

  it('refuses when fewer than k units are present, be it for want of parity', async () => {
    const codec = await RowCodec.create(4, 2, 64);
    expect(() => {
      codec.reconstruct([true, false, true, false, true, false]);
    }).toThrow(RangeError);
    const bare = await filledCodec(2, 0, 64);
    const before = snapshot(bare);
    bare.reconstruct([true, true]);
    expectEqual(unitsOf(bare), before, 'nothing lost');
    expect(() => {
      bare.reconstruct([true, false]);
    }).toThrow(RangeError);
  });
});

describe('RowCodec', () => {
  it('has its units zero at first, one after the other, data as one view', async () => {
    const codec = await RowCodec.create(3, 2, 65536);
    expect([...new Set(unitsOf(codec).flatMap((unit) => [...unit]))]).toEqual([0]);
    codec.unit(2).fill(7);
    expect(codec.data.length).toBe(3 * 65536);
    expect([...new Set(codec.data.subarray(2 * 65536))]).toEqual([7]);
    expect(codec.data[2 * 65536 - 1]).toBe(0);
    expect(codec.unit(4).length).toBe(65536);
  });

  it('works in rows of hundreds of MiB', async () => {
    const unitBytes = 8 << 20;
    const codec = await RowCodec.create(32, 8, unitBytes);
    const end = unitBytes - 64;
    for (let index = 0; index < 32; index++) {
      codec.unit(index).set(noise(64, index), end);
    }
    codec.encode(end);
    const ends = unitsOf(codec).map((unit) => unit.slice(end));
    expectEqual(ends.slice(32), oracleEncode(ends.slice(0, 32), 8), '32 + 8');
  });

  it('refuses wrong ranges, units and sizes', async () => {
    const codec = await RowCodec.create(2, 1, 64);
    for (const [from, to] of [
      [4, 64],
      [0, 60],
      [-8, 64],
      [0, 72],
      [16, 8],
      [NaN, 64],
    ] as const) {
      expect(() => {
        codec.encode(from, to);
      }).toThrow(RangeError);
      expect(() => {
        codec.reconstruct([true, true, false], from, to);
      }).toThrow(RangeError);
      expect(() => {
        codec.accumulate(0, from, to);
      }).toThrow(RangeError);
    }
    expect(() => codec.unit(3)).toThrow(RangeError);
    expect(() => codec.unit(-1)).toThrow(RangeError);
    expect(() => {
      codec.accumulate(2);
    }).toThrow(RangeError);
    await expect(RowCodec.create(0, 2, 64)).rejects.toThrow(RangeError);
    await expect(RowCodec.create(4, 9, 64)).rejects.toThrow(RangeError);
    await expect(RowCodec.create(4, 2, 60)).rejects.toThrow(RangeError);
  });

  it('makes no product of more units than its tables have room for', async () => {
    const kernel = await Kernel.create(0);
    const units = (count: number): number[] => new Array<number>(count).fill(0);
    expect(() => kernel.prepare(units(33), units(1), [])).toThrow(RangeError);
    expect(() => kernel.prepare(units(1), units(9), [])).toThrow(RangeError);
  });

  it('says what to do when the memory is not to be had or the kernel was not built', async () => {
    await expect(RowCodec.create(32, 8, 1 << 30)).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining('cannot allocate') as string,
    });
    await expect(compileKernel(pathToFileURL('/nowhere/kernel.wasm'))).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining('npm run build') as string,
    });
  });
});
