/**
 * Who reads a slot has its address for a while. Before files are deleted, every read that began while
 * something still led to them must be over.
 */

interface Epoch {
  running: number;
  readonly over: Promise<void>;
  readonly end: () => void;
}

export class ReadEpochs {
  private current: Epoch = newEpoch();
  private earlier: Promise<void> = Promise.resolve();

  /** Runs a read: it keeps the files that it may find. */
  async run<T>(read: () => Promise<T>): Promise<T> {
    const epoch = this.current;
    epoch.running++;
    try {
      return await read();
    } finally {
      if (--epoch.running === 0 && epoch !== this.current) epoch.end();
    }
  }

  /** Resolves when all reads that began before the call are over. */
  passed(): Promise<void> {
    const closed = this.current;
    this.current = newEpoch();
    if (closed.running === 0) closed.end();
    this.earlier = Promise.all([this.earlier, closed.over]).then(() => undefined);
    return this.earlier;
  }
}

function newEpoch(): Epoch {
  let end!: () => void;
  const over = new Promise<void>((resolve) => (end = resolve));
  return { running: 0, over, end };
}
