/**
 * The content of one simulated file: what is in the page cache, and for each sector that differs what
 * else may be on the disk after a power cut.
 *
 * - A sector that was written since the last successful fdatasync may be found in any state that it
 *   has had since; one behind the durable end may also hold zeros, or what a disk held before.
 * - After a failed fdatasync the kernel thinks those sectors clean: a later one does not write them.
 */
import { crc32 } from 'node:zlib';
import type { Dice } from './dice.js';

const SECTOR_BYTES = 512;
const PAGE_SECTORS = 8;

/** An earlier state of a sector; null: none, the file ended before it. */
type Version = Uint8Array | null;

const NEW_SECTOR: readonly Version[] = [null];

/** What a power cut does to the sectors of a file that are not durable. */
const FATES = ['lost', 'kept', 'sectors', 'pages', 'start', 'end'] as const;

export class SimulatedContent {
  private data = Buffer.alloc(0);
  /** Whether another content uses the same buffer: it is copied before it is changed. */
  private shared = false;
  private bytes = 0;
  /** Of the present content; null: not computed yet. */
  private sum: number | null = null;
  /** Not durable: every state before the present one, the durable one first. */
  private dirty = new Map<number, readonly Version[]>();
  /** Believed to be durable after an fdatasync failed, and not. */
  private forgotten = new Map<number, readonly Version[]>();
  /** The length that is durable. */
  private durableBytes = 0;
  modifiedMs = 0;

  get size(): number {
    return this.bytes;
  }

  /** Of bytes and length: two contents that differ have different ones, as good as always. */
  get checksum(): number {
    this.sum ??= crc32(this.data.subarray(0, this.bytes)) * 2 ** 20 + (this.bytes % 2 ** 20);
    return this.sum;
  }

  read(into: Uint8Array, position: number): number {
    const got = Math.max(0, Math.min(into.length, this.bytes - position));
    if (got > 0) this.data.copy(into, 0, position, position + got);
    return got;
  }

  write(bytes: Uint8Array, position: number): void {
    const end = position + bytes.length;
    this.remember(Math.min(position, this.bytes), end);
    this.reserve(end);
    this.data.set(bytes, position);
    this.bytes = Math.max(this.bytes, end);
  }

  truncate(bytes: number): void {
    this.remember(Math.min(bytes, this.bytes), Math.max(bytes, this.bytes));
    this.reserve(bytes);
    if (bytes < this.bytes) this.data.fill(0, bytes, this.bytes);
    this.bytes = bytes;
  }

  sync(): void {
    this.dirty.clear();
    this.durableBytes = this.bytes;
  }

  /** A failed fdatasync: what was not durable never will be; `evict` takes it out of the cache too. */
  forget(evict: boolean): void {
    for (const [sector, versions] of this.dirty) {
      this.forgotten.set(sector, [...(this.forgotten.get(sector) ?? []), ...versions]);
    }
    this.dirty.clear();
    if (!evict) return;
    for (const [sector, versions] of this.forgotten) this.put(sector, versions[0]!);
    this.forgotten.clear();
  }

  /** The same content: cached, durable and in between. */
  copy(): SimulatedContent {
    const copy = new SimulatedContent();
    this.shared = true;
    copy.shared = true;
    copy.data = this.data;
    copy.bytes = this.bytes;
    copy.sum = this.sum;
    copy.dirty = new Map(this.dirty);
    copy.forgotten = new Map(this.forgotten);
    copy.durableBytes = this.durableBytes;
    copy.modifiedMs = this.modifiedMs;
    return copy;
  }

