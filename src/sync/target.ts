/**
 * The folder that a restore fills. From the first byte to the last it holds local/restoring, which
 * names the volume as soon as that is known: an interrupted restore goes on, and nothing else may take
 * the folder for a volume, nor for an empty one.
 */
import { toHex } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import { FOLDERS, NAME_PATTERN } from '../store/context.js';
import { isObject, readJson, writeJson } from './json-files.js';
import type { RemoteFile } from './remote.js';
import type { VolumeFolder } from './remotes.js';

const MARKER_NAME = 'restoring';
const VERSION = 1;

/** Whether the folder holds a restore that has not come to its end. */
export async function isRestoring(target: VolumeFolder): Promise<boolean> {
  return (await target.files.stat(markerPath(target))) !== null;
}

/** Throws ChunkvolError 'exists' unless the folder is empty (but for local/) or an interrupted restore. */
export async function claimTarget(target: VolumeFolder, url: string): Promise<void> {
  const { files, folder } = target;
  if (await isRestoring(target)) return;
  const stat = await files.stat(folder);
  // Whoever holds the lock on the folder has a file in local/.
  const taken = (await files.list(folder)).some((name) => name !== FOLDERS.local);
  if (taken || (stat && stat.kind !== 'folder')) {
    throw new ChunkvolError('exists', `${folder} is not empty; restore to a folder that is`);
  }
  await writeMarker(target, { version: VERSION, url });
}

/** Notes which volume is being restored. Throws ChunkvolError 'exists' when another one has been begun. */
export async function nameTarget(target: VolumeFolder, volumeId: Uint8Array): Promise<void> {
  const marker = await readJson(target.files, markerPath(target)).catch(() => null);
  const begun = isObject(marker) ? marker['volumeId'] : undefined;
  if (begun === undefined) {
    await writeMarker(target, { version: VERSION, volumeId: toHex(volumeId) });
  } else if (begun !== toHex(volumeId)) {
    throw new ChunkvolError(
      'exists',
      `${target.folder} holds an unfinished restore of another volume; restore to another folder`,
    );
  }
}

/** Removes what an earlier attempt left and this one does not need, so that one state only is here. */
export async function clearTarget(
  target: VolumeFolder,
  downloads: readonly RemoteFile[],
): Promise<void> {
  const needed = new Set(downloads.map((file) => file.path));
  for (const folder of [FOLDERS.keys, FOLDERS.roots, FOLDERS.chunks]) {
    for (const name of await target.files.list(`${target.folder}/${folder}`)) {
      const path = `${folder}/${name}`;
      if (!NAME_PATTERN.test(name) || needed.has(path)) continue;
      await target.files.remove(`${target.folder}/${path}`);
    }
  }
  await target.files.makeFolder(`${target.folder}/${FOLDERS.chunks}`);
}

/** Tools need not have synced what they wrote; the roots, which come next, rely on it. */
export async function makeDurable(
  target: VolumeFolder,
  downloads: readonly RemoteFile[],
): Promise<void> {
  for (const { path } of downloads) {
    const file = await target.files.open(`${target.folder}/${path}`, 'read');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await target.files.syncFolder(`${target.folder}/${FOLDERS.chunks}`);
  await target.files.syncFolder(target.folder);
}

/** The folder is a volume now. */
export async function finishTarget(target: VolumeFolder): Promise<void> {
  await target.files.syncFolder(target.folder);
  await target.files.remove(markerPath(target));
  await target.files.syncFolder(`${target.folder}/${FOLDERS.local}`);
}

function markerPath({ folder }: Pick<VolumeFolder, 'folder'>): string {
  return `${folder}/${FOLDERS.local}/${MARKER_NAME}`;
}

async function writeMarker(target: VolumeFolder, value: unknown): Promise<void> {
  await writeJson(target.files, `${target.folder}/${FOLDERS.local}`, MARKER_NAME, value);
}
