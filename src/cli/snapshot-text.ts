/** Snapshots for people to read. */
import type { SnapshotInfo } from '../volume/snapshots.js';
import { formatBytes } from './size.js';
import type { MeasuredSnapshot } from './snapshot-operations.js';

const TITLES = ['name', 'time', 'in use', 'deleting frees'];

/** One line for each, under a line of titles; none at all when there is nothing. */
export function snapshotTable(all: readonly MeasuredSnapshot[]): string[] {
  if (all.length === 0) return [];
  const rows = all.map((one) => [
    one.name,
    localTime(one),
    formatBytes(one.mappedBytes),
    one.freedBytes === null ? 'unknown' : formatBytes(one.freedBytes),
  ]);
  const widths = TITLES.map((title, at) =>
    Math.max(...[title, ...rows.map((row) => row[at]!)].map((text) => text.length)),
  );
  return [TITLES, ...rows].map((row) =>
    row
      .map((text, at) => text.padEnd(widths[at]!))
      .join('  ')
      .trimEnd(),
  );
}

/** The moment of a snapshot in local time: "2026-11-25 02:22:06". */
export function localTime({ timeMs }: Pick<SnapshotInfo, 'timeMs'>): string {
  const date = new Date(timeMs);
  const two = (number: number): string => String(number).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}
