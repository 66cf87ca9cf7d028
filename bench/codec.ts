/**
 * Benchmark of the codec: 4 + 2, encode and reconstruct of two data units, this project's kernel
 * beside the library that defines the code. Rounds alternate between the two; medians are reported,
 * in GB (1e9 bytes) of data units read a second. Each works in its natural way: the kernel in
 * place, the library on an array that it copies into its memory and back.
 */
import { ReedSolomonErasure } from '@subspace/reed-solomon-erasure.wasm';
import { RowCodec } from '../src/erasure/row-codec.js';

const DATA_UNITS = 4;
const PARITY_UNITS = 2;
const UNITS = DATA_UNITS + PARITY_UNITS;
/** Units 0 and 2 are lost. */
const PRESENT = [false, true, false, true, true, true];

/** The unit of a 1 GiB chunk file (the row fits the caches), and one that does not fit. */
const UNIT_KIB = [256, 8192];
const ROUNDS = { quick: 5, full: 15 };
/** Data encoded per measurement. */
const ROUND_BYTES = { quick: 64e6, full: 256e6 };

interface Report {
  title: string;
  rows: { name: string; unit: string; value: number }[];
}

export async function run(options: { quick: boolean }): Promise<Report> {
  const size = options.quick ? 'quick' : 'full';
  const rows: Report['rows'] = [];
  for (const unitKib of UNIT_KIB) {
    const rates = await measure(unitKib * 1024, ROUNDS[size], ROUND_BYTES[size]);
    for (const [work, kernel, library] of [
      ['encode', rates.kernelEncode, rates.libraryEncode],
      ['reconstruct 2', rates.kernelReconstruct, rates.libraryReconstruct],
    ] as const) {
      const name = `${work}, ${unitKib} KiB units`;
      rows.push({ name: `${name}: kernel`, unit: 'GB/s', value: kernel });
      rows.push({ name: `${name}: library`, unit: 'GB/s', value: library });
      rows.push({ name: `${name}: kernel / library`, unit: 'x', value: kernel / library });
    }
  }
  return { title: 'Reed-Solomon 4 + 2', rows };
}

type Contestant = 'kernelEncode' | 'libraryEncode' | 'kernelReconstruct' | 'libraryReconstruct';

/** Median rate of each in GB/s, after one round that does not count. */
async function measure(
  unitBytes: number,
  rounds: number,
  roundBytes: number,
): Promise<Record<Contestant, number>> {
  const codec = await RowCodec.create(DATA_UNITS, PARITY_UNITS, unitBytes);
  codec.data.forEach((_, at) => (codec.data[at] = (at * 31 + (at >> 8)) & 0xff));
  const row = new Uint8Array(UNITS * unitBytes);
  row.set(codec.data);
  const rates: Record<Contestant, number[]> = {
    kernelEncode: [],
    libraryEncode: [],
    kernelReconstruct: [],
    libraryReconstruct: [],
  };
  const repeats = Math.ceil(roundBytes / (DATA_UNITS * unitBytes));
  // The library is some ten times slower: a tenth of the work takes the time that the kernel takes.
  const libraryRepeats = Math.ceil(repeats / 10);
  for (let round = 0; round <= rounds; round++) {
    // The library's reconstruct leaves its memory damaged, so that no instance is used for long.
    const library = await ReedSolomonErasure.fromCurrentDirectory();
    const time = (name: Contestant, times: number, work: () => void): void => {
      const seconds = secondsOf(times, work);
      if (round > 0) rates[name].push((DATA_UNITS * unitBytes * times) / seconds / 1e9);
    };
    time('kernelEncode', repeats, () => {
      codec.encode();
    });
    time('libraryEncode', libraryRepeats, () => {
      check(library.encode(row, DATA_UNITS, PARITY_UNITS));
    });
    time('kernelReconstruct', repeats, () => {
      codec.reconstruct(PRESENT);
    });
    time('libraryReconstruct', libraryRepeats, () => {
      check(library.reconstruct(row, DATA_UNITS, PARITY_UNITS, PRESENT));
    });
  }
  for (let index = 0; index < UNITS; index++) {
    const ours = codec.unit(index);
    const theirs = row.subarray(index * unitBytes, (index + 1) * unitBytes);
    if (Buffer.compare(ours, theirs) !== 0) throw new Error(`unit ${index} differs`);
  }
  return {
    kernelEncode: median(rates.kernelEncode),
    libraryEncode: median(rates.libraryEncode),
    kernelReconstruct: median(rates.kernelReconstruct),
    libraryReconstruct: median(rates.libraryReconstruct),
  };
}

function secondsOf(times: number, work: () => void): number {
  const start = performance.now();
  for (let i = 0; i < times; i++) work();
  return (performance.now() - start) / 1000;
}

function check(result: number): void {
  if (result !== ReedSolomonErasure.RESULT_OK) throw new Error(`the library says ${result}`);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
