/**
 * The volume: a block device on the log. Whatever alignment a caller uses ends here; below there are
 * only whole blocks.
 */
import { alignDown, alignUp, isZero } from '../base/bytes.js';
import type { BlockDevice, Extent, WriteOptions } from '../base/block-device.js';
import { ChunkvolError } from '../base/errors.js';
import type { Origin } from '../format/root.js';
import type { Snapshot } from '../format/snapshot.js';
import type { StoreContext } from '../store/context.js';
import type { Group } from '../store/group.js';
import { ownKeyFiles } from '../store/key-files.js';
import type { RootFile } from '../store/root-files.js';
import type { SlotReader } from '../store/slot-reader.js';
import { BlockLocks } from './block-locks.js';
import type { CollectOptions, Collector, CollectReport } from './collector.js';
import { findExtents } from './extents.js';
import { MAX_PIECE_BYTES } from './limits.js';
import type { LogEnd } from './log-end.js';
import type { ChangedRange, Measures, SnapshotUse } from './measures.js';
import type { ReadEpochs } from './read-epochs.js';
import { Reads } from './reads.js';
import type { Retention } from './retention.js';
import type { SnapshotDevice } from './snapshot-device.js';
import type { SnapshotDevices } from './snapshot-devices.js';
import type { SnapshotInfo, Snapshots } from './snapshots.js';
import { volumeStatus, type VolumeStatus } from './status.js';
import type { Staging } from './staging.js';
import type { WritePath } from './write-path.js';

export interface VolumeParts {
  readonly context: StoreContext;
  readonly slots: SlotReader;
  readonly end: LogEnd;
  readonly writePath: WritePath;
  readonly epochs: ReadEpochs;
  readonly snapshots: Snapshots;
  readonly devices: SnapshotDevices;
  readonly measures: Measures;
  readonly retention: Retention;
  readonly collector: Collector;
  readonly readOnly: boolean;
}

export class Volume implements BlockDevice {
  readonly context: StoreContext;
  readonly slots: SlotReader;
  readonly readOnly: boolean;
  private readonly reads: Reads;
  private readonly staging: Staging;
  private readonly locks = new BlockLocks();
  private closing = false;

  constructor(private readonly parts: VolumeParts) {
    const { map, groups, staging } = parts.end.parts;
    this.context = parts.context;
    this.slots = parts.slots;
    this.readOnly = parts.readOnly;
    this.staging = staging;
    this.reads = new Reads(staging, map, groups, parts.slots);
  }

  get name(): string {
    return this.parts.end.parts.roots.facts.name;
  }

  get sizeBytes(): number {
    return this.parts.end.parts.heads.sizeBytes;
  }

  get blockBytes(): number {
    return this.staging.blockBytes;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.parts.epochs.run(() => this.reads.bytes(offset, into));
  }

  /** No epoch: files are not deleted in the middle of it. */
  readNow(offset: number, into: Uint8Array): boolean {
    return this.reads.bytesNow(offset, into);
  }

  writeNow(offset: number, bytes: Uint8Array): boolean {
    const { blockBytes } = this;
    const first = offset / blockBytes;
    const count = bytes.length / blockBytes;
    if (!Number.isInteger(first) || !Number.isInteger(count)) return false;
    if (this.closing || this.readOnly || offset + bytes.length > this.sizeBytes) return false;
    if (!this.locks.isFree(first, first + count)) return false;
    if (!this.parts.writePath.admitNow(count)) return false;
    for (let each = 0; each < count; each++) this.stageNow(first + each, bytes, each * blockBytes);
    this.parts.writePath.staged();
    this.parts.end.parts.counters.writtenBytes += bytes.length;
    return true;
  }

  async write(offset: number, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    this.requireWritable();
    const { blockBytes } = this;
    const first = Math.floor(offset / blockBytes);
    const last = Math.floor((offset + bytes.length - 1) / blockBytes);
    if (bytes.length === 0) return;
    await this.locks.with(first, last + 1, async () => {
      this.requireInside(offset + bytes.length);
      for (let block = first; block <= last; block += this.pieceBlocks) {
        const end = Math.min(block + this.pieceBlocks, last + 1);
        await this.parts.writePath.admit(end - block);
        for (let each = block; each < end; each++) {
          const at = each * blockBytes - offset;
          const isWhole = at >= 0 && at + blockBytes <= bytes.length;
          const source = isWhole ? bytes : await this.merged(each, offset, bytes);
          // Another writer may have taken the room that was made.
          while (!this.stageNow(each, source, isWhole ? at : 0))
            await this.parts.writePath.admit(1);
        }
        this.parts.writePath.staged();
      }
    });
    this.parts.end.parts.counters.writtenBytes += bytes.length;
    if (options?.durable) await this.flush();
  }

