/**
 * A root: names everything that a state of the volume needs. Immutable; a new state is a new root.
 *
 *   nonce      24   random; its last byte is replaced by the part's number (0, 1, 2) for each seal
 *   envelope   40   XChaCha20-Poly1305(outer root key): the 24 bytes below
 *   outer           XChaCha20-Poly1305(outer root key): what keeping and rebuilding files needs
 *   inner           XChaCha20-Poly1305(inner root key): map, snapshots, names
 *
 * Each seal adds 16 bytes; associated data are "root envelope", "root outer", "root inner".
 *
 * Envelope: magic "CVRE", version, flags u16 = 0, outer bytes u32 and inner bytes u32 (sealed), zero 8.
 *
 * Outer: magic "CVRO", version, flags u16 (1: closed), volume id 16, session 16, generation u64,
 * data u8, parity u8, log2(unit) u8, chunk bytes u64, log2(block) u8, group count u32, then for each:
 *   ordinal u32, state u8 (1 sealed, 2 open, 3 cut), survived u8, data u8, parity u8, log2(unit) u8, chunk bytes u64,
 *   group id 16, seal id 16, end u64 (address), manifest digest 32 (zeros: not known yet)
 *
 * Inner: magic "CVRI", version, flags u16 = 0, SHA-256 of the outer plaintext 32, volume name (text),
 * size u64, created u64, time u64, map (pointer), tail, next ordinal u32, key counter u64, mapped blocks u64,
 * written bytes u64, logged bytes u64, lineage, snapshots, live bytes u64 per group, extensions.
 *   tail:      ordinal u32 (0: the volume's start), address u64, sequence u64 (of the next commit),
 *              chain hash 32, durable-up-to u64
 *   lineage:   count of dropped sessions u32, their digest 32, count u32, each: session 16, generation u64
 *   snapshots: count u32, then each; pointer and snapshot: snapshot.ts
 *   extension: (count u32 before) type u16, length u32, bytes; from type 0x8000 on a reader that does not
 *              know it must refuse the root
 */
import { hash } from 'node:crypto';
import { equalBytes } from '../base/bytes.js';
import { GEOMETRY_LIMITS, isValidGeometry, type Geometry } from '../base/geometry.js';
import { readEnd, readGeometry, readSurvived } from './chunk-header.js';
import { magic, NewerFormatError, RecordReader, RecordWriter } from './codec.js';
import {
  MAX_NAME_BYTES,
  readPointer,
  readSnapshot,
  SNAPSHOT_MIN_BYTES,
  writePointer,
  writeSnapshot,
  type MapPointer,
  type Snapshot,
} from './snapshot.js';

export const ROOT_NONCE_BYTES = 24;
export const ROOT_ENVELOPE_BYTES = 24;
const ENVELOPE_MAGIC = magic('CVRE');
const OUTER_MAGIC = magic('CVRO');
const INNER_MAGIC = magic('CVRI');
const VERSION = 1;
const GROUP_BYTES = 89;
const LINEAGE_ENTRY_BYTES = 24;
const REQUIRED_EXTENSION = 0x8000;

/** A root file larger than this is not read. 2^20 groups of 96 bytes each fit. */
export const MAX_ROOT_FILE_BYTES: number = 128 * 1024 * 1024;

export const GROUP_STATES = ['sealed', 'open', 'cut'] as const;
/** sealed: immutable. open: being written when the root was made. cut: taken over, not sealed yet. */
export type GroupState = (typeof GROUP_STATES)[number];

export interface RootGroup {
  readonly ordinal: number;
  readonly state: GroupState;
  readonly geometry: Geometry;
  readonly groupId: Uint8Array;
  readonly sealId: Uint8Array;
  /** As in the group's headers. */
  readonly survived: number;
  /** End of the data area; of an open group: as far as this root needs it. */
  readonly end: number;
  /** SHA-256 of the manifest; null while it is not known (the group that carries this root). */
  readonly manifestDigest: Uint8Array | null;
  /** Bytes of live slots: a hint, made exact by walking the maps. */
  readonly liveBytes: number;
}

/** The point in the log up to which the map of a root is complete. */
export interface LogPoint {
  /** 0 before the first group. */
  readonly ordinal: number;
  readonly address: number;
  /** Sequence number of the next commit. */
  readonly sequence: number;
  readonly chain: Uint8Array;
  readonly durableUpTo: number;
}

export interface LineageEntry {
  readonly session: Uint8Array;
  readonly firstGeneration: number;
}

