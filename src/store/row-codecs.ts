/**
 * Row buffers of the groups of a volume that are being written: what one group needs no more serves the next.
 *
 * Memory of wasm that is given up stays until a garbage collection comes by, in this thread and in each other
 * that was given it, and none of them knows how much there is.
 */
import type { Geometry } from '../base/geometry.js';
import { RowCodec } from '../erasure/row-codec.js';

export class RowCodecs {
  private readonly spare: RowCodec[] = [];

  private constructor(private readonly pattern: RowCodec) {
    this.spare.push(pattern);
  }

  /** Throws ChunkvolError 'internal' when there is no kernel, or no memory. */
  static async create({ data, parity, unitBytes }: Geometry): Promise<RowCodecs> {
    return new RowCodecs(await RowCodec.create(data, parity, unitBytes));
  }

  /** One that nobody uses, with whatever is in it. */
  take(): RowCodec {
    return this.spare.pop() ?? this.pattern.another();
  }

  /** No thread may be busy with it any more. */
  giveBack(codec: RowCodec): void {
    this.spare.push(codec);
  }
}
