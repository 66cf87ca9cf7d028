/**
 * Derivation of keys from keys: HKDF-SHA256 without salt, one label for each purpose.
 *
 *     info = 'chunkvol v1 ' || labelled(label, context)
 *     labelled = label                                             without context
 *              = label || 0x00 || (u32 LE length || bytes) ...     with it
 *
 * Labels are printable ASCII and contexts carry their lengths, so that no two inputs have one encoding.
 */
import { hkdfSync } from 'node:crypto';
import { concatBytes } from '../base/bytes.js';
import { KEY_BYTES } from './engine.js';

const PREFIX = Buffer.from('chunkvol v1 ', 'latin1');
const LABEL = /^[\x20-\x7e]+$/;
const SEPARATOR = Uint8Array.of(0);
const NO_SALT = new Uint8Array(0);
/** node:crypto takes no longer info. */
const MAX_INFO_BYTES = 1024;

/** 32 bytes for the purpose `label`, and for nothing but exactly this list of contexts. */
export function derive(key: Uint8Array, label: string, ...context: Uint8Array[]): Uint8Array {
  const info = concatBytes(PREFIX, labelled(label, context));
  if (info.length > MAX_INFO_BYTES) throw new RangeError(`the context of "${label}" is too long`);
  return new Uint8Array(hkdfSync('sha256', key, NO_SALT, info, KEY_BYTES));
}

/** An unambiguous encoding of a label and a list of byte strings. */
export function labelled(label: string, context: readonly Uint8Array[]): Uint8Array {
  if (!LABEL.test(label)) throw new RangeError(`"${label}" is no label`);
  const name = Buffer.from(label, 'latin1');
  if (context.length === 0) return Uint8Array.from(name);
  return concatBytes(name, SEPARATOR, ...context.flatMap((bytes) => [u32(bytes.length), bytes]));
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