export interface Lineage {
  readonly droppedCount: number;
  readonly droppedDigest: Uint8Array;
  readonly entries: readonly LineageEntry[];
}

/** The outer part: all that the holder of the maintenance key sees. */
export interface RootOuter {
  readonly closed: boolean;
  readonly volumeId: Uint8Array;
  readonly session: Uint8Array;
  readonly generation: number;
  /** For new groups. */
  readonly geometry: Geometry;
  readonly blockBytes: number;
  readonly groups: readonly RootGroup[];
}

export interface RootInner {
  readonly name: string;
  readonly sizeBytes: number;
  readonly createdMs: number;
  readonly timeMs: number;
  readonly map: MapPointer;
  readonly tail: LogPoint;
  readonly nextOrdinal: number;
  /** Counter of the newest key file when this root was made. */
  readonly keyCounter: number;
  readonly mappedBlocks: number;
  /** Bytes written by users of the disk, and bytes put into the log, since creation. */
  readonly writtenBytes: number;
  readonly loggedBytes: number;
  readonly lineage: Lineage;
  readonly snapshots: readonly Snapshot[];
}

export type Root = RootOuter & RootInner;

/** What places a state on the line of a volume. */
export type Origin = Pick<Root, 'generation' | 'lineage'>;

export function encodeEnvelope(outerBytes: number, innerBytes: number): Uint8Array {
  return new RecordWriter(ROOT_ENVELOPE_BYTES)
    .u32(ENVELOPE_MAGIC)
    .u16(VERSION)
    .u16(0)
    .u32(outerBytes)
    .u32(innerBytes)
    .padTo(ROOT_ENVELOPE_BYTES)
    .finish();
}

export function decodeEnvelope(plain: Uint8Array): { outerBytes: number; innerBytes: number } {
  const reader = new RecordReader(plain, 'root');
  reader.start(ENVELOPE_MAGIC, VERSION);
  reader.zeros(2);
  const lengths = { outerBytes: reader.u32(), innerBytes: reader.u32() };
  reader.end();
  return lengths;
}

export function encodeOuter(root: RootOuter): Uint8Array {
  const writer = new RecordWriter(128 + root.groups.length * GROUP_BYTES)
    .u32(OUTER_MAGIC)
    .u16(VERSION)
    .u16(root.closed ? 1 : 0)
    .fixed(root.volumeId, 16)
    .fixed(root.session, 16)
    .u64(root.generation);
  writeGeometry(writer, root.geometry);
  writer.u8(Math.log2(root.blockBytes)).u32(root.groups.length);
  for (const group of root.groups) {
    writer
      .u32(group.ordinal)
      .u8(GROUP_STATES.indexOf(group.state) + 1)
      .u8(group.survived);
    writeGeometry(writer, group.geometry);
    writer
      .fixed(group.groupId, 16)
      .fixed(group.sealId, 16)
      .u64(group.end)
      .fixed(group.manifestDigest ?? new Uint8Array(32), 32);
  }
  return writer.finish();
}

export function decodeOuter(plain: Uint8Array): RootOuter {
  const reader = new RecordReader(plain, 'root');
  reader.start(OUTER_MAGIC, VERSION);
  const flags = reader.u16();
  reader.require(flags <= 1, 'unknown flags');
  const volumeId = reader.fixed(16);
  const session = reader.fixed(16);
  const generation = reader.u64();
  const geometry = readGeometry(reader);
  const blockBytes = 2 ** reader.u8();
  reader.require(
    blockBytes >= GEOMETRY_LIMITS.minBlockBytes && blockBytes <= GEOMETRY_LIMITS.maxBlockBytes,
    'an impossible block size',
  );
  const count = reader.count(GROUP_BYTES);
  const groups = Array.from({ length: count }, () => readGroup(reader));
  reader.end();
  const closed = flags === 1;
  return { closed, volumeId, session, generation, geometry, blockBytes, groups };
}

function readGroup(reader: RecordReader): RootGroup {
  const ordinal = reader.u32();
  const state = GROUP_STATES[reader.u8() - 1];
  const survived = readSurvived(reader);
  const geometry = readGeometry(reader);
  const groupId = reader.fixed(16);
  const sealId = reader.fixed(16);
  const end = readEnd(reader);
  const digest = reader.fixed(32);
  reader.require(ordinal > 0 && state !== undefined && isValidGeometry(geometry), 'a bad group');
  reader.require(end <= geometry.data * geometry.chunkBytes, 'a group beyond its files');
  const manifestDigest = digest.some((byte) => byte !== 0) ? digest : null;
  return {
    ordinal,
    state: state!,
    survived,
    geometry,
    groupId,
    sealId,
    end,
    manifestDigest,
    liveBytes: 0,
  };
}