  /** One of the contents that may be found after a power cut. */
  afterPowerCut(dice: Dice): SimulatedContent {
    const found = this.copy();
    found.dirty = new Map();
    found.forgotten = new Map();
    for (const [sector, versions] of this.forgotten) {
      if (!this.dirty.has(sector)) found.put(sector, versions[0]!);
    }
    if (this.dirty.size > 0) this.drawSectors(found, dice);
    found.bytes = this.drawSize(dice);
    found.durableBytes = found.bytes;
    const isAsItWas = this.dirty.size + this.forgotten.size === 0 && found.bytes === this.bytes;
    if (isAsItWas) return found;
    found.reserve(found.bytes);
    found.data.fill(0, found.bytes);
    return found;
  }

  private drawSectors(found: SimulatedContent, dice: Dice): void {
    const fate = dice.pick(FATES);
    const unit = fate === 'pages' ? PAGE_SECTORS : 1;
    const kept = new Map<number, boolean>();
    const sectors = [...this.dirty.keys()].sort((a, b) => a - b);
    const border = dice.pick(sectors);
    const share = dice.next() / 2 ** 32;
    const leftOver = dice.chance(0.2);
    for (const sector of sectors) {
      const key = Math.floor(sector / unit);
      if (!kept.has(key))
        kept.set(
          key,
          isKept(fate, sector, border, () => dice.chance(share)),
        );
      if (kept.get(key)) continue;
      const versions = this.dirty.get(sector)!;
      const version = dice.chance(0.7) ? versions[0]! : dice.pick(versions);
      found.put(sector, version ?? (leftOver ? dice.bytes(SECTOR_BYTES) : null));
    }
  }

  private drawSize(dice: Dice): number {
    const [low, high] = [this.durableBytes, this.bytes].sort((a, b) => a - b) as [number, number];
    if (low === high || dice.chance(0.3)) return this.bytes;
    if (dice.chance(0.3)) return this.durableBytes;
    return low + dice.below(high - low + 1);
  }

  /** Keeps the present state of the sectors that a change between two offsets touches. */
  private remember(from: number, to: number): void {
    const first = Math.floor(from / SECTOR_BYTES);
    const start = first * SECTOR_BYTES;
    // One copy for all of them, and not as a Buffer: a simulation makes more of these than of anything else.
    const { buffer, byteOffset } = this.data;
    const kept = Math.max(
      start,
      Math.min(Math.ceil(to / SECTOR_BYTES) * SECTOR_BYTES, this.data.length),
    );
    const copy = new Uint8Array(buffer.slice(byteOffset + start, byteOffset + kept));
    for (let sector = first; sector * SECTOR_BYTES < to; sector++) {
      const at = sector * SECTOR_BYTES;
      const earlier = this.dirty.get(sector) ?? this.forgotten.get(sector);
      this.forgotten.delete(sector);
      if (at >= this.bytes) {
        if (!earlier) this.dirty.set(sector, NEW_SECTOR);
        continue;
      }
      const now = copy.subarray(at - start, at - start + SECTOR_BYTES);
      this.dirty.set(sector, earlier ? [...earlier, now] : [now]);
    }
  }

  private put(sector: number, version: Version): void {
    const at = sector * SECTOR_BYTES;
    this.reserve(at + SECTOR_BYTES);
    if (version) this.data.set(version, at);
    else this.data.fill(0, at, at + SECTOR_BYTES);
  }

  /** For a change: room for `bytes`, zeros behind the present end, in a buffer of its own. */
  private reserve(bytes: number): void {
    this.sum = null;
    const needed = Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
    if (!this.shared && needed <= this.data.length) return;
    const grown =
      needed <= this.data.length ? this.data.length : Math.max(needed, 2 * this.data.length);
    const data = Buffer.alloc(grown);
    this.data.copy(data);
    this.data = data;
    this.shared = false;
  }
}

function isKept(
  fate: (typeof FATES)[number],
  sector: number,
  border: number,
  draw: () => boolean,
): boolean {
  switch (fate) {
    case 'lost':
      return false;
    case 'kept':
      return true;
    case 'start':
      return sector < border;
    case 'end':
      return sector >= border;
    case 'sectors':
    case 'pages':
      return draw();
  }
}
