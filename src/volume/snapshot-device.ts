/** A snapshot as a disk: what its map names, read-only. */
import type { BlockDevice, Extent } from '../base/block-device.js';
import { ChunkvolError } from '../base/errors.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import type { Snapshot } from '../format/snapshot.js';
import type { SlotReader } from '../store/slot-reader.js';
import { BlockMap, type ReadNode } from './block-map.js';
import { findExtents } from './extents.js';
import type { GroupTable } from './group-table.js';
import { MAX_SNAPSHOT_NODES } from './limits.js';
import type { ReadEpochs } from './read-epochs.js';
import { Reads } from './reads.js';
import { Staging } from './staging.js';

export class SnapshotDevice implements BlockDevice {
  readonly readOnly = true;
  private readonly map: BlockMap;
  private readonly reads: Reads;
  /** Nothing is ever staged in it. */
  private readonly staging: Staging;

  constructor(
    private snapshot: Snapshot,
    readonly blockBytes: number,
    groups: GroupTable,
    slots: SlotReader,
    readNode: ReadNode,
    private readonly epochs: ReadEpochs,
    /** The last of those who opened it has closed it. */
    private readonly onClosed: () => void,
  ) {
    const slotBytes = blockBytes + SLOT_OVERHEAD_BYTES;
    const { map, mappedBlocks } = snapshot;
    const ignore = (): undefined => undefined;
    this.map = new BlockMap(map, mappedBlocks, slotBytes, readNode, ignore, MAX_SNAPSHOT_NODES);
    this.staging = new Staging(blockBytes, blockBytes);
    this.reads = new Reads(this.staging, this.map, groups, slots);
  }

  private users = 0;

  get sizeBytes(): number {
    return this.snapshot.sizeBytes;
  }

  /** One more user. */
  opened(): this {
    this.users++;
    return this;
  }

  close(): void {
    if (--this.users === 0) this.onClosed();
  }

  /** A collector has moved the snapshot's map: the same content at other places. */
  follow(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    this.map.reset(snapshot.map, snapshot.mappedBlocks);
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.epochs.run(() => this.reads.bytes(offset, into));
  }

  readNow(offset: number, into: Uint8Array): boolean {
    return this.reads.bytesNow(offset, into);
  }

  extents(offset: number, bytes: number, maxExtents: number): Promise<Extent[]> {
    return this.epochs.run(() => findExtents(this.staging, this.map, offset, bytes, maxExtents));
  }

  write(): Promise<void> {
    return this.refuse();
  }

  zero(): Promise<void> {
    return this.refuse();
  }

  trim(): Promise<void> {
    return this.refuse();
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  private refuse(): Promise<void> {
    const message = `the snapshot ${this.snapshot.name} cannot be written to`;
    return Promise.reject(new ChunkvolError('read-only', message));
  }
}
