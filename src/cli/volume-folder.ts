/** Which volume a command is about: -C, else $CHUNKVOL_VOLUME, else the current folder. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ChunkvolError, errnoOf, fromSystem } from '../base/errors.js';
import { FOLDERS } from '../store/context.js';

/** There from the first to the last byte of a restore (src/sync/target.ts). */
const RESTORE_MARKER = 'restoring';

export const VOLUME_VARIABLE = 'CHUNKVOL_VOLUME';

/** The volume's folder as an absolute path; nothing is looked at yet. */
export function chosenFolder(option: string | undefined): string {
  return path.resolve(option ?? (process.env[VOLUME_VARIABLE] || '.'));
}

/**
 * The same, of a folder that looks like a volume; `mayLackKeys`: whatever is in it. Throws
 * ChunkvolError('not-a-volume').
 */
export function existingVolume(
  option: string | undefined,
  { mayLackKeys = false }: { readonly mayLackKeys?: boolean } = {},
): string {
  const folder = chosenFolder(option);
  if (fs.existsSync(path.join(folder, FOLDERS.local, RESTORE_MARKER))) {
    throw new ChunkvolError(
      'not-a-volume',
      `the restore to ${folder} is not finished; run the same chunkvol restore again`,
    );
  }
  if (isVolume(folder) || (mayLackKeys && isFolder(folder))) return folder;
  throw new ChunkvolError(
    'not-a-volume',
    `there is no volume in ${folder}; name its folder with -C DIR or $${VOLUME_VARIABLE}`,
  );
}

/** Whether there is a folder of key files, the one thing without which no volume opens. */
export function isVolume(folder: string): boolean {
  return isFolder(path.join(folder, FOLDERS.keys));
}

function isFolder(at: string): boolean {
  try {
    return fs.statSync(at, { throwIfNoEntry: false })?.isDirectory() ?? false;
  } catch (error) {
    if (errnoOf(error) === 'ENOTDIR') return false;
    throw fromSystem(error, 'open', at);
  }
}

/** Throws ChunkvolError('exists') when `folder` holds more than nothing, or than an unfinished restore. */
export function requireRestorable(folder: string): void {
  if (!fs.existsSync(path.join(folder, FOLDERS.local, RESTORE_MARKER))) requireEmpty(folder);
}

/** Throws ChunkvolError('exists') unless `folder` is empty or absent. */
export function requireEmpty(folder: string): void {
  let names: string[];
  try {
    names = fs.readdirSync(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    if (errnoOf(error) === 'ENOTDIR')
      throw new ChunkvolError('exists', `${folder} is not a folder`);
    throw fromSystem(error, 'list', folder);
  }
  if (names.length > 0) {
    throw new ChunkvolError(
      'exists',
      `${folder} is not empty; name a folder that is, or a new one`,
    );
  }
}
