/** Section 1 of docs/format.md: the ciphers, as their libraries have them. */
import { createDecipheriv } from 'node:crypto';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';

/** The plaintext, or null. `sealed` is ciphertext || tag. */
export function openGcm(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  aad: Uint8Array | string,
): Buffer | null {
  if (sealed.length < 16) return null;
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 });
  decipher.setAAD(Buffer.from(aad));
  decipher.setAuthTag(sealed.subarray(sealed.length - 16));
  const plain = decipher.update(sealed.subarray(0, sealed.length - 16));
  try {
    decipher.final();
    return plain;
  } catch {
    return null;
  }
}

export function openXChaCha(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  aad: Uint8Array | string,
): Buffer | null {
  try {
    return Buffer.from(xchacha20poly1305(key, nonce, Buffer.from(aad)).decrypt(sealed));
  } catch {
    return null;
  }
}

/** Bytes [from, from + length) of an AES-256-CTR keystream; `from` is a multiple of 8. */
export function keystream(
  key: Uint8Array,
  first: Uint8Array,
  from: number,
  length: number,
): Buffer {
  const counter = (BigInt(`0x${Buffer.from(first).toString('hex')}`) + BigInt(from) / 16n)
    .toString(16)
    .padStart(32, '0');
  const cipher = createDecipheriv('aes-256-ctr', key, Buffer.from(counter, 'hex'));
  return cipher.update(Buffer.alloc((from % 16) + length)).subarray(from % 16);
}
