/** Many clients at one small disk, their operations overlapping in time and place; see linearizable.ts. */
import type { BlockDevice } from '../../src/base/block-device.js';
import { CellHistory } from '../support/linearizable.js';
import type { Dice } from './dice.js';

const CELL_BYTES = 64;
const BLOCK_BYTES = 4096;
const MAX_CELLS = 200;

export type CrowdedDisk = Pick<BlockDevice, 'read' | 'write' | 'zero' | 'trim' | 'flush'>;

export class Crowd {
  private readonly cells: CellHistory[];
  private now = 0;
  private lastValue = 0;

  /** `disks`: ways to one and the same disk, whose first `bytes` bytes are zeros. */
  constructor(
    private readonly disks: readonly CrowdedDisk[],
    private readonly bytes: number,
    private readonly dice: Dice,
  ) {
    this.cells = Array.from({ length: bytes / CELL_BYTES }, () => new CellHistory());
  }

  /** Runs `operations` in all, `atOnce` at a time on each way. */
  async run(operations: number, atOnce: number): Promise<void> {
    let left = operations;
    const client = async (disk: CrowdedDisk): Promise<void> => {
      while (left-- > 0) await this.operate(disk);
    };
    const clients = this.disks.flatMap((disk) =>
      Array.from({ length: atOnce }, () => client(disk)),
    );
    await Promise.all(clients);
  }

  /** Throws when no order of the operations explains what was read. */
  check(): void {
    for (const [index, cell] of this.cells.entries()) {
      const fault = cell.fault();
      if (fault !== null) throw new Error(`cell ${index}: ${fault}`);
    }
  }

  private async operate(disk: CrowdedDisk): Promise<void> {
    const { dice } = this;
    const count = 1 + dice.below(dice.chance(0.5) ? 4 : MAX_CELLS);
    const first = dice.below(this.cells.length - count + 1);
    const kind = dice.below(20);
    if (kind < 9) return this.read(disk, first, count);
    if (kind < 17) return this.write(disk, first, count);
    if (kind < 18) return this.clear(first, count, (at, bytes) => disk.zero(at, bytes));
    if (kind < 19) {
      // A trim takes effect on whole blocks.
      const from = Math.ceil((first * CELL_BYTES) / BLOCK_BYTES) * BLOCK_BYTES;
      const to = Math.floor(((first + count) * CELL_BYTES) / BLOCK_BYTES) * BLOCK_BYTES;
      if (to <= from) return;
      const cells = [from / CELL_BYTES, (to - from) / CELL_BYTES] as const;
      return this.clear(...cells, (at, bytes) => disk.trim(at, bytes));
    }
    return disk.flush();
  }

  private async read(disk: CrowdedDisk, first: number, count: number): Promise<void> {
    const into = new Uint8Array(count * CELL_BYTES);
    const start = this.now++;
    await disk.read(first * CELL_BYTES, into);
    const end = this.now++;
    for (let i = 0; i < count; i++) {
      const cell = into.subarray(i * CELL_BYTES, (i + 1) * CELL_BYTES);
      this.cells[first + i]!.read(valueOf(cell), start, end);
    }
  }

  private async write(disk: CrowdedDisk, first: number, count: number): Promise<void> {
    const value = ++this.lastValue;
    const bytes = new Uint8Array(new Uint32Array((count * CELL_BYTES) / 4).fill(value).buffer);
    const durable = this.dice.chance(0.1);
    const start = this.now++;
    await disk.write(first * CELL_BYTES, bytes, { durable });
    this.wrote(value, first, count, start);
  }

  private async clear(
    first: number,
    count: number,
    work: (at: number, bytes: number) => Promise<void>,
  ): Promise<void> {
    const start = this.now++;
    await work(first * CELL_BYTES, count * CELL_BYTES);
    this.wrote(0, first, count, start);
  }

  private wrote(value: number, first: number, count: number, start: number): void {
    const end = this.now++;
    for (let i = 0; i < count; i++) this.cells[first + i]!.wrote(value, start, end);
  }
}

/** The number that fills a cell; throws when parts of it are of several writes. */
function valueOf(cell: Uint8Array): number {
  const words = new Uint32Array(cell.slice().buffer);
  if (words.some((word) => word !== words[0])) {
    throw new Error(`a cell is torn: ${[...words].join(' ')}`);
  }
  return words[0]!;
}
