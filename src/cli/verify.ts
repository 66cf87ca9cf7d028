/** Reading a whole disk back, through everything that a client's read goes through. */
import { MIB } from '../base/bytes.js';
import { ChunkvolError, isChunkvolError } from '../base/errors.js';
import type { BlockDevice } from '../base/block-device.js';
import type { OperationContext } from './control-server.js';

const READ_BYTES = 4 * MIB;
const MAX_EXTENTS = 1024;

/** A range of the disk, in bytes. */
export interface DiskRange {
  readonly offset: number;
  readonly bytes: number;
}

/** Reads everything that is not a hole; returns what cannot be read. Throws 'interrupted'. */
export async function readEverything(
  device: BlockDevice,
  totalBytes: number,
  { signal, onProgress }: OperationContext,
): Promise<DiskRange[]> {
  const bad: DiskRange[] = [];
  const buffer = new Uint8Array(READ_BYTES);
  let doneBytes = 0;
  for await (const range of dataRanges(device)) {
    if (signal.aborted) throw new ChunkvolError('interrupted', 'the verification was interrupted');
    const readable = await isReadable(device, range, buffer);
    if (!readable) bad.push(range);
    doneBytes += range.bytes;
    onProgress({ phase: 'reading back', doneBytes, totalBytes: Math.max(totalBytes, doneBytes) });
  }
  return bad;
}

/** What is not a hole, in ranges of at most READ_BYTES. */
async function* dataRanges(device: BlockDevice): AsyncGenerator<DiskRange> {
  let offset = 0;
  while (offset < device.sizeBytes) {
    const extents = await device.extents(offset, device.sizeBytes - offset, MAX_EXTENTS);
    for (const { bytes, hole } of extents) {
      for (let done = 0; !hole && done < bytes; done += READ_BYTES) {
        yield { offset: offset + done, bytes: Math.min(READ_BYTES, bytes - done) };
      }
      offset += bytes;
    }
  }
}

/** The blocks of `ranges`, whole blocks, that cannot be read; the others are healed by being read. */
export async function unreadableIn(
  device: BlockDevice,
  ranges: readonly DiskRange[],
): Promise<DiskRange[]> {
  const bad: { offset: number; bytes: number }[] = [];
  const buffer = new Uint8Array(device.blockBytes);
  for (const { offset, bytes } of ranges) {
    for (let at = offset; at < offset + bytes; at += buffer.length) {
      if (await isReadable(device, { offset: at, bytes: buffer.length }, buffer)) continue;
      const last = bad.at(-1);
      if (last && last.offset + last.bytes === at) last.bytes += buffer.length;
      else bad.push({ offset: at, bytes: buffer.length });
    }
  }
  return bad;
}

async function isReadable(
  device: BlockDevice,
  { offset, bytes }: DiskRange,
  buffer: Uint8Array,
): Promise<boolean> {
  try {
    await device.read(offset, buffer.subarray(0, bytes));
    return true;
  } catch (error) {
    if (isChunkvolError(error, 'lost', 'damaged')) return false;
    throw error;
  }
}
