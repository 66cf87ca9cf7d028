/**
 * Whether what many clients did at once to one disk could have been done one after the other, each
 * operation at one moment between its start and its end; cell by cell, a cell being what is written whole.
 *
 * Writes put a number of their own into each cell, so that the test of Gibbons and Korach for registers
 * with unique values applies: all operations that met a value make its zone, from the first end among
 * them to the last start (forward, when that comes later) or from the last start to the first end
 * (backward). A history is linearizable exactly when no two forward zones overlap and no backward zone
 * lies in a forward one. Zeros are not unique: for them it is demanded that a write of zeros was not yet
 * surely overwritten when they were read; leaving them out of the first test changes nothing.
 */

interface Operation {
  readonly start: number;
  readonly end: number;
}

interface Zone extends Operation {
  readonly value: number;
  readonly isForward: boolean;
}

/** The history of one cell, zero at the beginning. */
export class CellHistory {
  private readonly writes = new Map<number, Operation>();
  private readonly zeros: Operation[] = [{ start: -1, end: -1 }];
  private readonly reads: (Operation & { readonly value: number })[] = [];

  /** `value` 0: zeros. Any other value is written once. */
  wrote(value: number, start: number, end: number): void {
    if (value === 0) this.zeros.push({ start, end });
    else this.writes.set(value, { start, end });
  }

  read(value: number, start: number, end: number): void {
    this.reads.push({ value, start, end });
  }

  /** What is wrong, or null. */
  fault(): string | null {
    return this.faultOfZeros() ?? this.faultOfZones();
  }

  private faultOfZones(): string | null {
    const zones = new Map<number, { firstEnd: number; lastStart: number }>();
    for (const [value, { start, end }] of this.writes) {
      zones.set(value, { firstEnd: end, lastStart: start });
    }
    for (const { value, start, end } of this.reads) {
      if (value === 0) continue;
      const write = this.writes.get(value);
      if (!write) return `${value} was read and never written`;
      if (end < write.start) return `${value} was read before it was written`;
      const zone = zones.get(value)!;
      zone.firstEnd = Math.min(zone.firstEnd, end);
      zone.lastStart = Math.max(zone.lastStart, start);
    }
    const all = [...zones].map(([value, { firstEnd, lastStart }]): Zone => {
      const isForward = firstEnd < lastStart;
      return isForward
        ? { value, isForward, start: firstEnd, end: lastStart }
        : { value, isForward, start: lastStart, end: firstEnd };
    });
    return faultOf(all);
  }

  private faultOfZeros(): string | null {
    const all = [...this.writes.values(), ...this.zeros].sort((a, b) => a.end - b.end);
    const latestStarts = runningMaximum(all.map(({ start }) => start));
    const zeros = [...this.zeros].sort((a, b) => a.start - b.start);
    const latestEnds = runningMaximum(zeros.map(({ end }) => end));
    for (const { value, start, end } of this.reads) {
      if (value !== 0) continue;
      const done = countBelow(all, start, (write) => write.end);
      const overwrittenBefore = done === 0 ? -Infinity : latestStarts[done - 1]!;
      const begun = countBelow(zeros, end, (write) => write.start);
      if (begun === 0 || latestEnds[begun - 1]! < overwrittenBefore) {
        return `zeros were read from ${start} to ${end}, after they were overwritten`;
      }
    }
    return null;
  }
}

function faultOf(zones: readonly Zone[]): string | null {
  const forward = zones.filter(({ isForward }) => isForward).sort((a, b) => a.start - b.start);
  for (const [index, zone] of forward.entries()) {
    const next = forward[index + 1];
    if (next && next.start < zone.end) return `${zone.value} and ${next.value} alternate`;
  }
  for (const { value, isForward, start, end } of zones) {
    if (isForward) continue;
    const before = countBelow(forward, start, (zone) => zone.start);
    const around = forward[before - 1];
    if (around && end < around.end) return `${value} came and went while ${around.value} stayed`;
  }
  return null;
}

function runningMaximum(values: readonly number[]): number[] {
  let most = -Infinity;
  return values.map((value) => (most = Math.max(most, value)));
}

/** How many of `sorted` have a key below `limit`. */
function countBelow<T>(sorted: readonly T[], limit: number, key: (item: T) => number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (key(sorted[middle]!) < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
