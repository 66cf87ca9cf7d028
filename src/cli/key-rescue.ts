/** Key files that are gone or damaged, put back by who still has them: a process with the volume open, or a remote. */
import { isChunkvolError } from '../base/errors.js';
import type { Files } from '../base/files.js';
import type { Credential } from '../crypto/key-slot.js';
import { MAX_KEY_FILE_BYTES } from '../format/key-file.js';
import { FOLDERS, keyFolder } from '../store/context.js';
import { ownKeyFiles, publishKeyFile, unlock, type UnlockedVolume } from '../store/key-files.js';
import { fetchEach, fetchFolder, removeEach } from '../sync/fetch.js';
import type { Remote } from '../sync/remote.js';
import { listNamed } from '../sync/survey.js';

/** Publishes the key file with which the volume was opened when none of this volume is left. */
export async function restoreKeyFile(
  files: Files,
  folder: string,
  { keys, keyFile }: UnlockedVolume,
): Promise<boolean> {
  // One that cannot be read is as good as none.
  const left = await ownKeyFiles({ files, folder, keys }).catch(() => []);
  if (left.length > 0) return false;
  await files.makeFolder(keyFolder({ folder }));
  await publishKeyFile(files, folder, keys, keyFile);
  return true;
}

/**
 * Unlocks a volume that its own key files do not open, with those of a remote, and puts them back. Where a whole
 * one is here it is the credential that is wrong. Throws what `unlock` throws, and as Remote does.
 */
export async function unlockFrom(
  files: Files,
  folder: string,
  remote: Remote,
  credential: Credential,
): Promise<UnlockedVolume> {
  try {
    return await unlock(files, folder, credential);
  } catch (error) {
    if (!isChunkvolError(error, 'wrong-key', 'damaged', 'not-a-volume')) throw error;
    const unlocked = await unlockThere(files, folder, remote, credential);
    if (!unlocked || !(await restoreKeyFile(files, folder, unlocked))) throw error;
    return unlocked;
  }
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
