/**
 * Space on the disk under the volume. New writes are refused while there is too little for what is
 * staged already; a file of really written bytes (local/reserve) is given up when the disk is full all
 * the same, so that what was acknowledged can still be brought to it.
 */
import { ChunkvolError } from '../base/errors.js';
import { FOLDERS, type StoreContext } from '../store/context.js';
import { FREE_SPACE_AGE_MS, MIN_FREE_BYTES, SPACE_RESERVE_BYTES } from './limits.js';

export class Space {
  private freeBytes = 0;
  private checkedMs = -Infinity;
  private readonly reservePath: string;
  private reserved = false;

  constructor(private readonly context: StoreContext) {
    this.reservePath = `${context.folder}/${FOLDERS.local}/reserve`;
  }

  /** Throws 'no-space' unless the disk has room for `bytes` more of chunk files. */
  async require(bytes: number): Promise<void> {
    const now = this.context.clock.monotonic();
    if (now - this.checkedMs > FREE_SPACE_AGE_MS) {
      this.freeBytes = await this.context.files.freeBytes(this.context.folder);
      this.checkedMs = now;
    }
    if (this.freeBytes < bytes + MIN_FREE_BYTES) {
      this.checkedMs = -Infinity;
      throw new ChunkvolError(
        'no-space',
        `the disk under ${this.context.folder} is full; free some space there and try again`,
      );
    }
    if (!this.reserved && this.freeBytes > bytes + 4 * SPACE_RESERVE_BYTES) await this.reserve();
  }

  /** Gives the reserve up; true when there was one. */
  async giveUpReserve(): Promise<boolean> {
    this.checkedMs = -Infinity;
    if (!this.reserved) return false;
    this.reserved = false;
    await this.context.files.remove(this.reservePath);
    return true;
  }

  /** Writes the reserve, unless it is there from an earlier time. */
  private async reserve(): Promise<void> {
    this.reserved = true;
    const { files, engine } = this.context;
    const stat = await files.stat(this.reservePath);
    if (stat?.bytes === SPACE_RESERVE_BYTES) return;
    await files.remove(this.reservePath);
    const bytes = new Uint8Array(SPACE_RESERVE_BYTES);
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
