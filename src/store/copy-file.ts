/** Copying a file, or what it holds from some byte on, to a new one, durably but for its name. */
import { MIB } from '../base/bytes.js';
import type { Files } from '../base/files.js';

/** `to` must not exist. What could not be copied as a whole is removed. */
export async function copyFile(
  files: Files,
  from: string,
  to: string,
  firstByte = 0,
): Promise<void> {
  const source = await files.open(from, 'read');
  try {
    const target = await files.open(to, 'create');
    try {
      const buffer = new Uint8Array(MIB);
      for (let at = firstByte, got = 0; ; at += got) {
        got = await source.read(buffer, at);
        if (got === 0) break;
        await target.write(buffer.subarray(0, got), at - firstByte);
      }
      await target.sync();
    } catch (error) {
      await files.remove(to).catch(() => undefined);
      throw error;
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}
