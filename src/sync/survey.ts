/**
 * What a remote holds already: whether it is this volume at all, and which of its states.
 *
 * Names tell nothing to whoever has not seen the contents once. So roots and key files that are not
 * known yet are fetched, and what was found is kept in local/index-<remote>.json: an ordinary sync
 * fetches none. A file that does not open is no error: it is what somebody else, or a broken transfer,
 * has left there. It does not count, but is looked at again each time: it may have been mended.
 */
import { equalBytes } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import { decodeKeyFile, MAX_KEY_FILE_BYTES } from '../format/key-file.js';
import { MAX_ROOT_FILE_BYTES, type Root } from '../format/root.js';
import { decodeOrNull } from '../store/chunk-meta.js';
import { FOLDERS, NAME_PATTERN, type StoreContext } from '../store/context.js';
import { keyFileName, ownKeyFiles } from '../store/key-files.js';
import { openRoot, readRoots, rootName } from '../store/root-files.js';
import { fetchEach } from './fetch.js';
import { isCount, isObject, readJson, remoteId, writeJson } from './json-files.js';
import { pointOf, type LinePoint } from './lineage.js';
import { sizesOf, type Sizes } from './plan.js';
import type { Remote, RemoteFile } from './remote.js';

const VERSION = 1;

/** Key files beyond this number are not looked at. */
const MAX_KEY_FILES = 64;

export interface KnownRoot extends RemoteFile {
  readonly closed: boolean;
  readonly point: LinePoint;
}

export interface Survey {
  /** Key files of this volume that are there. */
  readonly keys: Sizes;
  /** All files in roots/, whosesoever. */
  readonly rootFiles: Sizes;
  /** Roots of this volume that are there as they were written. */
  readonly roots: readonly KnownRoot[];
}

/** What was found to be this volume's before. */
interface Index {
  readonly roots: Map<string, KnownRoot>;
  readonly keys: Map<string, number>;
}

/** Throws ChunkvolError 'remote-foreign' when the remote holds another volume. */
export async function surveyRemote(
  context: StoreContext,
  remote: Remote,
  signal?: AbortSignal,
): Promise<Survey> {
  const keyFiles = await listNamed(remote, FOLDERS.keys, MAX_KEY_FILE_BYTES, signal);
  const rootFiles = await listNamed(remote, FOLDERS.roots, MAX_ROOT_FILE_BYTES, signal);
  const index = await readIndex(context, remote.url);
  const keys = await surveyKeys(context, remote, keyFiles, index, signal);
  const { roots, strangers } = await surveyRoots(context, remote, rootFiles, index, signal);
  if (keys.size === 0 && roots.length === 0 && strangers > 0) throw foreign(remote);
  await writeIndex(context, remote.url, index, [...keyFiles, ...rootFiles]);
  return { keys, rootFiles: sizesOf(rootFiles), roots };
}

