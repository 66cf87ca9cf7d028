/** Reusable buffers for reads, by power-of-two size: a read of a run needs a place for its slots. */

const SMALLEST_LOG2 = 12;
const LARGEST_LOG2 = 23;
/** Buffers kept of each size. */
const MAX_KEPT = 16;

export class ScratchBuffers {
  private readonly kept: Buffer[][] = [];

  /** At least `bytes` bytes, of undefined content. Give it back with `release`. */
  acquire(bytes: number): Buffer {
    const log2 = Math.max(Math.ceil(Math.log2(bytes)), SMALLEST_LOG2);
    return this.kept[log2]?.pop() ?? Buffer.allocUnsafeSlow(2 ** log2);
  }

  release(buffer: Buffer): void {
    const log2 = Math.log2(buffer.length);
    if (log2 > LARGEST_LOG2) return;
    const shelf = (this.kept[log2] ??= []);
    if (shelf.length < MAX_KEPT) shelf.push(buffer);
  }
}
