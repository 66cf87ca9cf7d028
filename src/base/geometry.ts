/**
 * The shape of a group: how many chunk files, how large, and in what units they are striped.
 *
 * A group of `data` + `parity` chunk files is a sequence of stripe rows. Row r takes the bytes
 * [r * unitBytes, (r + 1) * unitBytes) of every file. The data area is the concatenation of the data
 * units, row by row; an address is a byte offset in it, and a position is address / 8.
 */
import { GIB, isPowerOfTwo, KIB, MIB } from './bytes.js';
import { ChunkvolError } from './errors.js';

export interface Geometry {
  /** k: data members of a group. */
  readonly data: number;
  /** m: parity members; any m members may be lost. */
  readonly parity: number;
  /** Length of a stripe unit, a power of two. */
  readonly unitBytes: number;
  /** The most bytes that a chunk file may have. */
  readonly chunkBytes: number;
}

export const GEOMETRY_LIMITS: {
  readonly minData: number;
  readonly maxData: number;
  readonly minParity: number;
  readonly maxParity: number;
  readonly minChunkBytes: number;
  readonly maxChunkBytes: number;
  /** Positions are 32-bit counts of 8-byte words. */
  readonly maxDataAreaBytes: number;
  readonly minBlockBytes: number;
  readonly maxBlockBytes: number;
  readonly minUnitBytes: number;
  /** Keeps the list of unit MACs in a footer at 64 KiB or less. */
  readonly maxRows: number;
} = {
  minData: 1,
  maxData: 32,
  minParity: 0,
  maxParity: 8,
  minChunkBytes: MIB,
  maxChunkBytes: 16 * GIB,
  maxDataAreaBytes: 32 * GIB,
  minBlockBytes: 4 * KIB,
  maxBlockBytes: 64 * KIB,
  minUnitBytes: 64 * KIB,
  maxRows: 4096,
};

/** Bytes of a chunk file's header; the first of its first stripe unit. */
export const HEADER_BYTES = 512;

/** Every commit starts and ends on a multiple of this, so that no flushed sector is written again. */
export const SECTOR_BYTES: number = 4 * KIB;

const PREFERRED_UNIT_BYTES = 256 * KIB;

/**
 * The stripe unit for a chunk size and block size: 256 KiB where that leaves 16 to 4096 rows, and at
 * least 32 blocks, so that what is left over at a unit's end stays below 3 %.
 */
function chooseUnitBytes(chunkBytes: number, blockBytes: number): number {
  const forRows = chunkBytes / GEOMETRY_LIMITS.maxRows;
  const small = Math.min(PREFERRED_UNIT_BYTES, chunkBytes / 16);
  const wanted = Math.max(forRows, small, 32 * blockBytes, GEOMETRY_LIMITS.minUnitBytes);
  return 2 ** Math.ceil(Math.log2(wanted));
}

/** Checks what a user asked for and completes it. Throws ChunkvolError('usage'). */
export function makeGeometry(
  data: number,
  parity: number,
  chunkBytes: number,
  blockBytes: number,
): Geometry {
  const limits = GEOMETRY_LIMITS;
  requireRange('--data', data, limits.minData, limits.maxData);
  requireRange('--parity', parity, limits.minParity, limits.maxParity);
  requireRange('--chunk-size', chunkBytes, limits.minChunkBytes, limits.maxChunkBytes);
  if (chunkBytes % limits.minUnitBytes !== 0) {
    throw new ChunkvolError('usage', '--chunk-size must be a multiple of 64K');
  }
  if (!isPowerOfTwo(blockBytes)) {
    throw new ChunkvolError('usage', '--block-size must be a power of two');
  }
  requireRange('--block-size', blockBytes, limits.minBlockBytes, limits.maxBlockBytes);
  if (data * chunkBytes > limits.maxDataAreaBytes) {
    throw new ChunkvolError(
      'usage',
      '--data times --chunk-size must not exceed 32G; use fewer data files or smaller chunks',
    );
  }
  const unitBytes = chooseUnitBytes(chunkBytes, blockBytes);
  if (unitBytes * 4 > chunkBytes) {
    throw new ChunkvolError(
      'usage',
      `a block size of ${blockBytes / KIB}K needs chunks of at least ${(unitBytes * 4) / MIB}M`,
    );
  }
  return { data, parity, unitBytes, chunkBytes };
}

/** Whether numbers read from a file describe a geometry that this program can work with. */
export function isValidGeometry(geometry: Geometry): boolean {
  const { data, parity, unitBytes, chunkBytes } = geometry;
  const limits = GEOMETRY_LIMITS;
  return (
    within(data, limits.minData, limits.maxData) &&
    within(parity, limits.minParity, limits.maxParity) &&
    within(chunkBytes, limits.minChunkBytes, limits.maxChunkBytes) &&
    data * chunkBytes <= limits.maxDataAreaBytes &&
    isPowerOfTwo(unitBytes) &&
    unitBytes >= limits.minUnitBytes &&
    unitBytes <= chunkBytes &&
    chunkBytes / unitBytes <= limits.maxRows
  );
}

function within(value: number, min: number, max: number): boolean {
  return Number.isSafeInteger(value) && value >= min && value <= max;
}

function requireRange(option: string, value: number, min: number, max: number): void {
  if (!within(value, min, max)) {
    throw new ChunkvolError('usage', `${option} must be from ${show(min)} to ${show(max)}`);
  }
}

function show(value: number): string {
  if (value >= GIB) return `${value / GIB}G`;
  if (value >= MIB) return `${value / MIB}M`;
  return value >= KIB ? `${value / KIB}K` : String(value);
}

export function memberCount(geometry: Geometry): number {
  return geometry.data + geometry.parity;
}
