/**
 * The footer of a sealed chunk file: what the group holds, and the MACs of this member's units.
 *
 *   data and header   memberBytes(end)
 *   fill              in a full file: keystream up to the footer, so that the file has the chunk size
 *   body              AES-256-GCM(footer key, nonce = name[0..12), AAD "chunk footer")
 *   trailer       48  AES-256-GCM(trailer key, nonce = name[0..12), AAD "chunk trailer"), the file's end
 *
 * `name` is the file's own final name in binary, which never has a second content.
 *
 * Trailer plaintext, 32 bytes: magic "CVCT", version, flags u16 = 0, body bytes u32 (sealed), zero u32,
 * file bytes u64, zero u64.
 *
 * Body plaintext: the manifest, the same in all members, then this member's unit MACs (u32 count, 16
 * bytes each, row by row).
 *
 *   magic "CVMA", version, flags u16 = 0
 *   volume id 16, group id 16, seal id 16, ordinal u32, flags u8 (1: full), data u8, parity u8,
 *   log2(unit) u8, chunk bytes u64
 *   end u64 (address), first sequence u64, end sequence u64 (of the next commit), chain hash 32
 *   root: address u64, bytes u32 (0: none), zero u32, generation u64
 *   digests: (data + parity) * 32, SHA-256 of each member's list of unit MACs
 */
import { GEOMETRY_LIMITS, memberCount, type Geometry } from '../base/geometry.js';
import { readEnd, readGeometry } from './chunk-header.js';
import { magic, RecordReader, RecordWriter } from './codec.js';

export const TRAILER_PLAIN_BYTES = 32;
export const TRAILER_BYTES: number = TRAILER_PLAIN_BYTES + 16;
export const MAC_BYTES = 16;
const TRAILER_MAGIC = magic('CVCT');
const MANIFEST_MAGIC = magic('CVMA');
const VERSION = 1;
const MANIFEST_FIXED_BYTES = 8 + 48 + 4 + 4 + 8 + 24 + 32 + 24;

/** Where in the group's data area the replica of its closed root lies. */
export interface RootReplica {
  readonly address: number;
  readonly bytes: number;
  readonly generation: number;
}

export interface Manifest {
  readonly volumeId: Uint8Array;
  readonly groupId: Uint8Array;
  readonly sealId: Uint8Array;
  readonly ordinal: number;
  /** Whether the files were brought to the chunk size. */
  readonly full: boolean;
  readonly geometry: Geometry;
  /** Address of the end of the data area. */
  readonly end: number;
  readonly firstSequence: number;
  readonly endSequence: number;
  /** Chain hash after the last commit. */
  readonly chain: Uint8Array;
  readonly root: RootReplica | null;
  /** SHA-256 of each member's MAC list, in order of places. */
  readonly digests: readonly Uint8Array[];
}

export interface Trailer {
  /** Bytes of the sealed body before the trailer. */
  readonly bodyBytes: number;
  readonly fileBytes: number;
}

export function encodeTrailer(trailer: Trailer): Uint8Array {
  return new RecordWriter(TRAILER_PLAIN_BYTES)
    .u32(TRAILER_MAGIC)
    .u16(VERSION)
    .u16(0)
    .u32(trailer.bodyBytes)
    .u32(0)
    .u64(trailer.fileBytes)
    .u64(0)
    .finish();
}

export function decodeTrailer(plain: Uint8Array): Trailer {
  const reader = new RecordReader(plain, 'chunk trailer');
  reader.start(TRAILER_MAGIC, VERSION);
  reader.zeros(2);
  const bodyBytes = reader.u32();
  reader.zeros(4);
  const fileBytes = reader.u64();
  reader.end();
  reader.require(bodyBytes <= maxBodyBytes(), 'an impossible length');
  return { bodyBytes, fileBytes };
}

/** The most that the sealed body of any footer can have. */
function maxBodyBytes(): number {
  const members = GEOMETRY_LIMITS.maxData + GEOMETRY_LIMITS.maxParity;
  return MANIFEST_FIXED_BYTES + members * 32 + 4 + GEOMETRY_LIMITS.maxRows * MAC_BYTES + 16;
}

