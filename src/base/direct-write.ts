/**
 * Writing past the page cache: O_DIRECT, through a second descriptor of a file that is open already.
 *
 * For what nobody reads again soon a place in the page cache is a copy for nothing, and drives out what
 * somebody does read. Invariants:
 * - It never fails where an ordinary write would not: what the system refuses (no O_DIRECT on this file
 *   system, memory or length not aligned well enough for this disk, no /proc) is left to that one.
 * - Direct and ordinary writes of one file agree, since the kernel writes back and forgets what it caches
 *   of the range. An fdatasync through either descriptor makes both durable.
 */
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { KIB } from './bytes.js';
import { errnoOf } from './errors.js';

/** Offsets, lengths and addresses are multiples of this; a disk that asks for more refuses. */
const ALIGNMENT_BYTES: number = 4 * KIB;

/** Shorter writes are quicker by way of the page cache. */
const MIN_BYTES: number = 64 * KIB;

/** Answers of a system that cannot, rather than of a disk that fails. */
const REFUSALS: ReadonlySet<string> = new Set(['EINVAL', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS']);

export class DirectWriter {
  private direct: number | null = null;
  private refused = false;

  /** `fd` stays its owner's. */
  constructor(private readonly fd: number) {}

  /**
   * Writes what it can of `bytes`, from their start; returns how much that was, 0 when an ordinary write
   * must do. Throws the system's error.
   */
  async write(bytes: Uint8Array, position: number): Promise<number> {
    if (this.refused || !isSuitable(bytes, position)) return 0;
    this.direct ??= reopen(this.fd);
    this.refused ||= this.direct === null;
    if (this.direct === null) return 0;
    try {
      return await writeOnce(this.direct, bytes, 0, bytes.length, position);
    } catch (error) {
      if (!REFUSALS.has(errnoOf(error))) throw error;
      this.refused = true;
      return 0;
    }
  }

  /** To be called when no write is under way. */
  async close(): Promise<void> {
    if (this.direct !== null) await promisify(fs.close)(this.direct);
  }
}

function isSuitable({ byteOffset, length }: Uint8Array, position: number): boolean {
  if (length < MIN_BYTES) return false;
  return [byteOffset, length, position].every((each) => each % ALIGNMENT_BYTES === 0);
}

/** Not by its path: that may have changed. Null where it cannot be. */
function reopen(fd: number): number | null {
  const { O_DIRECT, O_WRONLY } = fs.constants as Partial<typeof fs.constants>;
  if (O_DIRECT === undefined || O_WRONLY === undefined) return null;
  try {
    return fs.openSync(`/proc/self/fd/${fd}`, O_DIRECT | O_WRONLY);
  } catch {
    return null;
  }
}

/** fs.write by callback: half the cost of the promise form. Returns the bytes written. */
export function writeOnce(
  fd: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
  position: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.write(fd, bytes, offset, length, position, (error, put) => {
      if (error) reject(error);
      else resolve(put);
    });
  });
}
