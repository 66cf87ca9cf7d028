/**
 * Locks on ranges of blocks: two writes that touch the same block take effect one after the other,
 * even when the first has to read what it only changes in part.
 */

interface Held {
  readonly start: number;
  readonly end: number;
  readonly done: Promise<void>;
}

export class BlockLocks {
  private readonly held = new Set<Held>();

  /** Whether nobody holds any block of [start, end). */
  isFree(start: number, end: number): boolean {
    for (const other of this.held) if (overlaps(other, start, end)) return false;
    return true;
  }

  /** Runs `work` when nobody who came earlier holds any block of [start, end). */
  async with(start: number, end: number, work: () => Promise<void>): Promise<void> {
    const earlier: Promise<void>[] = [];
    for (const other of this.held) {
      if (overlaps(other, start, end)) earlier.push(other.done);
    }
    let release!: () => void;
    const mine: Held = { start, end, done: new Promise((resolve) => (release = resolve)) };
    this.held.add(mine);
    try {
      if (earlier.length > 0) await Promise.all(earlier);
      await work();
    } finally {
      this.held.delete(mine);
      release();
    }
  }
}

function overlaps(held: Held, start: number, end: number): boolean {
  return held.start < end && start < held.end;
}
