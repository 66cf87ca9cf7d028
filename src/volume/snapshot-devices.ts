/** The snapshots that somebody reads: one device each, however many use it. */
import { toHex } from '../base/bytes.js';
import type { Snapshot } from '../format/snapshot.js';
import type { SlotReader } from '../store/slot-reader.js';
import type { ReadNode } from './block-map.js';
import type { GroupTable } from './group-table.js';
import type { ReadEpochs } from './read-epochs.js';
import { SnapshotDevice } from './snapshot-device.js';

export class SnapshotDevices {
  private readonly devices = new Map<string, SnapshotDevice>();

  constructor(
    private readonly blockBytes: number,
    private readonly groups: GroupTable,
    private readonly slots: SlotReader,
    private readonly readNode: ReadNode,
    private readonly epochs: ReadEpochs,
  ) {}

  open(snapshot: Snapshot): SnapshotDevice {
    const id = toHex(snapshot.id);
    const device = this.devices.get(id) ?? this.create(id, snapshot);
    return device.opened();
  }

  /** The snapshot's map has been moved. */
  follow(snapshot: Snapshot): void {
    this.devices.get(toHex(snapshot.id))?.follow(snapshot);
  }

  private create(id: string, snapshot: Snapshot): SnapshotDevice {
    const { blockBytes, groups, slots, readNode, epochs } = this;
    const device = new SnapshotDevice(snapshot, blockBytes, groups, slots, readNode, epochs, () =>
      this.devices.delete(id),
    );
    this.devices.set(id, device);
    return device;
  }
}
