/** Section 6 of docs/format.md: headers and footers of chunk files. */
import { openGcm } from './ciphers.js';
import { Damaged, Fields, sha256 } from './fields.js';
import { parseGeometry, type Geometry } from './geometry.js';
import { derive, type Keys } from './keys.js';

export interface Header {
  readonly groupId: Buffer;
  readonly ordinal: number;
  readonly place: number;
  readonly geometry: Geometry;
  readonly sealId: Buffer;
  readonly session: Buffer;
  readonly predecessor: {
    readonly groupId: Buffer;
    readonly cut: number;
    readonly chain: Buffer;
  };
  readonly firstSequence: number;
  /** Whether the group is none of the log. */
  readonly beside: boolean;
}

export interface Manifest {
  readonly groupId: Buffer;
  readonly sealId: Buffer;
  readonly ordinal: number;
  readonly full: boolean;
  readonly geometry: Geometry;
  readonly end: number;
  readonly root: { readonly address: number; readonly bytes: number };
  /** Of the unit MACs of each member. */
  readonly digests: readonly Buffer[];
  /** The manifest digest. */
  readonly digest: Buffer;
}

export interface Footer {
  readonly manifest: Manifest;
  /** Of this member's units, row by row. */
  readonly macs: readonly Buffer[];
  /** Body and trailer. */
  readonly bytes: number;
}

/** Throws Damaged. */
export function parseHeader(keys: Keys, bytes: Buffer): Header {
  const id = bytes.subarray(0, 16);
  const plain = openGcm(keys.m('header'), id.subarray(0, 12), bytes.subarray(16), 'chunk header');
  if (!plain) throw new Damaged('a header that does not open');
  const fields = new Fields(plain);
  fields.start('CVCH');
  fields.zero(2);
  fields.take(16);
  const groupId = fields.take(16);
  const ordinal = fields.u32();
  const place = fields.u8();
  const geometry = parseGeometry(fields);
  const [sealId, session] = [fields.take(16), fields.take(16)];
  fields.take(8);
  const before = fields.take(16);
  fields.take(4);
  const predecessor = { groupId: before, cut: fields.u64(), chain: fields.take(32) };
  const firstSequence = fields.u64();
  fields.take(8);
  const survived = fields.u8();
  if (survived > 3) throw new Damaged('an impossible count of collections');
  const beside = survived > 0;
  fields.end();
  const expected = derive(keys.m('header id'), 'header id', groupId, Buffer.of(place));
  if (!expected.subarray(0, 16).equals(id)) throw new Damaged('a header with the id of another');
  const facts = { groupId, ordinal, place, geometry, sealId, session };
  return { ...facts, predecessor, firstSequence, beside };
}

/** The footer in the last bytes of a sealed file. Throws Damaged. */
export function parseFooter(keys: Keys, name: string, file: Buffer): Footer {
  const nonce = Buffer.from(name, 'hex').subarray(0, 12);
  const trailerAt = file.length - 48;
  const sealedTrailer = file.subarray(Math.max(trailerAt, 0));
  const trailer = openGcm(keys.m('trailer'), nonce, sealedTrailer, 'chunk trailer');
  if (!trailer) throw new Damaged('no trailer');
  const fields = new Fields(trailer);
  fields.start('CVCT');
  fields.zero(2);
  const bodyBytes = fields.u32();
  fields.zero(4);
  if (fields.u64() !== file.length) throw new Damaged('a file of the wrong size');
  fields.end();
  const sealed = file.subarray(Math.max(trailerAt - bodyBytes, 0), trailerAt);
  const body = openGcm(keys.m('footer'), nonce, sealed, 'chunk footer');
  if (!body) throw new Damaged('no footer');
  return { ...parseFooterBody(body), bytes: bodyBytes + 48 };
}

function parseFooterBody(body: Buffer): Pick<Footer, 'manifest' | 'macs'> {
  const fields = new Fields(body);
  fields.start('CVMA');
  fields.zero(2);
  fields.take(16);
  const [groupId, sealId] = [fields.take(16), fields.take(16)];
  const ordinal = fields.u32();
  const full = fields.u8() === 1;
  const geometry = parseGeometry(fields);
  const end = fields.u64();
  fields.take(8 + 8 + 32);
  const root = { address: fields.u64(), bytes: fields.u32() };
  fields.zero(4);
  fields.take(8);
  const members = geometry.data + geometry.parity;
  const digests = Array.from({ length: members }, () => fields.take(32));
  const digest = sha256(body.subarray(0, fields.position));
  const macs = Array.from({ length: fields.u32() }, () => fields.take(16));
  fields.end();
  const manifest = { groupId, sealId, ordinal, full, geometry, end, root, digests, digest };
  return { manifest, macs };
}
