/**
 * What a server has attached: the disk at one place at most, as two kernels' caches over one disk would
 * destroy it, and snapshots at any number of places.
 */
import { ChunkvolError } from '../base/errors.js';
import type { Attachment } from './attachment.js';
import type { ServedSnapshot } from './served-exports.js';

/** What the operation `register` answers. */
export interface AttachedSize {
  /** Of what is to be shown. */
  readonly sizeBytes: number;
}

/** What of a volume is attached. */
export interface AttachableVolume {
  readonly sizeBytes: number;
  /** Throws ChunkvolError('not-found'). */
  openSnapshot(name: string): ServedSnapshot;
}

export class Attachments {
  /** In order of attaching. */
  readonly all: Attachment[] = [];

  constructor(
    private readonly volume: AttachableVolume,
    /** Clients that are connected to the disk itself. */
    private readonly diskUsers: () => number,
  ) {}

  /** Throws ChunkvolError: 'in-use' when the disk is attached already, 'exists', 'not-found'. */
  add(attachment: Attachment): AttachedSize {
    const { target, snapshot } = attachment;
    const same = this.all.find((other) => other.target === target);
    if (same) throw new ChunkvolError('exists', `${target} is attached already`);
    if (snapshot === null) this.#requireFreeDisk();
    const sizeBytes = this.#sizeOf(snapshot);
    this.all.push(attachment);
    return { sizeBytes };
  }

  remove(target: string): void {
    const at = this.all.findIndex((other) => other.target === target);
    if (at >= 0) this.all.splice(at, 1);
  }

  #requireFreeDisk(): void {
    const disk = this.all.find(({ snapshot }) => snapshot === null);
    if (!disk && this.diskUsers() === 0) return;
    const what = disk ? `attached at ${disk.target} already` : 'in use by a client of the server';
    throw new ChunkvolError('in-use', `the disk is ${what}; detach it first`);
  }

  #sizeOf(snapshot: string | null): number {
    if (snapshot === null) return this.volume.sizeBytes;
    const device = this.volume.openSnapshot(snapshot);
    device.close();
    return device.sizeBytes;
  }
}
