/**
 * Root files: sealing, opening, publishing, and finding all that a folder holds. Layout: format/root.ts.
 *
 * A root's name is keyed and derives from its writer and its content; the name is checked, so that a
 * file under another's name counts as damaged.
 */
import {
  decodeEnvelope,
  decodeInner,
  decodeOuter,
  encodeEnvelope,
  encodeInner,
  encodeOuter,
  MAX_ROOT_FILE_BYTES,
  ROOT_ENVELOPE_BYTES,
  ROOT_NONCE_BYTES,
  sha256,
  type Root,
  type RootOuter,
} from '../format/root.js';
import type { Randomness } from '../base/randomness.js';
import type { MaintenanceKeys, VolumeKeys } from '../crypto/key-schedule.js';
import { openLong, sealLong } from '../crypto/sealing.js';
import { decodeOrNull } from './chunk-meta.js';
import { NAME_PATTERN, rootFolder, type StoreContext } from './context.js';
import { publishFile, readWhole } from './publish.js';

const SEAL_BYTES = 16;
const PARTS = { envelope: 0, outer: 1, inner: 2 } as const;
const AAD = {
  envelope: Buffer.from('root envelope'),
  outer: Buffer.from('root outer'),
  inner: Buffer.from('root inner'),
};

export interface RootFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly root: Root;
}

/** The bytes of a root file. */
export function sealRoot(keys: VolumeKeys, random: Randomness, root: Root): Uint8Array {
  const nonce = random.bytes(ROOT_NONCE_BYTES);
  const outerKey = keys.maintenance.outerRoot;
  const outerPlain = encodeOuter(root);
  const outer = sealLong(outerKey, partNonce(nonce, PARTS.outer), outerPlain, AAD.outer);
  const innerPlain = encodeInner(root, outerPlain);
  const inner = sealLong(keys.data.innerRoot, partNonce(nonce, PARTS.inner), innerPlain, AAD.inner);
  const envelopePlain = encodeEnvelope(outer.length, inner.length);
  const envelope = sealLong(
    outerKey,
    partNonce(nonce, PARTS.envelope),
    envelopePlain,
    AAD.envelope,
  );
  return Buffer.concat([nonce, envelope, outer, inner]);
}

/** Bytes that a root file of this content has. */
export function sealedRootBytes(root: Root): number {
  const outer = encodeOuter(root);
  const inner = encodeInner(root, outer);
  return ROOT_NONCE_BYTES + ROOT_ENVELOPE_BYTES + outer.length + inner.length + 3 * SEAL_BYTES;
}

export function openRoot(keys: VolumeKeys, bytes: Uint8Array): Root | null {
  const opened = openOuterPart(keys.maintenance, bytes);
  if (!opened) return null;
  const nonce = partNonce(bytes.subarray(0, ROOT_NONCE_BYTES), PARTS.inner);
  const plain = openLong(keys.data.innerRoot, nonce, opened.sealedInner, AAD.inner);
  return plain && decodeOrNull(() => decodeInner(plain, opened.outer, opened.outerPlain));
}

/** The outer part: all that the maintenance key opens. */
function openOuterPart(
  keys: MaintenanceKeys,
  bytes: Uint8Array,
): { outer: RootOuter; outerPlain: Uint8Array; sealedInner: Uint8Array } | null {
  const outerAt = ROOT_NONCE_BYTES + ROOT_ENVELOPE_BYTES + SEAL_BYTES;
  if (bytes.length < outerAt) return null;
  const nonce = bytes.subarray(0, ROOT_NONCE_BYTES);
  const sealedEnvelope = bytes.subarray(ROOT_NONCE_BYTES, outerAt);
  const envelope = openLong(
    keys.outerRoot,
    partNonce(nonce, PARTS.envelope),
    sealedEnvelope,
    AAD.envelope,
  );
  const lengths = envelope && decodeOrNull(() => decodeEnvelope(envelope));
  if (lengths?.outerBytes === undefined) return null;
  if (outerAt + lengths.outerBytes + lengths.innerBytes !== bytes.length) return null;
  const sealedOuter = bytes.subarray(outerAt, outerAt + lengths.outerBytes);
  const outerPlain = openLong(
    keys.outerRoot,
    partNonce(nonce, PARTS.outer),
    sealedOuter,
    AAD.outer,
  );
  const outer = outerPlain && decodeOrNull(() => decodeOuter(outerPlain));
  if (!outer) return null;
  return { outer, outerPlain, sealedInner: bytes.subarray(outerAt + lengths.outerBytes) };
}

function partNonce(nonce: Uint8Array, part: number): Uint8Array {
  const copy = nonce.slice();
  copy[ROOT_NONCE_BYTES - 1] = part;
  return copy;
}

export function rootName(
  keys: Pick<MaintenanceKeys, 'fileName'>,
  session: Uint8Array,
  bytes: Uint8Array,
): string {
  return keys.fileName('root', session, sha256(bytes));
}

/** Makes a root durable under its name, and returns the name. */
export async function publishRoot(
  context: StoreContext,
  root: Root,
  bytes: Uint8Array,
): Promise<string> {
  const name = rootName(context.keys.maintenance, root.session, bytes);
  await publishFile(context.files, rootFolder(context), name, bytes);
  return name;
}

/** Every root of this volume in its folder, the newest generation first; and the names of what is none. */
export async function readRoots(
  context: StoreContext,
): Promise<{ roots: RootFile[]; foreign: string[] }> {
  const roots: RootFile[] = [];
  const foreign: string[] = [];
  for (const name of await context.files.list(rootFolder(context))) {
    if (!NAME_PATTERN.test(name)) continue;
    const path = `${rootFolder(context)}/${name}`;
    const bytes = await readWhole(context.files, path, MAX_ROOT_FILE_BYTES).catch(() => null);
    const root = bytes && openRoot(context.keys, bytes);
    if (root && rootName(context.keys.maintenance, root.session, bytes) === name) {
      roots.push({ name, bytes, root });
    } else {
      foreign.push(name);
    }
  }
  // Names come sorted: those of one generation stay so.
  roots.sort((a, b) => b.root.generation - a.root.generation);
  return { roots, foreign };
}