/** Files in a folder of the remote that can be what they should be, by name and size. */
export async function listNamed(
  remote: Remote,
  folder: string,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<RemoteFile[]> {
  const files = await remote.list(folder, signal);
  return files.filter((file) => NAME_PATTERN.test(nameOf(file)) && file.bytes <= maxBytes);
}

export function nameOf(file: Pick<RemoteFile, 'path'>): string {
  return file.path.slice(file.path.lastIndexOf('/') + 1);
}

/** Whether `bytes` are what the key file of this name was published with. */
export function isOwnKeyFile(
  context: Pick<StoreContext, 'keys'>,
  file: RemoteFile,
  bytes: Uint8Array,
): boolean {
  return keyFileName(context.keys, bytes) === nameOf(file);
}

/** The root in a file of this name; null when it is none of this volume's, or damaged. */
export function ownRoot(
  context: Pick<StoreContext, 'keys'>,
  file: RemoteFile,
  bytes: Uint8Array,
): Root | null {
  const root = openRoot(context.keys, bytes);
  if (!root) return null;
  return rootName(context.keys.maintenance, root.session, bytes) === nameOf(file) ? root : null;
}

async function surveyKeys(
  context: StoreContext,
  remote: Remote,
  files: readonly RemoteFile[],
  index: Index,
  signal: AbortSignal | undefined,
): Promise<Sizes> {
  const here = await localKeyFile(context);
  if (here) index.keys.set(here.path, here.bytes);
  // A known name with another size is a leftover: no other contents can bear it.
  const unknown = files.filter((file) => !index.keys.has(file.path)).slice(0, MAX_KEY_FILES);
  const visit = (file: RemoteFile, bytes: Uint8Array | null): void => {
    if (!bytes) return;
    if (isOwnKeyFile(context, file, bytes)) {
      index.keys.set(file.path, file.bytes);
      return;
    }
    const decoded = decodeOrNull(() => decodeKeyFile(bytes));
    if (decoded && !equalBytes(decoded.file.volumeId, context.volumeId)) throw foreign(remote);
  };
  await fetchEach(context, remote, unknown, visit, { signal });
  return sizesOf(files.filter((file) => index.keys.get(file.path) === file.bytes));
}

/**
 * The key file that counts here; null when none is whole: a damaged one must not take the place of a good one there.
 * Throws 'io' where one cannot be read.
 */
export async function localKeyFile(context: StoreContext): Promise<RemoteFile | null> {
  const [newest] = await ownKeyFiles(context);
  return newest ? { path: `${FOLDERS.keys}/${newest.name}`, bytes: newest.bytes.length } : null;
}

async function surveyRoots(
  context: StoreContext,
  remote: Remote,
  files: readonly RemoteFile[],
  index: Index,
  signal: AbortSignal | undefined,
): Promise<{ roots: KnownRoot[]; strangers: number }> {
  for (const { name, bytes, root } of (await readRoots(context)).roots) {
    const file = { path: `${FOLDERS.roots}/${name}`, bytes: bytes.length };
    index.roots.set(file.path, knownRoot(file, root));
  }
  // As with key files: of a known name and another size no good can come.
  const unknown = files.filter((file) => !index.roots.has(file.path));
  const visit = (file: RemoteFile, bytes: Uint8Array | null): void => {
    const root = bytes && ownRoot(context, file, bytes);
    if (root) index.roots.set(file.path, knownRoot(file, root));
  };
  await fetchEach(context, remote, unknown, visit, { signal });
  return {
    roots: files.flatMap((file) => {
      const root = index.roots.get(file.path);
      return root?.bytes === file.bytes ? [root] : [];
    }),
    strangers: files.filter((file) => !index.roots.has(file.path)).length,
  };
}

export function knownRoot(file: RemoteFile, root: Root): KnownRoot {
  return { path: file.path, bytes: file.bytes, closed: root.closed, point: pointOf(root) };
}

function foreign(remote: Remote): ChunkvolError {
  return new ChunkvolError(
    'remote-foreign',
    `${remote.url} holds another volume; nothing was changed there; choose an empty folder for this one`,
  );
}

function indexName(url: string): string {
  return `index-${remoteId(url)}.json`;
}

/** Empty when there is none, or none that can be read: then everything is fetched once more. */
async function readIndex(context: StoreContext, url: string): Promise<Index> {
  const index: Index = { roots: new Map(), keys: new Map() };
  const path = `${context.folder}/${FOLDERS.local}/${indexName(url)}`;
  const value = await readJson(context.files, path).catch(() => null);
  if (!isObject(value) || value['version'] !== VERSION || value['url'] !== url) return index;
  const { keys, roots } = value;
  if (!Array.isArray(keys) || !Array.isArray(roots)) return index;
  for (const key of keys.filter(isRemoteFile)) index.keys.set(key.path, key.bytes);
  for (const root of roots.filter(isRemoteFile).filter(isKnownRoot)) {
    index.roots.set(root.path, root);
  }
  return index;
}

/** Keeps what is known of the files that are there. */
async function writeIndex(
  context: StoreContext,
  url: string,
  index: Index,
  files: readonly RemoteFile[],
): Promise<void> {
  const keys = files.filter((file) => index.keys.get(file.path) === file.bytes);
  const roots = files.flatMap((file) => {
    const root = index.roots.get(file.path);
    return root ? [root] : [];
  });
  const folder = `${context.folder}/${FOLDERS.local}`;
  const value = { version: VERSION, url, keys, roots };
  // An index that cannot be written costs the next sync some time, and this one nothing.
  await writeJson(context.files, folder, indexName(url), value).catch(() => undefined);
}

function isRemoteFile(value: unknown): value is RemoteFile {
  return isObject(value) && typeof value['path'] === 'string' && isCount(value['bytes']);
}

function isKnownRoot(file: RemoteFile): file is KnownRoot {
  const { closed, point } = file as Partial<KnownRoot>;
  return (
    typeof closed === 'boolean' &&
    isObject(point) &&
    isCount(point.generation) &&
    isCount(point.sessions) &&
    typeof point.digest === 'string'
  );
}
