/** Key files that are gone or damaged, put back by who still has them: a process with the volume open, or a remote. */
import { equalBytes } from '../base/bytes.js';
import { isChunkvolError, tellsDamage, type ChunkvolError } from '../base/errors.js';
import type { Files } from '../base/files.js';
import type { Credential } from '../crypto/key-slot.js';
import { decodeKeyFile, MAX_KEY_FILE_BYTES, type KeyFile } from '../format/key-file.js';
import { decodeOrNull } from '../store/chunk-meta.js';
import { FOLDERS, keyFolder, NAME_PATTERN, type Environment } from '../store/context.js';
import {
  lockKeyFiles,
  ownKeyFiles,
  publishKeyFile,
  unlock,
  type UnlockedVolume,
} from '../store/key-files.js';
import { readWhole } from '../store/publish.js';
import { readRoots } from '../store/root-files.js';
import { fetchEach, fetchFolder, removeEach } from '../sync/fetch.js';
import type { Remote } from '../sync/remote.js';
import { listNamed } from '../sync/survey.js';

/**
 * Publishes the key file with which the volume was opened when none of this volume is left. What is there stays:
 * one that the disk does not give now may be newer, and counts when it does.
 */
export async function restoreKeyFile(
  files: Files,
  folder: string,
  { keys, keyFile }: UnlockedVolume,
): Promise<boolean> {
  const lock = await lockKeyFiles(files, folder);
  try {
    const left = await ownKeyFiles({ files, folder, keys }).catch((error: unknown) => {
      if (tellsDamage(error)) return [];
      throw error;
    });
    if (left.length > 0) return false;
    await publishKeyFile(files, folder, keys, keyFile);
    return true;
  } finally {
    await lock.release();
  }
}

/**
 * Unlocks a volume that its own key files do not open, with those of a remote, and puts them back. The caller
 * holds the folder's lock. Throws `reason`, why they do not open it, where that is not their damage: a whole
 * one is here, or the remote's volume is another. Throws as Remote does too, and 'io' for want of rights.
 */
export async function unlockFrom(
  context: Environment,
  folder: string,
  remote: Remote,
  credential: Credential,
  reason: ChunkvolError,
): Promise<UnlockedVolume> {
  const { files } = context;
  const unlocked = await unlockThere(files, folder, remote, credential);
  if (!unlocked) throw reason;
  const { keys, keyFile } = unlocked;
  const { roots, foreign } = await readRoots({
    ...context,
    folder,
    keys,
    volumeId: keyFile.volumeId,
  });
  const { length: strangers } = [...foreign, ...(await otherKeyFiles(files, folder, keyFile))];
  if (roots.length === 0 && strangers > 0) throw reason;
  if (!(await restoreKeyFile(files, folder, unlocked))) throw reason;
  return unlocked;
}

/** The key files here that say that they are another volume's. */
async function otherKeyFiles(
  files: Files,
  folder: string,
  { volumeId }: KeyFile,
): Promise<KeyFile[]> {
  const others: KeyFile[] = [];
  for (const name of await files.list(keyFolder({ folder }))) {
    if (!NAME_PATTERN.test(name)) continue;
    const path = `${keyFolder({ folder })}/${name}`;
    const bytes = await readWhole(files, path, MAX_KEY_FILE_BYTES).catch((error: unknown) => {
      if (tellsDamage(error)) return null;
      throw error;
    });
    const decoded = bytes && decodeOrNull(() => decodeKeyFile(bytes));
    if (decoded && !equalBytes(decoded.file.volumeId, volumeId)) others.push(decoded.file);
  }
  return others;
}

/** null where the credential opens nothing there either. */
async function unlockThere(
  files: Files,
  folder: string,
  remote: Remote,
  credential: Credential,
): Promise<UnlockedVolume | null> {
  const found = await listNamed(remote, FOLDERS.keys, MAX_KEY_FILE_BYTES);
  const volume = { files, folder };
  const fetched = fetchFolder(volume, remote.url);
  await fetchEach(volume, remote, found, () => undefined, { keep: true });
  try {
    return await unlock(files, fetched, credential);
  } catch (error) {
    if (isChunkvolError(error, 'wrong-key', 'damaged', 'not-a-volume')) return null;
    throw error;
  } finally {
    const paths = found.map(({ path }) => path);
    await removeEach(volume, fetched, paths);
  }
}
