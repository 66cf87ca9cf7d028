/** Publishing a small immutable file: temporary name, fsync, rename, fsync of the folder. */
import type { Files } from '../base/files.js';
import { NEW_SUFFIX } from './group.js';

export async function publishFile(
  files: Files,
  folder: string,
  name: string,
  bytes: Uint8Array,
): Promise<void> {
  const path = `${folder}/${name}`;
  const temporary = `${path}${NEW_SUFFIX}`;
  await files.remove(temporary);
  const file = await files.open(temporary, 'create');
  try {
    await file.write(bytes, 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await files.rename(temporary, path);
  await files.syncFolder(folder);
}

/** The whole of a file of at most `maxBytes`; null where there is none, or a larger one. */
export async function readWhole(
  files: Files,
  path: string,
  maxBytes: number,
): Promise<Uint8Array | null> {
  const stat = await files.stat(path);
  if (stat?.kind !== 'file' || stat.bytes > maxBytes) return null;
  const file = await files.open(path, 'read');
  try {
    const bytes = new Uint8Array(stat.bytes);
    const got = await file.read(bytes, 0);
    return bytes.subarray(0, got);
  } finally {
    await file.close();
  }
}
