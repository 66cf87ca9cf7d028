/** A set of whole numbers, of blocks or bytes, as sorted, disjoint, non-adjacent ranges [start, end). */

export interface Range {
  readonly start: number;
  readonly end: number;
}

export class RangeSet {
  private ranges: Range[] = [];

  get size(): number {
    return this.ranges.length;
  }

  add(start: number, end: number): void {
    if (start >= end) return;
    const first = this.firstEndingAt(start);
    let last = first;
    let from = start;
    let to = end;
    while (last < this.ranges.length && this.ranges[last]!.start <= end) {
      from = Math.min(from, this.ranges[last]!.start);
      to = Math.max(to, this.ranges[last]!.end);
      last++;
    }
    this.ranges.splice(first, last - first, { start: from, end: to });
  }

  has(value: number): boolean {
    const range = this.ranges[this.firstEndingAt(value + 1)];
    return range !== undefined && range.start <= value;
  }

  /** Where the answer of `has` next changes behind `value`; Infinity when it does not. */
  nextChange(value: number): number {
    const range = this.ranges[this.firstEndingAt(value + 1)];
    if (!range) return Infinity;
    return range.start <= value ? range.end : range.start;
  }

  /** Removes and returns the first `limit` ranges. */
  take(limit: number): Range[] {
    return this.ranges.splice(0, limit);
  }

  /** Index of the first range with end >= value. */
  private firstEndingAt(value: number): number {
    let low = 0;
    let high = this.ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ranges[middle]!.end < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
