/** Key files that are gone, put back by who still has them: a process with the volume open, or a remote. */
import { ChunkvolError } from '../base/errors.js';
import type { Files } from '../base/files.js';
import { MAX_KEY_FILE_BYTES } from '../format/key-file.js';
import type { VolumeKeys } from '../crypto/key-schedule.js';
import { FOLDERS, keyFolder, NAME_PATTERN } from '../store/context.js';
import { publishKeyFile, type UnlockedVolume } from '../store/key-files.js';
import { readWhole } from '../store/publish.js';
import type { Remote } from '../sync/remote.js';
import { isOwnKeyFile } from '../sync/survey.js';

/** Publishes the key file with which the volume was opened when none of this volume is left. */
export async function restoreKeyFile(
  files: Files,
  folder: string,
  { keys, keyFile }: UnlockedVolume,
): Promise<boolean> {
  for (const name of await keyFileNames(files, folder)) {
    if (await isWhole(files, `${keyFolder({ folder })}/${name}`, keys)) return false;
  }
  await files.makeFolder(keyFolder({ folder }));
  await publishKeyFile(files, folder, keys, keyFile);
  return true;
}

/** Copies the remote's key files here when there are none at all. Throws as Remote does; 'not-a-volume'. */
export async function fetchKeyFiles(files: Files, folder: string, remote: Remote): Promise<void> {
  if ((await keyFileNames(files, folder)).length > 0) return;
  const found = await remote.list(FOLDERS.keys);
  const paths = found.filter(({ bytes }) => bytes <= MAX_KEY_FILE_BYTES).map(({ path }) => path);
  if (paths.length === 0) {
    throw new ChunkvolError(
      'not-a-volume',
      `there is no key file in ${folder}, and none on ${remote.url}`,
    );
  }
  await remote.download(folder, paths);
}

async function keyFileNames(files: Files, folder: string): Promise<string[]> {
  return (await files.list(keyFolder({ folder }))).filter((name) => NAME_PATTERN.test(name));
}

/** A key file's name derives from its content. */
async function isWhole(files: Files, path: string, keys: VolumeKeys): Promise<boolean> {
  const bytes = await readWhole(files, path, MAX_KEY_FILE_BYTES).catch(() => null);
  return bytes !== null && isOwnKeyFile({ keys }, { path, bytes: bytes.length }, bytes);
}
