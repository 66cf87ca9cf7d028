/**
 * What a place to keep a copy of a volume can do, whichever tool reaches it. Files are named by
 * their path relative to the volume's folder ("chunks/0af3…"), always one folder deep or more.
 *
 * Invariants of every implementation:
 * - a file that is there with the size of its source is never written again;
 * - a file of another size is what a broken transfer left behind, and is replaced;
 * - `remove` touches the named files only (and leftovers of interrupted transfers);
 * - an empty list of paths does nothing: no tool is started that could take it for "everything".
 */
import { ChunkvolError } from '../base/errors.js';

export interface RemoteFile {
  /** 'chunks/0af3…', relative to the volume's folder on the remote. */
  readonly path: string;
  readonly bytes: number;
}

export interface TransferOptions {
  /** Bytes per second with a binary suffix: '2M', '512K', '1.5M'. */
  readonly bandwidthLimit?: string | undefined;
  /** Bytes of file contents moved by this call so far; never decreases. Retries count again. */
  readonly onProgress?: ((doneBytes: number) => void) | undefined;
  /** Aborting ends the tool; the call then rejects with ChunkvolError 'interrupted'. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * All methods throw ChunkvolError: 'remote' for what the remote or the way to it causes,
 * 'missing-tool' when a program is not installed, 'interrupted' when aborted; `download` also
 * 'no-space' when the local disk is full.
 */
export interface Remote {
  /** Canonical form, as the user would type it. */
  readonly url: string;
  /** All files directly in `folder` ('keys', 'chunks', 'roots'); [] when there is none yet. */
  list(folder: string, signal?: AbortSignal): Promise<RemoteFile[]>;
  /** Copies the named files from `localFolder` to the remote, creating its folders. */
  upload(localFolder: string, paths: readonly string[], options?: TransferOptions): Promise<void>;
  /** Copies the named files from the remote to `localFolder`, creating it and its folders. */
  download(localFolder: string, paths: readonly string[], options?: TransferOptions): Promise<void>;
  /** Removes the named files; no error for those that are gone already. */
  remove(paths: readonly string[], signal?: AbortSignal): Promise<void>;
}

const SUFFIX_BYTES: Record<string, number> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/** Bytes per second of a `--bwlimit`; throws ChunkvolError 'usage'. */
export function bandwidthBytes(text: string): number {
  const [, digits, suffix] = /^(\d+(?:\.\d+)?)([KMGT]?)$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(digits) * (SUFFIX_BYTES[suffix?.toUpperCase() ?? ''] ?? NaN));
  if (bytes >= 1) return bytes;
  throw new ChunkvolError(
    'usage',
    `"${text}" is not a bandwidth; write bytes per second, for example 512K or 2M`,
  );
}

/**
 * Checks names that the program itself made up: 'folder/name' without '.', '..', line breaks or
 * NUL, so that they are one entry in any tool's list of files. Throws RangeError.
 */
export function checkPaths(paths: readonly string[]): void {
  for (const path of paths) {
    const parts = path.split('/');
    const plain = parts.every((part) => part !== '' && part !== '.' && part !== '..');
    if (parts.length < 2 || !plain || /[\0\r\n]/.test(path)) {
      throw new RangeError(`not a path below a folder of the remote: ${JSON.stringify(path)}`);
    }
  }
}

/** The folders that `paths` are in, each once. */
export function foldersOf(paths: readonly string[]): string[] {
  return [...new Set(paths.map((path) => path.slice(0, path.lastIndexOf('/'))))];
}

/** Reports progress onwards only where it grew. */
export function growing(report: TransferOptions['onProgress']): (doneBytes: number) => void {
  let reportedBytes = 0;
  return (doneBytes) => {
    if (doneBytes <= reportedBytes) return;
    reportedBytes = doneBytes;
    report?.(doneBytes);
  };
}
