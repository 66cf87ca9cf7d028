/**
 * The header of a chunk file: what group it belongs to, in which place, and what came before it.
 *
 *   0    id            16  derived from the header-id key for group id and place: the nonce's source
 *   16   sealed record 496 AES-256-GCM(header key, nonce = id[0..12), AAD "chunk header")
 *
 * The record's plaintext, 480 bytes, zero-padded:
 *
 *   magic "CVCH", version, flags u16 = 0
 *   volume id 16, group id 16, ordinal u32, place u8, data u8, parity u8, log2(unit) u8, chunk bytes u64
 *   seal id 16 (drawn when the group was created), session 16 (who writes it), created u64 (ms)
 *   predecessor: group id 16 (zeros: none), ordinal u32, cut u64 (address), chain hash 32
 *   first sequence u64, durable-up-to u64, survived u8
 *
 * A group that has survived collections is none of the log: it has no predecessor, and holds no commits.
 *
 * A header never changes, whoever seals the group, and nothing in it is drawn when it is written: a
 * rebuilt file has the same header.
 */
import {
  HEADER_BYTES,
  isValidGeometry,
  memberCount,
  SECTOR_BYTES,
  type Geometry,
} from '../base/geometry.js';
import { magic, RecordReader, RecordWriter } from './codec.js';

export const HEADER_ID_BYTES = 16;
export const HEADER_PLAIN_BYTES: number = HEADER_BYTES - HEADER_ID_BYTES - 16;
const MAGIC = magic('CVCH');
const VERSION = 1;

export interface Predecessor {
  /** 16 zero bytes when this is the first group of the volume. */
  readonly groupId: Uint8Array;
  readonly ordinal: number;
  /** The address at which the predecessor's log ends. */
  readonly cut: number;
  /** The chain hash at that point. */
  readonly chain: Uint8Array;
}

export interface ChunkHeader {
  readonly volumeId: Uint8Array;
  readonly groupId: Uint8Array;
  readonly ordinal: number;
  readonly place: number;
  readonly geometry: Geometry;
  readonly sealId: Uint8Array;
  readonly session: Uint8Array;
  readonly createdMs: number;
  readonly predecessor: Predecessor;
  /** Sequence number of the first commit that may stand in this group. */
  readonly firstSequence: number;
  /** The last commit known to be durable when the group was created. */
  readonly durableUpTo: number;
  /** 0 for a group of the log; else how many collections its blocks have come through, or more. */
  readonly survived: number;
}

/** As far as collections are counted. */
export const MAX_SURVIVED = 3;

export function encodeChunkHeader(header: ChunkHeader): Uint8Array {
  return new RecordWriter(HEADER_PLAIN_BYTES)
    .u32(MAGIC)
    .u16(VERSION)
    .u16(0)
    .fixed(header.volumeId, 16)
    .fixed(header.groupId, 16)
    .u32(header.ordinal)
    .u8(header.place)
    .u8(header.geometry.data)
    .u8(header.geometry.parity)
    .u8(Math.log2(header.geometry.unitBytes))
    .u64(header.geometry.chunkBytes)
    .fixed(header.sealId, 16)
    .fixed(header.session, 16)
    .u64(header.createdMs)
    .fixed(header.predecessor.groupId, 16)
    .u32(header.predecessor.ordinal)
    .u64(header.predecessor.cut)
    .fixed(header.predecessor.chain, 32)
    .u64(header.firstSequence)
    .u64(header.durableUpTo)
    .u8(header.survived)
    .padTo(HEADER_PLAIN_BYTES)
    .finish();
}

export function decodeChunkHeader(plain: Uint8Array): ChunkHeader {
  const reader = new RecordReader(plain, 'chunk header');
  reader.start(MAGIC, VERSION);
  reader.zeros(2);
  const volumeId = reader.fixed(16);
  const groupId = reader.fixed(16);
  const ordinal = reader.u32();
  const place = reader.u8();
  const geometry = readGeometry(reader);
  const header: ChunkHeader = {
    volumeId,
    groupId,
    ordinal,
    place,
    geometry,
    sealId: reader.fixed(16),
    session: reader.fixed(16),
    createdMs: reader.u64(),
    predecessor: {
      groupId: reader.fixed(16),
      ordinal: reader.u32(),
      cut: readEnd(reader),
      chain: reader.fixed(32),
    },
    firstSequence: reader.u64(),
    durableUpTo: reader.u64(),
    survived: readSurvived(reader),
  };
  reader.require(ordinal > 0, 'group ordinal 0');
  reader.require(place < memberCount(geometry), 'a place outside its group');
  reader.end();
  return header;
}

/** How many collections the blocks of a group have come through: u8. */
export function readSurvived(reader: RecordReader): number {
  const survived = reader.u8();
  reader.require(survived <= MAX_SURVIVED, 'more collections than are counted');
  return survived;
}

/** The address at which a log ends: where a commit does, at the boundary of a sector. */
export function readEnd(reader: RecordReader): number {
  const address = reader.u64();
  reader.require(address % SECTOR_BYTES === 0, 'an end in the middle of a sector');
  return address;
}

/** data u8, parity u8, log2(unit bytes) u8, chunk bytes u64: as in headers, manifests and roots. */
export function readGeometry(reader: RecordReader): Geometry {
  const geometry: Geometry = {
    data: reader.u8(),
    parity: reader.u8(),
    unitBytes: 2 ** reader.u8(),
    chunkBytes: reader.u64(),
  };
  reader.require(isValidGeometry(geometry), 'an impossible geometry');
  return geometry;
}
