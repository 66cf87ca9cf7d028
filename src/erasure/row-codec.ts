/**
 * The codec of one stripe row: k data units and m parity units, in wasm memory that callers read
 * and write in place.
 *
 * Unit i lies at i * unitBytes of the kernel's bytes, data first. Which combination of which units
 * a lost one is, is worked out once per pattern of loss and kept for the next time.
 */
import { Kernel, RANGE_UNIT_BYTES, type Product, type SharedKernel } from './kernel.js';
import { checkGeometry, parityMatrix, rebuildMatrix } from './matrix.js';

/** Patterns of loss kept: all 22 of 4 + 2, and 330 KB at most where patterns are many and large. */
const MAX_CACHED_REBUILDS = 40;

/** A row's shape and memory, in a form that can be sent to another thread. */
export interface SharedRow {
  readonly dataUnits: number;
  readonly parityUnits: number;
  readonly unitBytes: number;
  readonly kernel: SharedKernel;
}

export class RowCodec {
  readonly dataUnits: number;
  readonly parityUnits: number;
  readonly unitBytes: number;
  /** The k data units, contiguous: k * unitBytes bytes in wasm memory. */
  readonly data: Uint8Array;

  private readonly kernel: Kernel;
  private readonly encoding: Product;
  /** For each data unit, its share of the parity units. */
  private readonly shares: readonly Product[];
  /** Rebuilds by pattern of loss, in the order of their last use. */
  private readonly rebuilds = new Map<string, Product>();

  private constructor(kernel: Kernel, dataUnits: number, parityUnits: number, unitBytes: number) {
    this.kernel = kernel;
    this.dataUnits = dataUnits;
    this.parityUnits = parityUnits;
    this.unitBytes = unitBytes;
    this.data = kernel.bytes.subarray(0, dataUnits * unitBytes);

    const positions = Array.from({ length: dataUnits + parityUnits }, (_, i) => i * unitBytes);
    const sources = positions.slice(0, dataUnits);
    const targets = positions.slice(dataUnits);
    const rows = parityMatrix(dataUnits, parityUnits);
    this.encoding = kernel.prepare(sources, targets, rows);
    this.shares = sources.map((source, index) =>
      kernel.prepare(
        [source],
        targets,
        rows.map((row) => row.slice(index, index + 1)),
      ),
    );
  }

  /**
   * Allocates dataUnits + parityUnits units of `unitBytes` each, all zero, in a memory of their
   * own. Throws RangeError unless 1 <= dataUnits <= 32, 0 <= parityUnits <= 8 and unitBytes is a
   * positive multiple of 8; ChunkvolError when the kernel was not built or the memory is not to be
   * had.
   */
  static async create(
    dataUnits: number,
    parityUnits: number,
    unitBytes: number,
  ): Promise<RowCodec> {
    checkGeometry(dataUnits, parityUnits);
    if (!Number.isSafeInteger(unitBytes) || unitBytes <= 0 || unitBytes % RANGE_UNIT_BYTES !== 0) {
      throw new RangeError(`unitBytes must be a positive multiple of 8, not ${unitBytes}`);
    }
    const kernel = await Kernel.create((dataUnits + parityUnits) * unitBytes);
    return new RowCodec(kernel, dataUnits, parityUnits, unitBytes);
  }

  /** The codec of another thread's row: only one of the two may compute. */
  static over({ kernel, dataUnits, parityUnits, unitBytes }: SharedRow): RowCodec {
    return new RowCodec(new Kernel(kernel), dataUnits, parityUnits, unitBytes);
  }

  get shared(): SharedRow {
    const { dataUnits, parityUnits, unitBytes } = this;
    return { dataUnits, parityUnits, unitBytes, kernel: this.kernel.shared };
  }

  /** Another codec of the same shape, all zero, without waiting. */
  another(): RowCodec {
    return new RowCodec(this.kernel.another(), this.dataUnits, this.parityUnits, this.unitBytes);
  }

  /** View of unit `index`: 0 to k - 1 are data, k to k + m - 1 parity. */
  unit(index: number): Uint8Array {
    if (!Number.isInteger(index) || index < 0 || index >= this.dataUnits + this.parityUnits) {
      throw new RangeError(`there is no unit ${index}`);
    }
    return this.kernel.bytes.subarray(index * this.unitBytes, (index + 1) * this.unitBytes);
  }

  /** Computes the parity units' bytes [from, to), multiples of 8, from the data units. */
  encode(from = 0, to: number = this.unitBytes): void {
    this.checkRange(from, to);
    this.kernel.run(this.encoding, from, to);
  }

  /**
   * Adds the share of data unit `index` to the parity units' bytes [from, to), multiples of 8.
   * Parity that started as zero is what `encode` computes once each data unit was added; adding the
   * difference (XOR) of old and new bytes brings parity up to date.
   */
  accumulate(index: number, from = 0, to: number = this.unitBytes): void {
    const share = this.shares[index];
    if (!share) throw new RangeError(`there is no data unit ${index}`);
    this.checkRange(from, to);
    this.kernel.run(share, from, to, true);
  }

  /**
   * Recomputes the bytes [from, to), multiples of 8, of every unit that is not `present`, data and
   * parity alike, from k that are. `present` has k + m entries. Throws RangeError when fewer than k
   * are present.
   */
  reconstruct(present: readonly boolean[], from = 0, to: number = this.unitBytes): void {
    this.checkRange(from, to);
    this.kernel.run(this.rebuildOf(present), from, to);
  }

  private rebuildOf(present: readonly boolean[]): Product {
    const pattern = present.map((here) => (here ? '1' : '0')).join('');
    const known = this.rebuilds.get(pattern);
    if (known) {
      this.rebuilds.delete(pattern);
      this.rebuilds.set(pattern, known);
      return known;
    }
    const { sources, targets, rows } = rebuildMatrix(this.dataUnits, this.parityUnits, present);
    const position = (index: number): number => index * this.unitBytes;
    const rebuild = this.kernel.prepare(sources.map(position), targets.map(position), rows);
    const oldest = this.rebuilds.keys().next();
    if (this.rebuilds.size >= MAX_CACHED_REBUILDS && !oldest.done) {
      this.rebuilds.delete(oldest.value);
    }
    this.rebuilds.set(pattern, rebuild);
    return rebuild;
  }

  private checkRange(from: number, to: number): void {
    const whole = from % RANGE_UNIT_BYTES === 0 && to % RANGE_UNIT_BYTES === 0;
    if (!whole || from < 0 || from > to || to > this.unitBytes) {
      throw new RangeError(`[${from}, ${to}) is no range of multiples of 8 in a unit`);
    }
  }
}
