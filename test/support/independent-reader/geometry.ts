/** Section 5 of docs/format.md: geometry and addresses of groups. */
import { Damaged, within, type Fields } from './fields.js';

export interface Geometry {
  readonly data: number;
  readonly parity: number;
  readonly unit: number;
  readonly chunk: number;
}

export function parseGeometry(fields: Fields): Geometry {
  const geometry = {
    data: fields.u8(),
    parity: fields.u8(),
    unit: 2 ** fields.u8(),
    chunk: fields.u64(),
  };
  const { data, parity, unit, chunk } = geometry;
  const possible =
    within(data, 1, 32) &&
    within(parity, 0, 8) &&
    within(chunk, 2 ** 20, 2 ** 34) &&
    within(unit, 2 ** 16, chunk) &&
    data * chunk <= 2 ** 35 &&
    chunk / unit <= 4096;
  if (!possible) throw new Damaged('an impossible geometry');
  return geometry;
}

/** The page calls it skip. */
export const skipHeader = ({ data, unit }: Geometry, a: number): number =>
  a < data * unit && a % unit < 512 ? a - (a % unit) + 512 : a;

export function place(geometry: Geometry, address: number, bytes: number): number {
  const { unit } = geometry;
  const start = skipHeader(geometry, address);
  if ((start % unit) + bytes <= unit) return start;
  return skipHeader(geometry, (Math.floor(start / unit) + 1) * unit);
}

export const rows = ({ data, unit }: Geometry, end: number): number =>
  Math.ceil(end / (data * unit));

export function unitBytes(geometry: Geometry, end: number, member: number, row: number): number {
  const column = member < geometry.data ? member : 0;
  const left = end - (row * geometry.data + column) * geometry.unit;
  return Math.min(Math.max(left, 0), geometry.unit);
}

export function memberBytes(geometry: Geometry, end: number, member: number): number {
  const last = rows(geometry, end) - 1;
  if (last < 0) return 512;
  return Math.max(512, last * geometry.unit + unitBytes(geometry, end, member, last));
}

export const footerBytes = ({ data, parity }: Geometry, rowCount: number): number =>
  152 + 32 * (data + parity) + 4 + 16 * rowCount + 16 + 48;
