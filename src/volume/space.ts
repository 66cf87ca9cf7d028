/**
 * Space on the disk under the volume. New writes are refused while there is too little for what is
 * staged already; a file of really written bytes (local/reserve) is given up when the disk is full all
 * the same, so that what was acknowledged can still be brought to it.
 */
import { ChunkvolError } from '../base/errors.js';
import type { Files } from '../base/files.js';
import { FOLDERS, type StoreContext } from '../store/context.js';
import { memberCount, type Geometry } from '../base/geometry.js';
import {
  FREE_SPACE_AGE_MS,
  MAX_RESERVE_BYTES,
  MIN_FREE_BYTES,
  MIN_RESERVE_BYTES,
} from './limits.js';

function reservePath(folder: string): string {
  return `${folder}/${FOLDERS.local}/reserve`;
}

/** Gives up the reserve of the volume in a folder that is not open: a full disk must open all the same. */
export async function giveUpReserve(files: Files, folder: string): Promise<boolean> {
  if ((await files.stat(reservePath(folder))) === null) return false;
  await files.remove(reservePath(folder));
  return true;
}

export class Space {
  private freeBytes = 0;
  private checkedMs = -Infinity;
  private readonly reservePath: string;
  private reserved = false;
  private readonly reserveBytes: number;
  /** Bytes of chunk files for each byte of the log. */
  private readonly expansion: number;
  private loggedAtCheck = 0;

  constructor(
    private readonly context: StoreContext,
    geometry: Geometry,
  ) {
    const dataAreaBytes = geometry.data * geometry.chunkBytes;
    this.reserveBytes = Math.min(
      MAX_RESERVE_BYTES,
      Math.max(MIN_RESERVE_BYTES, dataAreaBytes / 64),
    );
    // A tenth more for records and map nodes.
    this.expansion = (memberCount(geometry) / geometry.data) * 1.1;
    this.reservePath = reservePath(context.folder);
  }

  /**
   * Throws 'no-space' unless the disk has room for `pendingBytes` of blocks that are not in the files
   * yet, beside what the log has grown by (`loggedBytes`, a running total) since the last look.
   */
  async require(pendingBytes: number, loggedBytes: number): Promise<void> {
    const now = this.context.clock.monotonic();
    if (now - this.checkedMs > FREE_SPACE_AGE_MS) {
      this.freeBytes = await this.context.files.freeBytes(this.context.folder);
      this.checkedMs = now;
      this.loggedAtCheck = loggedBytes;
    }
    const bytes = this.neededBytes(pendingBytes, loggedBytes);
    if (this.freeBytes < bytes + MIN_FREE_BYTES) {
      this.checkedMs = -Infinity;
      throw new ChunkvolError(
        'no-space',
        `the disk under ${this.context.folder} is full; free some space there and try again`,
      );
    }
    if (!this.reserved && this.freeBytes > bytes + 4 * this.reserveBytes) await this.reserve();
  }

  /** Whether `require` would say yes at once: by the last look, if that was not long ago. */
  hasRoomNow(pendingBytes: number, loggedBytes: number): boolean {
    const age = this.context.clock.monotonic() - this.checkedMs;
    const bytes = this.neededBytes(pendingBytes, loggedBytes);
    return this.reserved && age <= FREE_SPACE_AGE_MS && this.freeBytes >= bytes + MIN_FREE_BYTES;
  }

  /** Whether what is free would not do for a reserve, and more. */
  async isShort(): Promise<boolean> {
    const free = await this.context.files.freeBytes(this.context.folder);
    return free < MIN_FREE_BYTES + 4 * this.reserveBytes;
  }

  /** Gives the reserve up, from whatever time it is; true when there was one. */
  async giveUpReserve(): Promise<boolean> {
    this.checkedMs = -Infinity;
    this.reserved = false;
    return giveUpReserve(this.context.files, this.context.folder);
  }

  /** What blocks that are not in the files yet, and the log since the last look, come to on the disk. */
  private neededBytes(pendingBytes: number, loggedBytes: number): number {
    return (pendingBytes + loggedBytes - this.loggedAtCheck) * this.expansion;
  }

  /** Writes the reserve, unless it is there from an earlier time. */
  private async reserve(): Promise<void> {
    this.reserved = true;
    const { files, engine } = this.context;
    const stat = await files.stat(this.reservePath);
    if (stat?.bytes === this.reserveBytes) return;
    await files.remove(this.reservePath);
    const bytes = new Uint8Array(this.reserveBytes);
    // Not zeros: a file system that compresses would not keep room for them.
    engine.ctr(this.context.random.bytes(32), new Uint8Array(16), bytes, 0);
    const file = await files.open(this.reservePath, 'create').catch(() => null);
    try {
      await file?.write(bytes, 0);
      await file?.sync();
    } catch {
      this.reserved = false;
    } finally {
      await file?.close();
    }
  }
}
