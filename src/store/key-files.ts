/**
 * Key files: opening a volume with a credential, and changing who can. Layout: format/key-file.ts.
 *
 * Key files are immutable: a change publishes a new one with a higher counter and removes the older.
 * Of those that are the volume's, the newest alone counts: the others, which a crash may leave, open nothing.
 * A host can hide a newer one; the root names the counter that it knew.
 */
import { equalBytes } from '../base/bytes.js';
import { ChunkvolError, isChunkvolError } from '../base/errors.js';
import type { Files } from '../base/files.js';
import { lockInKernel, type FolderLock } from '../base/lock.js';
import { createHmac } from 'node:crypto';
import { unwrapVolumeKey, type Credential, type WrappedKey } from '../crypto/key-slot.js';
import { VolumeKeys } from '../crypto/key-schedule.js';
import {
  decodeKeyFile,
  encodeKeyFile,
  MAX_KEY_FILE_BYTES,
  type KeyFile,
  type KeySlot,
} from '../format/key-file.js';
import { sha256 } from '../format/root.js';
import { decodeOrNull } from './chunk-meta.js';
import { keyFolder, NAME_PATTERN } from './context.js';
import { publishFile, readWhole } from './publish.js';

/** Key files that are tried; a volume has one, and more only for the moment of a change. */
const MAX_KEY_FILES = 8;

export interface UnlockedVolume {
  readonly volumeKey: Uint8Array;
  readonly keys: VolumeKeys;
  readonly keyFile: KeyFile;
  /** The slot that the credential opened. */
  readonly slotId: Uint8Array;
}

/** Whose key files, and where. */
export interface KeyPlace {
  readonly files: Files;
  readonly folder: string;
  readonly keys: VolumeKeys;
}

interface KeyFileOnDisk {
  readonly name: string;
  readonly file: KeyFile;
  readonly body: Uint8Array;
  readonly mac: Uint8Array;
}

/**
 * Finds the volume key. Throws 'not-a-volume' where there is no key file, 'damaged' when none can be
 * read, 'wrong-key' when the credential fits no slot.
 */
export async function unlock(
  files: Files,
  folder: string,
  credential: Credential,
): Promise<UnlockedVolume> {
  const candidates = await readKeyFiles(files, folder);
  for (const candidate of candidates) {
    const unlocked = await tryUnlock(candidate, credential);
    if (!unlocked) continue;
    const newer = candidates.filter(({ file }) => file.counter > candidate.file.counter);
    if (newer.some((each) => isGenuine(each, unlocked.keys))) break;
    return unlocked;
  }
  const what = credential.kind === 'passphrase' ? 'passphrase' : 'key file';
  throw new ChunkvolError('wrong-key', `wrong ${what} for the volume in ${folder}`);
}

/** The key files of a folder, the highest counter first. */
async function readKeyFiles(files: Files, folder: string): Promise<KeyFileOnDisk[]> {
  const keys = keyFolder({ folder });
  const found: KeyFileOnDisk[] = [];
  const names = (await files.list(keys)).filter((name) => NAME_PATTERN.test(name));
  for (const name of names) {
    const bytes = await readWhole(files, `${keys}/${name}`, MAX_KEY_FILE_BYTES).catch(() => null);
    const decoded = bytes && decodeOrNull(() => decodeKeyFile(bytes));
    if (decoded) found.push({ name, ...decoded });
  }
  if (names.length === 0) {
    throw new ChunkvolError(
      'not-a-volume',
      `${folder} holds no volume: there is no key file in ${keys}`,
    );
  }
  if (found.length === 0) {
    throw new ChunkvolError(
      'damaged',
      `no key file in ${keys} can be read; bring one back from a copy of the volume`,
    );
  }
  found.sort((a, b) => b.file.counter - a.file.counter);
  return found.slice(0, MAX_KEY_FILES);
}

async function tryUnlock(
  candidate: KeyFileOnDisk,
  credential: Credential,
): Promise<UnlockedVolume | null> {
  for (const slot of candidate.file.slots) {
    const volumeKey = await unwrapOrSkip(wrappedKey(slot), credential);
    if (!volumeKey) continue;
    const keys = new VolumeKeys(volumeKey);
    if (!isGenuine(candidate, keys)) continue;
    return { volumeKey, keys, keyFile: candidate.file, slotId: slot.id };
  }
  return null;
}

/** null also for a slot with impossible parameters: it must not stand in the way of the others. */
async function unwrapOrSkip(slot: WrappedKey, credential: Credential): Promise<Uint8Array | null> {
  try {
    return await unwrapVolumeKey(slot, credential);
  } catch (error) {
    if (isChunkvolError(error, 'damaged')) return null;
    throw error;
  }
}

