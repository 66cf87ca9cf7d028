/** Section 9.2 of docs/format.md: root files. */
import { openXChaCha } from './ciphers.js';
import { Damaged, Fields, sha256 } from './fields.js';
import { parseGeometry, type Geometry } from './geometry.js';
import type { Keys } from './keys.js';

interface Pointer {
  readonly depth: number;
  readonly ordinal: number;
  readonly position: number;
}

const parsePointer = (fields: Fields): Pointer => ({
  depth: fields.u8(),
  ordinal: fields.u32(),
  position: fields.u32(),
});

export interface RootGroup {
  readonly ordinal: number;
  /** 1 sealed, 2 open, 3 cut. */
  readonly state: number;
  readonly survived: number;
  readonly geometry: Geometry;
  readonly groupId: Buffer;
  readonly sealId: Buffer;
  readonly end: number;
  readonly manifestDigest: Buffer;
}

export interface LogPoint {
  readonly ordinal: number;
  readonly address: number;
  readonly sequence: number;
  readonly chain: Buffer;
}

interface Outer {
  readonly closed: boolean;
  readonly session: Buffer;
  readonly generation: number;
  readonly blockBytes: number;
  readonly groups: readonly RootGroup[];
}

interface Inner {
  readonly size: number;
  readonly map: Pointer;
  readonly tail: LogPoint;
}

export type Root = Outer & Inner;

/** Throws Damaged. */
export function parseRoot(keys: Keys, file: Buffer): Root {
  const part = (number: number, key: Buffer, aad: string, from: number, to: number): Fields => {
    const nonce = Buffer.from(file.subarray(0, 24));
    nonce[23] = number;
    const plain = openXChaCha(key, nonce, file.subarray(from, to), aad);
    if (!plain) throw new Damaged(`no ${aad}`);
    if (number === 1) outerDigest = sha256(plain);
    return new Fields(plain);
  };
  let outerDigest: Buffer = Buffer.alloc(0);
  const envelope = part(0, keys.m('outer root'), 'root envelope', 24, 64);
  envelope.start('CVRE');
  envelope.zero(2);
  const outerBytes = envelope.u32();
  const innerBytes = envelope.u32();
  envelope.end();
  const innerAt = 64 + outerBytes;
  if (innerAt + innerBytes !== file.length) throw new Damaged('a root of the wrong size');
  const outer = parseOuter(part(1, keys.m('outer root'), 'root outer', 64, innerAt));
  const innerFields = part(2, keys.d('inner root'), 'root inner', innerAt, file.length);
  return { ...outer, ...parseInner(innerFields, outer.groups.length, outerDigest) };
}

function parseOuter(fields: Fields): Outer {
  fields.start('CVRO');
  const closed = fields.u16() === 1;
  fields.take(16);
  const session = fields.take(16);
  const generation = fields.u64();
  parseGeometry(fields);
  const blockBytes = 2 ** fields.u8();
  const groups = Array.from({ length: fields.u32() }, () => ({
    ordinal: fields.u32(),
    state: fields.u8(),
    survived: fields.u8(),
    geometry: parseGeometry(fields),
    groupId: fields.take(16),
    sealId: fields.take(16),
    end: fields.u64(),
    manifestDigest: fields.take(32),
  }));
  fields.end();
  return { closed, session, generation, blockBytes, groups };
}

function parseInner(fields: Fields, groupCount: number, outerDigest: Buffer): Inner {
  fields.start('CVRI');
  fields.zero(2);
  if (!fields.take(32).equals(outerDigest)) throw new Damaged('parts of two roots');
  fields.text();
  const size = fields.u64();
  fields.take(16);
  const map = parsePointer(fields);
  const tail = {
    ordinal: fields.u32(),
    address: fields.u64(),
    sequence: fields.u64(),
    chain: fields.take(32),
  };
  fields.take(8 + 4 + 4 * 8 + 4 + 32);
  for (let left = fields.u32(); left > 0; left--) fields.take(24);
  for (let left = fields.u32(); left > 0; left--) {
    fields.take(8);
    fields.text();
    fields.take(24);
    parsePointer(fields);
  }
  fields.take(8 * groupCount);
  for (let left = fields.u32(); left > 0; left--) {
    const type = fields.u16();
    if (type >= 0x8000) throw new Error(`extension ${type}: use a newer program`);
    fields.take(fields.u32());
  }
  fields.end();
  return { size, map, tail };
}
