/**
 * The remotes of a volume: those that the user has named, and the receipt of the last complete sync to
 * each place. Both are this machine's own, in local/remotes.json, replaced as a whole at every change.
 */
import { ChunkvolError } from '../base/errors.js';
import type { Files } from '../base/files.js';
import { FOLDERS } from '../store/context.js';
import { isCount, isObject, isTextList, readJson, writeJson } from './json-files.js';

const FILE_NAME = 'remotes.json';
const VERSION = 1;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** A volume's folder and the way to it; a StoreContext is one. */
export interface VolumeFolder {
  readonly files: Files;
  readonly folder: string;
}

export interface NamedRemote {
  readonly name: string;
  readonly url: string;
}

/** What is known of a remote since the last sync to it that went through. */
export interface SyncReceipt {
  readonly url: string;
  readonly timeMs: number;
  /** Generation and file name of the root that was put there. */
  readonly generation: number;
  readonly root: string;
  /** Bytes that this sync copied, and bytes that its root needs in all. */
  readonly copiedBytes: number;
  readonly neededBytes: number;
  /** Names of the key files that we have put there. */
  readonly keyFiles: readonly string[];
  /** Names of the roots there that are no ancestors of ours and were accepted by the user. */
  readonly acceptedRoots: readonly string[];
}

export interface RemoteBook {
  /** In order of names. */
  readonly remotes: readonly NamedRemote[];
  readonly receipts: readonly SyncReceipt[];
}

/** Throws ChunkvolError 'damaged' when the file is there and cannot be understood. */
export async function readRemoteBook(volume: VolumeFolder): Promise<RemoteBook> {
  const path = `${volume.folder}/${FOLDERS.local}/${FILE_NAME}`;
  const value = await readJson(volume.files, path).catch((error: unknown) => {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  });
  if (value === null) return { remotes: [], receipts: [] };
  const book = parseBook(value);
  if (book) return book;
  throw new ChunkvolError(
    'damaged',
    `${path} is damaged; remove it and name the remotes again with chunkvol remote add`,
  );
}

/** Throws ChunkvolError 'usage' for a name that cannot be one, 'exists' for one that is taken. */
export async function addRemote(volume: VolumeFolder, name: string, url: string): Promise<void> {
  if (!NAME.test(name)) {
    throw new ChunkvolError(
      'usage',
      `"${name}" is no name for a remote; use letters, digits, ".", "_" and "-"`,
    );
  }
  const book = await readRemoteBook(volume);
  const known = book.remotes.find((remote) => remote.name === name);
  if (known) {
    throw new ChunkvolError('exists', `remote ${name} is there already: ${known.url}`);
  }
  const remotes = [...book.remotes, { name, url }].sort((a, b) => (a.name < b.name ? -1 : 1));
  await writeBook(volume, { ...book, remotes });
}

/** The receipt stays: it tells which files there are ours. Throws ChunkvolError 'usage'. */
export async function removeRemote(volume: VolumeFolder, name: string): Promise<void> {
  const book = await readRemoteBook(volume);
  const remotes = book.remotes.filter((remote) => remote.name !== name);
  if (remotes.length === book.remotes.length) {
    throw new ChunkvolError('usage', `there is no remote ${name}; see chunkvol remote list`);
  }
  await writeBook(volume, { ...book, remotes });
}

/**
 * What the user means by a name or URL: the URL of the remote of that name, else the text itself. Throws
 * ChunkvolError 'usage' for what may be a name misspelt: it must not become a new folder.
 */
export async function resolveRemote(files: Files, book: RemoteBook, text: string): Promise<string> {
  const named = book.remotes.find((remote) => remote.name === text);
  if (named) return named.url;
  if (!NAME.test(text) || (await files.stat(text))) return text;
  throw new ChunkvolError(
    'usage',
    `there is no remote ${text} (chunkvol remote list), and no such folder; write ./${text} for a new one`,
  );
}

export function receiptOf(book: RemoteBook, url: string): SyncReceipt | null {
  return book.receipts.find((receipt) => receipt.url === url) ?? null;
}

/** Takes the place of the earlier receipt for the same URL. */
export async function writeReceipt(volume: VolumeFolder, receipt: SyncReceipt): Promise<void> {
  const book = await readRemoteBook(volume);
  const others = book.receipts.filter((other) => other.url !== receipt.url);
  await writeBook(volume, { ...book, receipts: [...others, receipt] });
}

async function writeBook(volume: VolumeFolder, book: RemoteBook): Promise<void> {
  const folder = `${volume.folder}/${FOLDERS.local}`;
  await writeJson(volume.files, folder, FILE_NAME, { version: VERSION, ...book });
}

/** null for anything but what `writeBook` writes. */
function parseBook(value: unknown): RemoteBook | null {
  if (!isObject(value) || value['version'] !== VERSION) return null;
  const { remotes, receipts } = value;
  if (!Array.isArray(remotes) || !Array.isArray(receipts)) return null;
  return remotes.every(isNamedRemote) && receipts.every(isReceipt) ? { remotes, receipts } : null;
}

function isNamedRemote(value: unknown): value is NamedRemote {
  return isObject(value) && typeof value['name'] === 'string' && typeof value['url'] === 'string';
}

function isReceipt(value: unknown): value is SyncReceipt {
  return (
    isObject(value) &&
    typeof value['url'] === 'string' &&
    typeof value['timeMs'] === 'number' &&
    typeof value['root'] === 'string' &&
    ['generation', 'copiedBytes', 'neededBytes'].every((field) => isCount(value[field])) &&
    isTextList(value['keyFiles']) &&
    isTextList(value['acceptedRoots'])
  );
}
