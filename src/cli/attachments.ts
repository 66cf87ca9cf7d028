/**
 * What a server has attached: the disk at one place at most, as two kernels' caches over one disk would
 * destroy it, and snapshots at any number of places.
 */
import { ChunkvolError } from '../base/errors.js';
import type { Attachment } from './attachment.js';
import { LEAVE_MS, type ServedSnapshot } from './served-exports.js';
import { waitUntil } from './wait.js';

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

  /**
   * Throws ChunkvolError: 'in-use' when the disk is attached already or has other clients, 'exists',
   * 'not-found'.
   */
  async add(attachment: Attachment): Promise<AttachedSize> {
    const { target, snapshot } = attachment;
    const same = this.all.find((other) => other.target === target);
    if (same) throw new ChunkvolError('exists', `${target} is attached already`);
    const sizeBytes = this.#sizeOf(snapshot);
    if (snapshot === null) this.#requireDetached();
    this.all.push(attachment);
    if (snapshot !== null || (await waitUntil(() => this.diskUsers() === 0, LEAVE_MS))) {
      return { sizeBytes };
    }
    this.remove(target);
    throw new ChunkvolError('in-use', 'the disk has other clients; disconnect them first');
  }

  remove(target: string): void {
    const at = this.all.findIndex((other) => other.target === target);
    if (at >= 0) this.all.splice(at, 1);
  }

  #requireDetached(): void {
    const disk = this.all.find(({ snapshot }) => snapshot === null);
    if (!disk) return;
    const message = `the disk is attached at ${disk.target} already; detach it first`;
    throw new ChunkvolError('in-use', message);
  }

  #sizeOf(snapshot: string | null): number {
    if (snapshot === null) return this.volume.sizeBytes;
    const device = this.volume.openSnapshot(snapshot);
    device.close();
    return device.sizeBytes;
  }
}
