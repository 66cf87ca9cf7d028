/**
 * What a disk may hold: of every block, the contents that it has had since the last flush.
 *
 * Operations are announced before they are started and acknowledged when they resolve. After a crash a
 * block may hold what it held at the last acknowledged flush, or anything announced since.
 */
import { isZero } from '../../src/base/bytes.js';
import type { Block } from './engine.js';

interface Version {
  readonly serial: number;
  readonly block: Block;
}

export class DiskOracle {
  /** By block; the last is the present one. Blocks that are not here are zeros, always were. */
  private versions = new Map<number, Version[]>();
  private serial = 0;
  /** Blocks of operations that are under way, or that failed: they may hold any of their versions. */
  private readonly uncertain = new Map<number, number>();

  constructor(readonly blockBytes: number) {}

  /** Of a disk in a known state. */
  static of(blockBytes: number, state: ReadonlyMap<number, Uint8Array>): DiskOracle {
    const oracle = new DiskOracle(blockBytes);
    for (const [block, bytes] of state) oracle.push(block, bytes);
    for (const block of state.keys()) oracle.versions.get(block)!.shift();
    return oracle;
  }

  /** Blocks that were ever changed, ascending. */
  get blocks(): number[] {
    return [...this.versions.keys()].sort((a, b) => a - b);
  }

  /** Announces that `bytes` bytes at `offset` change: to `data`, or to zeros. Returns the blocks. */
  announce(offset: number, bytes: number, data: Uint8Array | null): number[] {
    const { blockBytes } = this;
    const blocks: number[] = [];
    for (
      let block = Math.floor(offset / blockBytes);
      block * blockBytes < offset + bytes;
      block++
    ) {
      const start = block * blockBytes;
      const from = Math.max(start, offset);
      const to = Math.min(start + blockBytes, offset + bytes);
      const whole = new Uint8Array(blockBytes);
      whole.set(this.present(block) ?? []);
      if (data) whole.set(data.subarray(from - offset, to - offset), from - start);
      else whole.fill(0, from - start, to - start);
      this.push(block, whole);
      this.uncertain.set(block, (this.uncertain.get(block) ?? 0) + 1);
      blocks.push(block);
    }
    return blocks;
  }

  acknowledge(blocks: readonly number[]): void {
    for (const block of blocks) {
      const left = this.uncertain.get(block)! - 1;
      if (left > 0) this.uncertain.set(block, left);
      else this.uncertain.delete(block);
    }
  }

  /** To be called when a flush (of some blocks) is started; what it returns, when it is acknowledged. */
  flushing(blocks: Iterable<number> = this.versions.keys()): () => void {
    const upTo = new Map<number, number>();
    for (const block of blocks) {
      if (!this.uncertain.has(block)) upTo.set(block, this.versions.get(block)!.at(-1)!.serial);
    }
    return () => {
      for (const [block, serial] of upTo) {
        const versions = this.versions.get(block)!;
        this.versions.set(
          block,
          versions.filter((version) => version.serial >= serial),
        );
      }
    };
  }

  /** After an operation that failed: what the block is now, and nobody knows for how long. */
  observe(block: number, found: Uint8Array): void {
    this.check(block, found);
    this.push(block, found.slice());
  }

  /** Of a running volume: throws unless the block is what was last acknowledged. */
  checkPresent(block: number, found: Uint8Array): void {
    if (this.uncertain.has(block)) this.check(block, found);
    else if (!same(this.present(block), found)) throw wrong(block, 'is not what was written');
  }

  /** Of a recovered volume: throws unless the block is something that it may be. */
  check(block: number, found: Uint8Array): void {
    this.recognize(block, found);
  }

  /** The block was read after a crash: this is what it is from now on, durably. */
  settle(block: number, found: Uint8Array): void {
    const version = this.recognize(block, found);
    this.versions.set(block, [{ serial: ++this.serial, block: version.block }]);
    this.uncertain.delete(block);
  }

  copy(): DiskOracle {
    const copy = new DiskOracle(this.blockBytes);
    for (const [block, versions] of this.versions) copy.versions.set(block, [...versions]);
    for (const [block, count] of this.uncertain) copy.uncertain.set(block, count);
    copy.serial = this.serial;
    return copy;
  }

  /** The version that was found; throws when it is none. */
  private recognize(block: number, found: Uint8Array): Version {
    const versions = this.versions.get(block) ?? [{ serial: 0, block: null }];
    const version = versions.find((candidate) => same(candidate.block, found));
    if (version) return version;
    throw wrong(block, `is none of the ${versions.length} contents that it may have`);
  }

  private present(block: number): Block {
    return this.versions.get(block)?.at(-1)!.block ?? null;
  }

  private push(block: number, bytes: Uint8Array): void {
    const versions = this.versions.get(block) ?? [{ serial: 0, block: null }];
    const version = { serial: ++this.serial, block: isZero(bytes) ? null : bytes };
    this.versions.set(block, [...versions, version]);
  }
}

function same(block: Block, found: Uint8Array): boolean {
  return block ? Buffer.compare(block, found) === 0 : isZero(found);
}

function wrong(block: number, what: string): Error {
  return new Error(`block ${block} ${what}`);
}
