/**
 * What a server offers over NBD: the disk, under "" and the volume's name, and each snapshot, read-only,
 * under "@" and its name. It knows how many clients use each, so that nothing is taken from under
 * them: what changes or removes an export withdraws it first, which fails while somebody uses it and
 * keeps new clients away until it is done.
 */
import type { BlockDevice } from '../base/block-device.js';
import { ChunkvolError } from '../base/errors.js';
import type { ExportDirectory, NbdExport, OpenDisk } from '../nbd/exports.js';
import type { SnapshotInfo } from '../volume/snapshots.js';
import type { Attachment } from './attachment.js';
import { waitUntil } from './wait.js';

/** The name of a snapshot; null is the disk itself. */
export type ServedName = string | null;

/** What of a volume is served. */
export interface ServedVolume extends BlockDevice {
  readonly name: string;
  snapshots(): readonly SnapshotInfo[];
  openSnapshot(name: string): ServedSnapshot;
}

export interface ServedSnapshot extends BlockDevice {
  close(): void;
}

/** For clients that are just leaving: a device that was detached a moment ago, for one. */
export const LEAVE_MS = 1_000;

export class ServedExports implements ExportDirectory {
  readonly #users = new Map<ServedName, number>();
  readonly #withdrawn = new Set<ServedName>();

  constructor(
    private readonly volume: ServedVolume,
    private readonly attachments: readonly Attachment[],
  ) {}

  readonly find = (name: string): NbdExport | null => {
    const snapshot = this.volume.snapshots().find((one) => exportName(one.name) === name);
    if (snapshot) return this.#isOffered(snapshot.name) ? this.#snapshot(snapshot) : null;
    const isDisk = name === '' || name === this.volume.name;
    return isDisk && this.#isOffered(null) ? this.#disk() : null;
  };

  readonly list = (): NbdExport[] => {
    const snapshots = this.volume.snapshots().filter(({ name }) => this.#isOffered(name));
    const disk = this.#isOffered(null) ? [this.#disk()] : [];
    return [...disk, ...snapshots.map((snapshot) => this.#snapshot(snapshot))];
  };

  /** Clients that have chosen it and are not gone yet. */
  users(served: ServedName): number {
    return this.#users.get(served) ?? 0;
  }

  /**
   * Keeps new clients from these exports until the returned function is called.
   * Throws ChunkvolError('in-use') while one of them is attached or has clients.
   */
  async withdraw(all: readonly ServedName[]): Promise<() => void> {
    const own = all.filter((served) => !this.#withdrawn.has(served));
    for (const served of own) this.#withdrawn.add(served);
    const offer = (): void => {
      for (const served of own) this.#withdrawn.delete(served);
    };
    try {
      for (const served of all) {
        this.#requireDetached(served);
        await this.#requireUnused(served);
      }
    } catch (error) {
      offer();
      throw error;
    }
    return offer;
  }

  #requireDetached(served: ServedName): void {
    const attachment = this.attachments.find(({ snapshot }) => snapshot === served);
    if (!attachment) return;
    const { target } = attachment;
    throw new ChunkvolError(
      'in-use',
      `${describe(served)} is attached at ${target}; detach it first: chunkvol detach ${target}`,
    );
  }

  async #requireUnused(served: ServedName): Promise<void> {
    if (await waitUntil(() => this.users(served) === 0, LEAVE_MS)) return;
    const count = this.users(served);
    const [clients, them] = count === 1 ? ['client is', 'it'] : ['clients are', 'them'];
    throw new ChunkvolError(
      'in-use',
      `${count} ${clients} connected to ${describe(served)}; disconnect ${them} first`,
    );
  }

  #isOffered(served: ServedName): boolean {
    return !this.#withdrawn.has(served);
  }

  #disk(): NbdExport {
    const { volume } = this;
    return {
      name: volume.name,
      description: `chunkvol volume ${volume.name}`,
      facts: volume,
      open: () => this.#use(null, volume, () => undefined),
    };
  }

  #snapshot({ name, sizeBytes, timeMs }: SnapshotInfo): NbdExport {
    const { volume } = this;
    const time = new Date(timeMs).toISOString();
    return {
      name: exportName(name),
      description: `snapshot of ${time} of chunkvol volume ${volume.name}`,
      facts: { sizeBytes, blockBytes: volume.blockBytes, readOnly: true },
      open: () => {
        const device = volume.openSnapshot(name);
        return this.#use(name, device, () => {
          device.close();
        });
      },
    };
  }

  #use(served: ServedName, device: BlockDevice, close: () => void): OpenDisk {
    this.#users.set(served, this.users(served) + 1);
    return {
      device,
      close: () => {
        const left = this.users(served) - 1;
        if (left === 0) this.#users.delete(served);
        else this.#users.set(served, left);
        close();
      },
    };
  }
}

/** The name of the NBD export of a snapshot, or of the disk. */
export function exportName(served: ServedName): string {
  return served === null ? '' : `@${served}`;
}

function describe(served: ServedName): string {
  return served === null ? 'the disk' : `snapshot ${served}`;
}
