/**
 * Authenticated encryption of single records: `ciphertext || tag (16)`.
 *
 * Opening returns null for whatever does not authenticate, too short included, and never a byte of
 * unverified plaintext. Wrong lengths of keys and nonces are RangeErrors.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { concatBytes } from '../base/bytes.js';
import { KEY_BYTES, NONCE_BYTES, TAG_BYTES } from './engine.js';
import { requireLength } from './sizes.js';

export const LONG_NONCE_BYTES = 24;

const GCM = 'aes-256-gcm';
/** Without it, node:crypto accepts tags cut down to 4 bytes. */
const GCM_OPTIONS = { authTagLength: TAG_BYTES };

/** AES-256-GCM with a 12-byte nonce, never used twice with one key. */
export function sealRecord(
  key: Uint8Array,
  nonce: Uint8Array,
  plain: Uint8Array,
  aad: Uint8Array,
): Uint8Array {
  checkKeyAndNonce(key, nonce, NONCE_BYTES);
  const cipher = createCipheriv(GCM, key, nonce, GCM_OPTIONS);
  cipher.setAAD(aad);
  return concatBytes(cipher.update(plain), cipher.final(), cipher.getAuthTag());
}

/** The plaintext, or null when key, nonce, bytes or associated data are not those of the sealing. */
export function openRecord(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  aad: Uint8Array,
): Uint8Array | null {
  checkKeyAndNonce(key, nonce, NONCE_BYTES);
  const plainBytes = sealed.length - TAG_BYTES;
  if (plainBytes < 0) return null;
  const decipher = createDecipheriv(GCM, key, nonce, GCM_OPTIONS);
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.subarray(plainBytes));
  const unverified = decipher.update(sealed.subarray(0, plainBytes));
  try {
    decipher.final();
  } catch {
    return null;
  }
  return Uint8Array.from(unverified);
}

/** XChaCha20-Poly1305 with a 24-byte nonce, long enough to be drawn at random. */
export function sealLong(
  key: Uint8Array,
  nonce: Uint8Array,
  plain: Uint8Array,
  aad: Uint8Array,
): Uint8Array {
  checkKeyAndNonce(key, nonce, LONG_NONCE_BYTES);
  return xchacha20poly1305(key, nonce, aad).encrypt(plain);
}

/** As openRecord. */
export function openLong(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  aad: Uint8Array,
): Uint8Array | null {
  checkKeyAndNonce(key, nonce, LONG_NONCE_BYTES);
  const cipher = xchacha20poly1305(key, nonce, aad);
  try {
    return cipher.decrypt(sealed);
  } catch {
    // Key and nonce were checked before: the bytes are too short, or the tag does not match.
    return null;
  }
}

function checkKeyAndNonce(key: Uint8Array, nonce: Uint8Array, nonceBytes: number): void {
  requireLength('key', key, KEY_BYTES);
  requireLength('nonce', nonce, nonceBytes);
}
