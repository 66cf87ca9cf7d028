/**
 * Stripe arithmetic: where an address of a group's data area lies in its chunk files.
 *
 *   file 0        file 1        ...  file k-1       parity files
 *   [H|unit 0   ] [H|unit 1   ] ...  [H|unit k-1  ] [H|parity   ]   row 0
 *   [  unit k   ] [  unit k+1 ] ...  [  unit 2k-1 ] [  parity   ]   row 1
 *
 * Addresses run through the units from left to right, row by row. The first HEADER_BYTES (H) of a
 * file belong to its header, so those addresses of row 0 hold nothing. A piece (a slot or a record)
 * never crosses a unit: reading one is one read of one file.
 */
import { HEADER_BYTES, SECTOR_BYTES, type Geometry } from '../base/geometry.js';

export interface Location {
  readonly member: number;
  readonly row: number;
  /** Byte offset in the chunk file. */
  readonly offset: number;
}

export function rowBytes(geometry: Geometry): number {
  return geometry.data * geometry.unitBytes;
}

export function locate(geometry: Geometry, address: number): Location {
  const { unitBytes, data } = geometry;
  const unit = Math.floor(address / unitBytes);
  const row = Math.floor(unit / data);
  return { member: unit % data, row, offset: row * unitBytes + (address % unitBytes) };
}

/** The address where a piece of `bytes` goes when everything before `address` is taken. */
export function place(geometry: Geometry, address: number, bytes: number): number {
  const { unitBytes } = geometry;
  let start = skipHeader(geometry, address);
  if ((start % unitBytes) + bytes > unitBytes) {
    start = skipHeader(geometry, (Math.floor(start / unitBytes) + 1) * unitBytes);
  }
  return start;
}

/** How many pieces of `bytes` fit one after another from `address` (as `place` returned it) in its unit. */
export function piecesInUnit(geometry: Geometry, address: number, bytes: number): number {
  return Math.floor((geometry.unitBytes - (address % geometry.unitBytes)) / bytes);
}

/** The end of a commit whose last piece ends at `address`: the next sector boundary. */
export function commitEnd(address: number): number {
  return Math.ceil(address / SECTOR_BYTES) * SECTOR_BYTES;
}

function skipHeader(geometry: Geometry, address: number): number {
  if (address >= rowBytes(geometry)) return address;
  const inUnit = address % geometry.unitBytes;
  return inUnit < HEADER_BYTES ? address - inUnit + HEADER_BYTES : address;
}

/** Bytes of the unit of `member` in `row`, header included, when the data area ends at `end`. */
export function unitLength(geometry: Geometry, end: number, member: number, row: number): number {
  // A parity unit is as long as the longest data unit of its row: the first.
  const column = member < geometry.data ? member : 0;
  const start = (row * geometry.data + column) * geometry.unitBytes;
  return Math.min(Math.max(end - start, 0), geometry.unitBytes);
}

/** Rows that hold anything when the data area ends at `end`. */
export function rowCount(geometry: Geometry, end: number): number {
  return Math.ceil(end / rowBytes(geometry));
}

/** Bytes of a chunk file before its footer: header and units. */
export function memberBytes(geometry: Geometry, end: number, member: number): number {
  const rows = rowCount(geometry, end);
  if (rows === 0) return HEADER_BYTES;
  const last = (rows - 1) * geometry.unitBytes + unitLength(geometry, end, member, rows - 1);
  return Math.max(last, HEADER_BYTES);
}

/** The part of a unit that holds data: row 0 begins behind the header. */
export function unitStart(row: number): number {
  return row === 0 ? HEADER_BYTES : 0;
}
