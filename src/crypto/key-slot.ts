/**
 * Key slots: the volume key, wrapped for one passphrase or one key file.
 *
 *     material   = Argon2id(passphrase, salt, parameters)            64 bytes, or
 *                  derive(bytes of the key file, 'key file', salt)   32 bytes
 *     key        = derive(material, 'key-encryption key')
 *     commitment = derive(material, 'key commitment')
 *     wrapped    = XChaCha20-Poly1305(key, nonce, volume key, AAD)   32 + 16 bytes
 *     AAD        = 'chunkvol v1 key slot' || u8 kind || u32 memoryKiB || u32 iterations || u32 lanes
 *                  || salt || commitment                             little-endian
 *
 * The commitment is there because the AEAD does not commit to its key: a slot could be made that two
 * passphrases open, to different volume keys. With it, a slot belongs to one credential.
 */
import { concatBytes, equalBytes, MIB } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import type { Randomness } from '../base/randomness.js';
import { derive } from './derive.js';
import { KEY_BYTES, TAG_BYTES } from './engine.js';
import type { Argon2Parameters } from './kdf.js';
import { argon2Fault, argon2id, DEFAULT_ARGON2 } from './kdf.js';
import { LONG_NONCE_BYTES, openLong, sealLong } from './sealing.js';
import { requireLength } from './sizes.js';

export type KdfName = 'argon2id' | 'key-file';

export interface WrappedKey {
  readonly kdf: KdfName;
  /** All zero for a key file. */
  readonly parameters: Argon2Parameters;
  /** 32 bytes. */
  readonly salt: Uint8Array;
  /** 32 bytes. */
  readonly commitment: Uint8Array;
  /** 24 bytes. */
  readonly nonce: Uint8Array;
  /** 48 bytes. */
  readonly wrapped: Uint8Array;
}

/** The passphrase as NFC-normalised UTF-8; the secret as the bytes of the key file. */
export type Credential =
  | { readonly kind: 'passphrase'; readonly passphrase: Uint8Array }
  | { readonly kind: 'key-file'; readonly secret: Uint8Array };

export const KEY_SLOT_SALT_BYTES = 32;
export const COMMITMENT_BYTES = 32;
export const WRAPPED_BYTES: number = KEY_BYTES + TAG_BYTES;
export const KEY_FILE_MIN_BYTES = 32;
export const KEY_FILE_MAX_BYTES: number = MIB;

const AAD_LABEL = new TextEncoder().encode('chunkvol v1 key slot');
const KDF_CODES: Readonly<Record<KdfName, number>> = { argon2id: 1, 'key-file': 2 };
const NO_PARAMETERS: Argon2Parameters = { memoryKiB: 0, iterations: 0, lanes: 0 };

/** All of a slot that is bound to the wrapped key as associated data. */
type Binding = Pick<WrappedKey, 'kdf' | 'parameters' | 'salt' | 'commitment'>;

/**
 * Makes a slot with a fresh salt and nonce. Throws ChunkvolError ('usage') for an empty passphrase or
 * a key file of the wrong size, RangeError for parameters out of their limits.
 */
export async function wrapVolumeKey(
  volumeKey: Uint8Array,
  credential: Credential,
  random: Randomness,
  parameters: Argon2Parameters = DEFAULT_ARGON2,
): Promise<WrappedKey> {
  requireLength('volumeKey', volumeKey, KEY_BYTES);
  checkCredential(credential);
  const kdf = kdfOf(credential);
  const salt = random.bytes(KEY_SLOT_SALT_BYTES);
  const own = kdf === 'argon2id' ? parameters : NO_PARAMETERS;
  const { key, commitment } = await slotKeys(credential, salt, own);
  const nonce = random.bytes(LONG_NONCE_BYTES);
  const binding: Binding = { kdf, parameters: own, salt, commitment };
  const wrapped = sealLong(key, nonce, volumeKey, associatedData(binding));
  return { ...binding, nonce, wrapped };
}

/**
 * The volume key, or null when the credential does not fit this slot or the slot does not
 * authenticate. Throws ChunkvolError ('damaged') for parameters out of their limits, ('usage') for an
 * empty passphrase or a key file of the wrong size.
 */
export async function unwrapVolumeKey(
  slot: WrappedKey,
  credential: Credential,
): Promise<Uint8Array | null> {
  requireLength('salt', slot.salt, KEY_SLOT_SALT_BYTES);
  requireLength('commitment', slot.commitment, COMMITMENT_BYTES);
  requireLength('wrapped', slot.wrapped, WRAPPED_BYTES);
  checkCredential(credential);
  checkParameters(slot);
  if (slot.kdf !== kdfOf(credential)) return null;
  const { key, commitment } = await slotKeys(credential, slot.salt, slot.parameters);
  if (!equalBytes(commitment, slot.commitment)) return null;
  return openLong(key, slot.nonce, slot.wrapped, associatedData(slot));
}

async function slotKeys(
  credential: Credential,
  salt: Uint8Array,
  parameters: Argon2Parameters,
): Promise<{ readonly key: Uint8Array; readonly commitment: Uint8Array }> {
  const material =
    credential.kind === 'passphrase'
      ? await argon2id(credential.passphrase, salt, parameters)
      : derive(credential.secret, 'key file', salt);
  const keys = {
    key: derive(material, 'key-encryption key'),
    commitment: derive(material, 'key commitment'),
  };
  material.fill(0);
  return keys;
}

function kdfOf(credential: Credential): KdfName {
  return credential.kind === 'passphrase' ? 'argon2id' : 'key-file';
}

function checkCredential(credential: Credential): void {
  if (credential.kind === 'passphrase') {
    if (credential.passphrase.length > 0) return;
    throw new ChunkvolError('usage', 'the passphrase is empty; give one of at least one character');
  }
  const bytes = credential.secret.length;
  if (bytes >= KEY_FILE_MIN_BYTES && bytes <= KEY_FILE_MAX_BYTES) return;
  throw new ChunkvolError(
    'usage',
    `the key file has ${bytes} bytes; use one of ${KEY_FILE_MIN_BYTES} to ${KEY_FILE_MAX_BYTES}`,
  );
}

/** Runs before anything is allocated by these numbers, whatever the credential. */
function checkParameters({ kdf, parameters }: WrappedKey): void {
  const { memoryKiB, iterations, lanes } = parameters;
  const unused = memoryKiB === 0 && iterations === 0 && lanes === 0;
  const fault =
    kdf === 'argon2id'
      ? argon2Fault(parameters)
      : unused
        ? null
        : 'a slot for a key file has Argon2 parameters';
  if (fault === null) return;
  throw new ChunkvolError('damaged', `a key slot is damaged or was tampered with: ${fault}`);
}

function associatedData({ kdf, parameters, salt, commitment }: Binding): Uint8Array {
  const numbers = new Uint8Array(13);
  const view = new DataView(numbers.buffer);
  view.setUint8(0, KDF_CODES[kdf]);
  view.setUint32(1, parameters.memoryKiB, true);
  view.setUint32(5, parameters.iterations, true);
  view.setUint32(9, parameters.lanes, true);
  return concatBytes(AAD_LABEL, numbers, salt, commitment);
}