/** Bytes of body and trailer in a file of `rows` rows. */
export function footerBytes(geometry: Geometry, rows: number): number {
  const manifestBytes = MANIFEST_FIXED_BYTES + memberCount(geometry) * 32;
  return manifestBytes + 4 + rows * MAC_BYTES + 16 + TRAILER_BYTES;
}

/** Rows that fit into a chunk file beside its footer. */
export function maxRows(geometry: Geometry): number {
  let rows = Math.floor(geometry.chunkBytes / geometry.unitBytes);
  while (rows * geometry.unitBytes + footerBytes(geometry, rows) > geometry.chunkBytes) rows--;
  return rows;
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  const writer = new RecordWriter(512)
    .u32(MANIFEST_MAGIC)
    .u16(VERSION)
    .u16(0)
    .fixed(manifest.volumeId, 16)
    .fixed(manifest.groupId, 16)
    .fixed(manifest.sealId, 16)
    .u32(manifest.ordinal)
    .u8(manifest.full ? 1 : 0)
    .u8(manifest.geometry.data)
    .u8(manifest.geometry.parity)
    .u8(Math.log2(manifest.geometry.unitBytes))
    .u64(manifest.geometry.chunkBytes)
    .u64(manifest.end)
    .u64(manifest.firstSequence)
    .u64(manifest.endSequence)
    .fixed(manifest.chain, 32)
    .u64(manifest.root?.address ?? 0)
    .u32(manifest.root?.bytes ?? 0)
    .u32(0)
    .u64(manifest.root?.generation ?? 0);
  for (const digest of manifest.digests) writer.fixed(digest, 32);
  return writer.finish();
}

export function encodeFooterBody(manifest: Uint8Array, macs: readonly Uint8Array[]): Uint8Array {
  const writer = new RecordWriter(manifest.length + 4 + macs.length * MAC_BYTES);
  writer.fixed(manifest, manifest.length).u32(macs.length);
  for (const mac of macs) writer.fixed(mac, MAC_BYTES);
  return writer.finish();
}

export interface FooterBody {
  readonly manifest: Manifest;
  /** The manifest's own bytes: what its digest in a root is taken over. */
  readonly manifestBytes: Uint8Array;
  /** The MAC of each of this member's units, row by row. */
  readonly macs: readonly Uint8Array[];
}

export function decodeFooterBody(plain: Uint8Array): FooterBody {
  const reader = new RecordReader(plain, 'chunk footer');
  const manifest = readManifest(reader);
  const manifestBytes = plain.slice(0, reader.offset);
  const count = reader.count(MAC_BYTES);
  const macs = Array.from({ length: count }, () => reader.fixed(MAC_BYTES));
  reader.end();
  return { manifest, manifestBytes, macs };
}

function readManifest(reader: RecordReader): Manifest {
  reader.start(MANIFEST_MAGIC, VERSION);
  reader.zeros(2);
  const volumeId = reader.fixed(16);
  const groupId = reader.fixed(16);
  const sealId = reader.fixed(16);
  const ordinal = reader.u32();
  const flags = reader.u8();
  reader.require(flags <= 1, 'unknown flags');
  const geometry = readGeometry(reader);
  const end = readEnd(reader);
  const firstSequence = reader.u64();
  const endSequence = reader.u64();
  const chain = reader.fixed(32);
  const root = readRootReplica(reader, end);
  const digests = Array.from({ length: memberCount(geometry) }, () => reader.fixed(32));
  reader.require(end <= geometry.data * geometry.chunkBytes, 'an end beyond its files');
  return {
    volumeId,
    groupId,
    sealId,
    ordinal,
    full: flags === 1,
    geometry,
    end,
    firstSequence,
    endSequence,
    chain,
    root,
    digests,
  };
}

function readRootReplica(reader: RecordReader, end: number): RootReplica | null {
  const address = reader.u64();
  reader.require(address % 8 === 0, 'a root where no slot can be');
  const bytes = reader.u32();
  reader.zeros(4);
  const generation = reader.u64();
  reader.require(address + bytes <= end || bytes === 0, 'a root beyond its end');
  return bytes === 0 ? null : { address, bytes, generation };
}