  async zero(offset: number, bytes: number, options?: WriteOptions): Promise<void> {
    this.requireWritable();
    if (bytes === 0) return;
    const { blockBytes } = this;
    const end = offset + bytes;
    const from = alignUp(offset, blockBytes);
    const to = alignDown(end, blockBytes);
    if (from >= to) {
      await this.write(offset, new Uint8Array(bytes), options);
      return;
    }
    if (offset < from) await this.write(offset, new Uint8Array(from - offset));
    if (to < end) await this.write(to, new Uint8Array(end - to));
    await this.locks.with(from / blockBytes, to / blockBytes, async () => {
      this.requireInside(to);
      await this.parts.writePath.admitHole();
      this.staging.stageHole(from / blockBytes, to / blockBytes);
      this.parts.writePath.staged();
    });
    if (options?.durable) await this.flush();
  }

  /** Whole blocks become holes; what is left of others at the ends stays as it is. */
  async trim(offset: number, bytes: number, options?: WriteOptions): Promise<void> {
    const from = alignUp(offset, this.blockBytes);
    const to = alignDown(offset + bytes, this.blockBytes);
    if (from < to) await this.zero(from, to - from);
    else this.requireWritable();
    if (options?.durable) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.readOnly) return;
    await this.parts.writePath.flush();
  }

  extents(offset: number, bytes: number, maxExtents: number): Promise<Extent[]> {
    const { map } = this.parts.end.parts;
    return this.parts.epochs.run(() => findExtents(this.staging, map, offset, bytes, maxExtents));
  }

  /** The oldest first. */
  snapshots(): SnapshotInfo[] {
    return this.parts.snapshots.list();
  }

  /** Everything acknowledged so far, under a name. Throws 'usage' for an impossible name, 'exists'. */
  async createSnapshot(name: string): Promise<SnapshotInfo> {
    this.requireWritable();
    return this.parts.snapshots.create(name);
  }

  /** All of them, or none. Nobody may have one of them open. Throws 'not-found'. */
  async deleteSnapshots(names: readonly string[]): Promise<void> {
    this.requireWritable();
    await this.parts.snapshots.delete(names);
    this.parts.collector.recount();
  }

  /** Of each snapshot, the oldest first; walks the maps where they differ. Throws 'interrupted'. */
  async measureSnapshots(signal?: AbortSignal): Promise<SnapshotUse[]> {
    this.requireWritable();
    return this.parts.measures.uses(signal);
  }

  /** Bytes in the log that deleting these snapshots together would free. Throws 'not-found', 'interrupted'. */
  async measureDeletion(names: readonly string[], signal?: AbortSignal): Promise<number> {
    this.requireWritable();
    return this.parts.measures.freedBy(names, signal);
  }

  /**
   * Calls `visit` for every range that differs between a snapshot and another (null: the disk as it is),
   * ascending. Throws 'not-found', 'interrupted'.
   */
  async changes(
    from: string,
    to: string | null,
    visit: (range: ChangedRange) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    this.requireWritable();
    await this.parts.measures.changes(from, to, visit, signal);
  }

  /** A snapshot, and the groups that it stands in. Throws 'not-found', 'interrupted'. */
  contentOf(name: string, signal?: AbortSignal): Promise<{ snapshot: Snapshot; groups: Group[] }> {
    return this.parts.measures.contentOf(name, signal);
  }

  /** Frees what is dead, as far as that can be done now. Throws 'interrupted'. */
  async collect(options?: CollectOptions): Promise<CollectReport> {
    this.requireWritable();
    return this.parts.collector.collect(options);
  }

  /** No chunk file and no root is deleted until the returned function is called. */
  holdDeletion(): () => void {
    return this.parts.end.parts.roots.hold();
  }

  /**
   * Makes the disk what it was; the result is the snapshot that keeps what it is now. Nobody may use the
   * disk meanwhile. Throws 'not-found', 'usage' or 'exists' for `keepAs`.
   */
  async rollback(name: string, keepAs: string): Promise<SnapshotInfo> {
    this.requireWritable();
    const kept = await this.lockAll(() => this.parts.snapshots.rollback(name, keepAs));
    this.parts.collector.recount();
    return kept;
  }

  /** Throws 'usage' for an impossible size, and when something is mapped behind a smaller one. */
  async resize(sizeBytes: number): Promise<void> {
    this.requireWritable();
    await this.lockAll(() => this.parts.snapshots.resize(sizeBytes));
  }

  /** A snapshot to read from; whoever opens it closes it. Throws 'not-found'. */
  openSnapshot(name: string): SnapshotDevice {
    const snapshot = this.parts.snapshots.get(name);
    return this.parts.devices.open(snapshot);
  }

  /**
   * Commits everything acknowledged, checkpoints, and seals the open group: returns the newest closed
   * root, published. With nothing changed since the last one that is it. Groups that wait to be sealed
   * since a crash are sealed first.
   */
  async sealNow(): Promise<RootFile> {
    this.requireWritable();
    return this.parts.writePath.seal();
  }

  /**
   * The same, and the root knows the newest key file, or whoever has a copy of an older one could pass that off
   * with it; and its generation is above another. It stays, with all that it names, until `release` is called.
   */
  async sealAndPin(aboveGeneration = 0): Promise<{ root: RootFile; release: () => void }> {
    this.requireWritable();
    const { writePath, end } = this.parts;
    const { roots } = end.parts;
    const letDelete = this.holdDeletion();
    try {
      const [keyFile] = await ownKeyFiles(this.context);
      // Between two roots, or one that is being made would be taken for one that knows.
      const news = await writePath.exclusively(() =>
        Promise.resolve([
          roots.noteKeyCounter(keyFile?.file.counter ?? 0),
          roots.skipTo(aboveGeneration),
        ]),
      );
      const root = await (news.includes(true) ? writePath.renewRoot() : this.sealNow());
      return { root, release: roots.pin(root) };
    } finally {
      letDelete();
    }
  }

  /** What the present state came out of: the newest root that it has had, and the sessions before. */
  origin(): Origin {
    return this.parts.end.parts.roots.origin;
  }

  /** All groups of the present state, in order of ordinals. */
  groups(): readonly Group[] {
    return this.parts.end.parts.groups.all();
  }

  /**
   * Blocks of the disk, as ranges, whose slots lie in `group` between two addresses. `onLost` is told ranges of
   * which nothing is known, because a node of the map is lost. Walks the whole map.
   */
  async blocksIn(
    group: Group,
    fromAddress: number,
    toAddress: number,
    onLost: (block: number, count: number) => void,
  ): Promise<{ block: number; count: number }[]> {
    const found: { block: number; count: number }[] = [];
    const endBlock = this.sizeBytes / this.blockBytes;
    const tell = (block: number, count: number): void => {
      if (block < endBlock) onLost(block, Math.min(count, endBlock - block));
    };
    for await (const { block, ordinal, position } of this.parts.end.parts.map.entries(tell)) {
      const address = position * 8;
      if (ordinal !== group.ordinal || address < fromAddress || address >= toAddress) continue;
      const last = found[found.length - 1];
      if (last && last.block + last.count === block) last.count++;
      else found.push({ block, count: 1 });
    }
    return found;
  }

  status(): Promise<VolumeStatus> {
    return volumeStatus(this.parts);
  }

  /** Flushes, checkpoints, seals and releases everything. The volume cannot be used after, even if it throws. */
  async close(): Promise<void> {
    if (this.closing) return;
    this.closing = true;
    try {
      await this.parts.collector.stop();
      if (!this.readOnly) await this.sealOrFlush();
    } finally {
      await this.parts.writePath.stop();
      await this.parts.end.parts.cutGroups.idle();
      await this.slots.openFiles.closeAll();
    }
  }

  /** A volume that cannot be sealed is at least made durable, before that is said. */
  private async sealOrFlush(): Promise<void> {
    try {
      await this.parts.writePath.seal();
      await this.parts.retention.settle();
    } catch (error) {
      await this.parts.writePath.flush();
      throw error;
    }
  }

  /** Runs work while no write is on its way into the staging buffer. */
  private async lockAll<T>(work: () => Promise<T>): Promise<T> {
    let result!: T;
    await this.locks.with(0, Infinity, async () => {
      result = await work();
    });
    return result;
  }

  /** The disk may have become smaller while a write waited. */
  private requireInside(end: number): void {
    if (end <= this.sizeBytes) return;
    throw new ChunkvolError('no-space', `the disk has ${this.sizeBytes} bytes, and no more`);
  }

  /** Blocks that are taken into the staging buffer at a time. */
  private get pieceBlocks(): number {
    return Math.max(1, MAX_PIECE_BYTES / this.blockBytes);
  }

  /** The block as it is when `bytes` have been written at `offset`, which cover a part of it. */
  private async merged(block: number, offset: number, bytes: Uint8Array): Promise<Uint8Array> {
    const { blockBytes } = this;
    const start = block * blockBytes;
    const from = Math.max(start, offset);
    const to = Math.min(start + blockBytes, offset + bytes.length);
    const whole = new Uint8Array(blockBytes);
    await this.reads.blocks(block, whole);
    whole.set(bytes.subarray(from - offset, to - offset), from - start);
    return whole;
  }

  /** Stages a block, which stands at `at` of `source`; false when there is no room for it. */
  private stageNow(block: number, source: Uint8Array, at: number): boolean {
    const { blockBytes, staging } = this;
    // Most blocks tell by their first byte that they are not zeros.
    if (source[at] === 0 && isZero(source.subarray(at, at + blockBytes))) {
      staging.stageHole(block, block + 1);
      return true;
    }
    if (!staging.canStage(block)) return false;
    staging.stage(block, source, at);
    return true;
  }

  private requireWritable(): void {
    if (this.closing) throw new ChunkvolError('closed', 'the volume is being closed');
    if (this.readOnly) throw new ChunkvolError('read-only', 'the volume is open read-only');
  }
}