export function encodeInner(
  root: RootInner & Pick<RootOuter, 'groups'>,
  outer: Uint8Array,
): Uint8Array {
  const writer = new RecordWriter(512 + root.lineage.entries.length * LINEAGE_ENTRY_BYTES)
    .u32(INNER_MAGIC)
    .u16(VERSION)
    .u16(0)
    .fixed(sha256(outer), 32)
    .text(root.name)
    .u64(root.sizeBytes)
    .u64(root.createdMs)
    .u64(root.timeMs);
  writePointer(writer, root.map);
  writer
    .u32(root.tail.ordinal)
    .u64(root.tail.address)
    .u64(root.tail.sequence)
    .fixed(root.tail.chain, 32)
    .u64(root.tail.durableUpTo)
    .u32(root.nextOrdinal)
    .u64(root.keyCounter)
    .u64(root.mappedBlocks)
    .u64(root.writtenBytes)
    .u64(root.loggedBytes);
  writeLineage(writer, root.lineage);
  writer.u32(root.snapshots.length);
  for (const snapshot of root.snapshots) writeSnapshot(writer, snapshot);
  for (const group of root.groups) writer.u64(group.liveBytes);
  return writer.u32(0).finish();
}

/** Decodes the inner part and joins it with the outer one, whose plaintext it must have been made with. */
export function decodeInner(plain: Uint8Array, outer: RootOuter, outerPlain: Uint8Array): Root {
  const reader = new RecordReader(plain, 'root');
  reader.start(INNER_MAGIC, VERSION);
  reader.zeros(2);
  reader.require(
    equalBytes(reader.fixed(32), sha256(outerPlain)),
    'parts that do not belong together',
  );
  const inner: RootInner = {
    name: reader.text(MAX_NAME_BYTES),
    sizeBytes: reader.u64(),
    createdMs: reader.u64(),
    timeMs: reader.u64(),
    map: readPointer(reader),
    tail: {
      ordinal: reader.u32(),
      address: readEnd(reader),
      sequence: reader.u64(),
      chain: reader.fixed(32),
      durableUpTo: reader.u64(),
    },
    nextOrdinal: reader.u32(),
    keyCounter: reader.u64(),
    mappedBlocks: reader.u64(),
    writtenBytes: reader.u64(),
    loggedBytes: reader.u64(),
    lineage: readLineage(reader),
    snapshots: readSnapshots(reader),
  };
  reader.require(inner.tail.sequence > 0, 'a tail before the first commit');
  const groups = outer.groups.map((group) => ({ ...group, liveBytes: reader.u64() }));
  skipExtensions(reader);
  reader.end();
  return { ...outer, ...inner, groups };
}

function writeGeometry(writer: RecordWriter, geometry: Geometry): void {
  writer
    .u8(geometry.data)
    .u8(geometry.parity)
    .u8(Math.log2(geometry.unitBytes))
    .u64(geometry.chunkBytes);
}

function writeLineage(writer: RecordWriter, lineage: Lineage): void {
  writer.u32(lineage.droppedCount).fixed(lineage.droppedDigest, 32).u32(lineage.entries.length);
  for (const entry of lineage.entries) writer.fixed(entry.session, 16).u64(entry.firstGeneration);
}

function readLineage(reader: RecordReader): Lineage {
  const droppedCount = reader.u32();
  const droppedDigest = reader.fixed(32);
  const count = reader.count(LINEAGE_ENTRY_BYTES);
  const entries = Array.from({ length: count }, () => ({
    session: reader.fixed(16),
    firstGeneration: reader.u64(),
  }));
  return { droppedCount, droppedDigest, entries };
}

function readSnapshots(reader: RecordReader): Snapshot[] {
  const count = reader.count(SNAPSHOT_MIN_BYTES);
  return Array.from({ length: count }, () => readSnapshot(reader));
}

function skipExtensions(reader: RecordReader): void {
  const count = reader.count(6);
  for (let i = 0; i < count; i++) {
    const type = reader.u16();
    if (type >= REQUIRED_EXTENSION) {
      throw new NewerFormatError(`root has extension ${type}, which this program does not know`);
    }
    reader.fixed(reader.u32());
  }
}

export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  // One call: with an object of its own each takes half as long again.
  const bytes = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  return new Uint8Array(hash('sha256', bytes, 'buffer'));
}
