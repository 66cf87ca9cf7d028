/** Reusable buffers for reads, by power-of-two size: a read of a run needs a place for its slots. */

const SMALLEST_LOG2 = 12;
const LARGEST_LOG2 = 23;

export class ScratchBuffers {
  private readonly kept: Uint8Array[][] = [];

  /** Keeps up to `maxKept` of each size; `shared`: in memory that another thread can be given. */
  constructor(
    private readonly maxKept: number,
    private readonly kind: 'own' | 'shared' = 'own',
  ) {}

  /** At least `bytes` bytes, of undefined content. Give it back with `release`. */
  acquire(bytes: number): Uint8Array {
    const log2 = Math.max(Math.ceil(Math.log2(bytes)), SMALLEST_LOG2);
    return this.kept[log2]?.pop() ?? this.allocate(2 ** log2);
  }

  release(buffer: Uint8Array): void {
    const log2 = Math.log2(buffer.length);
    if (log2 > LARGEST_LOG2) return;
    const shelf = (this.kept[log2] ??= []);
    if (shelf.length < this.maxKept) shelf.push(buffer);
  }

  private allocate(bytes: number): Uint8Array {
    if (this.kind === 'shared') return new Uint8Array(new SharedArrayBuffer(bytes));
    return Buffer.allocUnsafeSlow(bytes);
  }
}
