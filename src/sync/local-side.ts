/** The local end of a transfer: the volume's folder, or the one that is being restored. */
import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { fromSystem } from '../base/errors.js';
import { foldersOf } from './remote.js';

/** Creates `folder` and the folders below it that `paths` need, for this user only. */
export async function makeFolders(folder: string, paths: readonly string[]): Promise<void> {
  for (const name of foldersOf(paths)) {
    const full = path.join(folder, name);
    await fs.mkdir(full, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
      throw fromSystem(error, 'create', full);
    });
  }
}

/** Throws ChunkvolError 'io' for the first of `paths` that is not there. */
export async function requireFiles(folder: string, paths: readonly string[]): Promise<void> {
  for (const name of paths) {
    const full = path.join(folder, name);
    await fs.access(full).catch((error: unknown) => {
      throw fromSystem(error, 'read', full);
    });
  }
}
