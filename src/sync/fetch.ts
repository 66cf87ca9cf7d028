/**
 * Small files of a remote (roots, key files), fetched and looked at one by one, in batches of bounded
 * size, by way of a folder of their own below local/.
 */
import { FOLDERS } from '../store/context.js';
import { readWhole } from '../store/publish.js';
import { remoteId } from './json-files.js';
import type { Remote, RemoteFile } from './remote.js';
import type { VolumeFolder } from './remotes.js';

const MAX_BATCH_FILES = 512;
const MAX_BATCH_BYTES = 256 * 1024 * 1024;

/** Where fetched files stand until they have been looked at. */
export function fetchFolder(volume: VolumeFolder, url: string): string {
  return `${volume.folder}/${FOLDERS.local}/fetched-${remoteId(url)}`;
}

export interface FetchOptions {
  /** Leaves the files there for later. */
  readonly keep?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Calls `visit` with the contents of each file, or with null where nothing, or too much, has come. */
export async function fetchEach(
  volume: VolumeFolder,
  remote: Remote,
  files: readonly RemoteFile[],
  visit: (file: RemoteFile, bytes: Uint8Array | null) => void,
  options: FetchOptions = {},
): Promise<void> {
  const folder = fetchFolder(volume, remote.url);
  for (const batch of batches(files)) {
    const paths = batch.map((file) => file.path);
    // What an interrupted run has left need not be what is there now, whatever its size.
    await removeEach(volume, folder, paths);
    await remote.download(folder, paths, { signal: options.signal });
    for (const file of batch) {
      visit(file, await readWhole(volume.files, `${folder}/${file.path}`, file.bytes));
    }
    if (options.keep !== true) await removeEach(volume, folder, paths);
  }
}

export async function removeEach(
  volume: VolumeFolder,
  folder: string,
  paths: readonly string[],
): Promise<void> {
  for (const path of paths) await volume.files.remove(`${folder}/${path}`);
}

function* batches(files: readonly RemoteFile[]): Generator<RemoteFile[]> {
  let batch: RemoteFile[] = [];
  let bytes = 0;
  for (const file of files) {
    if (
      batch.length === MAX_BATCH_FILES ||
      (batch.length > 0 && bytes + file.bytes > MAX_BATCH_BYTES)
    ) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(file);
    bytes += file.bytes;
  }
  if (batch.length > 0) yield batch;
}