function isGenuine({ body, mac }: Pick<KeyFileOnDisk, 'body' | 'mac'>, keys: VolumeKeys): boolean {
  return equalBytes(keyFileMac(keys, body), mac);
}

export interface OwnKeyFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly file: KeyFile;
}

/** Nobody else changes the key files until it is released. Throws 'in-use'. */
export async function lockKeyFiles(files: Files, folder: string): Promise<FolderLock> {
  await files.makeFolder(keyFolder({ folder }));
  return lockInKernel(keyFolder({ folder }));
}

/** The key files of a volume in its folder that are whole, the newest first. Throws 'io'. */
export async function ownKeyFiles({ files, folder, keys }: KeyPlace): Promise<OwnKeyFile[]> {
  const found: OwnKeyFile[] = [];
  for (const name of await files.list(keyFolder({ folder }))) {
    if (!NAME_PATTERN.test(name)) continue;
    const bytes = await readWhole(files, `${keyFolder({ folder })}/${name}`, MAX_KEY_FILE_BYTES);
    if (!bytes || keyFileName(keys, bytes) !== name) continue;
    const file = decodeOwn(keys, bytes);
    if (file) found.push({ name, bytes, file });
  }
  return found.sort((a, b) => b.file.counter - a.file.counter);
}

/** A key file of the volume whose keys these are; null for any other, and for a damaged one. */
export function decodeOwn(keys: VolumeKeys, bytes: Uint8Array): KeyFile | null {
  const decoded = decodeOrNull(() => decodeKeyFile(bytes));
  return decoded && isGenuine(decoded, keys) ? decoded.file : null;
}

/** Removes the volume's key files that a newer one has replaced. The caller holds the lock on them. */
export async function removeOlderKeyFiles(place: KeyPlace): Promise<void> {
  const [newest, ...others] = await ownKeyFiles(place);
  const older = others.filter(({ file }) => file.counter < newest!.file.counter);
  if (older.length === 0) return;
  const folder = keyFolder(place);
  // The newest may have been published a moment before a crash.
  await place.files.syncFolder(folder);
  for (const { name } of older) await place.files.remove(`${folder}/${name}`);
  await place.files.syncFolder(folder);
}

/** The name that a key file with these bytes is published under. */
export function keyFileName(keys: VolumeKeys, bytes: Uint8Array): string {
  return keys.maintenance.fileName('key', sha256(bytes));
}

/**
 * Publishes a key file with the highest counter, and removes those before it: or leaves that to whoever opens the
 * volume next, as they open nothing any more. The caller holds the lock on the key files.
 */
export async function publishKeyFile(
  files: Files,
  folder: string,
  keys: VolumeKeys,
  keyFile: KeyFile,
): Promise<void> {
  const body = encodeKeyFile(keyFile);
  const bytes = Buffer.concat([body, keyFileMac(keys, body)]);
  const name = keyFileName(keys, bytes);
  const path = `${keyFolder({ folder })}/${name}`;
  const isThere = (await files.stat(path)) !== null;
  await publishFile(files, keyFolder({ folder }), name, bytes).catch(async (error: unknown) => {
    // It may be there and not be durable: whoever is told that it failed goes on with what was before.
    if (!isThere) await files.remove(path).catch(() => undefined);
    throw error;
  });
  await removeOlderKeyFiles({ files, folder, keys }).catch(() => undefined);
}

/** The slot record for a wrapped key. */
export function keySlot(id: Uint8Array, createdMs: number, wrapped: WrappedKey): KeySlot {
  return {
    id,
    kind: wrapped.kdf === 'argon2id' ? 'passphrase' : 'key-file',
    ...wrapped.parameters,
    createdMs,
    salt: wrapped.salt,
    commitment: wrapped.commitment,
    nonce: wrapped.nonce,
    wrapped: wrapped.wrapped,
  };
}

function wrappedKey(slot: KeySlot): WrappedKey {
  const { memoryKiB, iterations, lanes, salt, commitment, nonce, wrapped } = slot;
  const kdf = slot.kind === 'passphrase' ? 'argon2id' : 'key-file';
  return {
    kdf,
    parameters: { memoryKiB, iterations, lanes },
    salt,
    commitment,
    nonce,
    wrapped,
  };
}

function keyFileMac(keys: VolumeKeys, body: Uint8Array): Uint8Array {
  return createHmac('sha256', keys.data.keyFile).update(body).digest();
}
