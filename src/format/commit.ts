/**
 * A commit: a record that lists what follows it. It counts as a whole or not at all.
 *
 * In the log, each piece placed by the stripe rules, the first at a sector boundary:
 *
 *   header        136   the 112 bytes below as a slot: ciphertext, tag, salt
 *   body                the entries, as a slot (absent when there are none)
 *   block and node slots, in the order of the entries
 *   root pieces         when rootBytes > 0: a closed root's replica
 *   padding             keystream, to the next sector boundary
 *
 * Header plaintext: magic "CVCO", version, flags u16 = 0, sequence u64, chain hash of the predecessor 32,
 * durable-up-to u64, time u64 (ms), body bytes u32, slot count u32, root bytes u32, zero 28.
 *
 * The chain hash after a commit is SHA-256(predecessor's chain hash || header slot || body slot).
 *
 * An entry is 16 bytes: kind u8, level u8, count u48, number u64. Of the kinds snapshot, drop and head the
 * number is 0 and the count is that of the bytes that follow: a record, padded with zeros to a multiple of 8.
 *
 * Of a move the number is the end of the group that the blocks have been moved to, behind their slots. It is
 * followed by that group: id 16, ordinal u32, zero u32; and by `count` blocks: number u64, old ordinal
 * u32, old position u32, new position u32, zero u32.
 */
import { alignUp } from '../base/bytes.js';
import { SECTOR_BYTES } from '../base/geometry.js';
import { FormatError, magic, RecordReader, RecordWriter } from './codec.js';
import {
  readPointer,
  readSnapshot,
  SNAPSHOT_ID_BYTES,
  writePointer,
  writeSnapshot,
  type MapPointer,
  type Snapshot,
} from './snapshot.js';

export const COMMIT_HEADER_PLAIN_BYTES = 112;
const MAGIC = magic('CVCO');
const VERSION = 1;
const ENTRY_BYTES = 16;
const MOVED_BLOCK_BYTES = 24;

/** The body of a commit has at most this many bytes: it must fit the smallest stripe unit. */
export const MAX_COMMIT_BODY_BYTES: number = 32 * 1024;
/** The most entries that a body can hold. */
export const MAX_COMMIT_ENTRIES: number = MAX_COMMIT_BODY_BYTES / ENTRY_BYTES;

/** The plaintext of a root replica is cut into pieces of this size. */
export const ROOT_PIECE_BYTES: number = 16 * 1024;

/** What a slot or record is: the `kind` of its associated data. A node's level is kind >> 8. */
export const SLOT_KIND = { block: 1, node: 2, commitHeader: 3, commitBody: 4, root: 5 } as const;

export function nodeSlotKind(level: number): number {
  return SLOT_KIND.node | (level << 8);
}

export interface CommitHeader {
  readonly sequence: number;
  readonly previousChain: Uint8Array;
  /** The last commit that was known to be durable when this one was written. */
  readonly durableUpTo: number;
  readonly timeMs: number;
  readonly bodyBytes: number;
  readonly slotCount: number;
  /** Bytes of the root file whose replica ends this commit; 0 for none. */
  readonly rootBytes: number;
}

/** Entries that slots follow, one for each of `count` numbers from `number` on. */
export type SlotEntry =
  /** Blocks. */
  | { readonly kind: 'write'; readonly number: number; readonly count: number }
  /** Map nodes of a level; they change no block. */
  | {
      readonly kind: 'node';
      readonly level: number;
      readonly number: number;
      readonly count: number;
    };

/** Blocks that a collector has moved: each counts only if the map still names its old address. */
export interface MoveEntry {
  readonly kind: 'move';
  /** Where they are now, durably; `end` is behind the last of them. */
  readonly group: { readonly id: Uint8Array; readonly ordinal: number; readonly end: number };
  /** In order; one that maps of several moments name in different places comes several times. */
  readonly blocks: Float64Array;
  /** Ordinal and position of each before, in turn. */
  readonly old: Uint32Array;
  readonly positions: Uint32Array;
}

/** `count` blocks from block `number` on read as zeros. */
export interface HoleEntry {
  readonly kind: 'hole';
  readonly number: number;
  readonly count: number;
}

/** What changes the disk as a whole. The maps that they name stand in the log before them. */
export type StateEntry =
  /** A snapshot was made, or its map has moved: it replaces one of the same id. */
  | { readonly kind: 'snapshot'; readonly snapshot: Snapshot }
  /** The snapshot of this id was deleted. */
  | { readonly kind: 'drop'; readonly id: Uint8Array }
  /** From here on the disk has this size and this map: a rollback, or a change of size. */
  | ({ readonly kind: 'head' } & Head);

export type CommitEntry = SlotEntry | MoveEntry | HoleEntry | StateEntry;

export interface Head {
  readonly sizeBytes: number;
  readonly mappedBlocks: number;
  readonly map: MapPointer;
}

const KIND_CODES = {
  write: 1,
  hole: 2,
  node: 3,
  move: 4,
  snapshot: 5,
  drop: 6,
  head: 7,
} as const;

/** Bytes of a record among the entries, at most: a snapshot with the longest name. */
const MAX_RECORD_BYTES = 304;
const RECORD_ALIGNMENT_BYTES = 8;

export function encodeCommitHeader(header: CommitHeader): Uint8Array {
  return new RecordWriter(COMMIT_HEADER_PLAIN_BYTES)
    .u32(MAGIC)
    .u16(VERSION)
    .u16(0)
    .u64(header.sequence)
    .fixed(header.previousChain, 32)
    .u64(header.durableUpTo)
    .u64(header.timeMs)
    .u32(header.bodyBytes)
    .u32(header.slotCount)
    .u32(header.rootBytes)
    .padTo(COMMIT_HEADER_PLAIN_BYTES)
    .finish();
}

export function decodeCommitHeader(plain: Uint8Array): CommitHeader {
  const reader = new RecordReader(plain, 'commit header');
  reader.start(MAGIC, VERSION);
  reader.zeros(2);
  const header: CommitHeader = {
    sequence: reader.u64(),
    previousChain: reader.fixed(32),
    durableUpTo: reader.u64(),
    timeMs: reader.u64(),
    bodyBytes: reader.u32(),
    slotCount: reader.u32(),
    rootBytes: reader.u32(),
  };
  const { bodyBytes } = header;
  reader.require(bodyBytes <= MAX_COMMIT_BODY_BYTES, 'a body that is too long');
  reader.require(bodyBytes % 8 === 0, 'a body that is no slot');
  reader.end();
  return header;
}

export function isSlotEntry(entry: CommitEntry): entry is SlotEntry {
  return entry.kind === 'write' || entry.kind === 'node';
}

export function encodeCommitBody(entries: readonly CommitEntry[]): Uint8Array {
  const writer = new RecordWriter(entries.length * ENTRY_BYTES);
  for (const entry of entries) {
    if (entry.kind === 'move') writeMove(writer, entry);
    else if (isStateEntry(entry)) writeRecord(writer, KIND_CODES[entry.kind], encodeRecord(entry));
    else writeRange(writer, entry);
  }
  return writer.finish();
}

export function isStateEntry(entry: CommitEntry): entry is StateEntry {
  return entry.kind === 'snapshot' || entry.kind === 'drop' || entry.kind === 'head';
}

function writeRange(writer: RecordWriter, entry: SlotEntry | HoleEntry): void {
  writer
    .u8(KIND_CODES[entry.kind])
    .u8(entry.kind === 'node' ? entry.level : 0)
    .u48(entry.count)
    .u64(entry.number);
}

function writeMove(writer: RecordWriter, { group, blocks, old, positions }: MoveEntry): void {
  writer.u8(KIND_CODES.move).u8(0).u48(blocks.length).u64(group.end);
  writer.fixed(group.id, 16).u32(group.ordinal).zeros(4);
  for (const [i, block] of blocks.entries()) {
    writer
      .u64(block)
      .u32(old[i * 2]!)
      .u32(old[i * 2 + 1]!);
    writer.u32(positions[i]!).zeros(4);
  }
}

function writeRecord(writer: RecordWriter, code: number, record: Uint8Array): void {
  const bytes = alignUp(record.length, RECORD_ALIGNMENT_BYTES);
  writer.u8(code).u8(0).u48(bytes).u64(0);
  writer.fixed(record, record.length).zeros(bytes - record.length);
}

function encodeRecord(entry: StateEntry): Uint8Array {
  const writer = new RecordWriter(MAX_RECORD_BYTES);
  switch (entry.kind) {
    case 'snapshot':
      writeSnapshot(writer, entry.snapshot);
      break;
    case 'drop':
      writer.fixed(entry.id, SNAPSHOT_ID_BYTES);
      break;
    case 'head':
      writer.u64(entry.sizeBytes).u64(entry.mappedBlocks);
      writePointer(writer, entry.map);
  }
  return writer.finish();
}

export function decodeCommitBody(plain: Uint8Array, slotCount: number): CommitEntry[] {
  const reader = new RecordReader(plain, 'commit body');
  const entries: CommitEntry[] = [];
  let slots = 0;
  while (reader.remaining > 0) {
    const entry = readEntry(reader);
    if (isSlotEntry(entry)) slots += entry.count;
    reader.require(slots <= slotCount, 'more entries than slots');
    entries.push(entry);
  }
  reader.require(slots === slotCount, 'fewer entries than slots');
  return entries;
}

function readEntry(reader: RecordReader): CommitEntry {
  const code = reader.u8();
  const level = reader.u8();
  const count = reader.u48();
  const number = reader.u64();
  reader.require(count > 0 && Number.isSafeInteger(number + count), 'an impossible range');
  reader.require(level === 0 || code === KIND_CODES.node, 'a level where none belongs');
  switch (code) {
    case KIND_CODES.write:
      return { kind: 'write', number, count };
    case KIND_CODES.hole:
      return { kind: 'hole', number, count };
    case KIND_CODES.node:
      return { kind: 'node', level, number, count };
    case KIND_CODES.move:
      return readMove(reader, number, count);
    case KIND_CODES.snapshot:
    case KIND_CODES.drop:
    case KIND_CODES.head:
      return readRecord(reader, code, number, count);
    default:
      throw new FormatError(`commit body has an entry of unknown kind ${code}`);
  }
}

function readMove(reader: RecordReader, end: number, count: number): MoveEntry {
  const id = reader.fixed(16);
  const ordinal = reader.u32();
  reader.zeros(4);
  reader.require(end % SECTOR_BYTES === 0, 'an end in the middle of a sector');
  reader.require(count * MOVED_BLOCK_BYTES <= reader.remaining, 'a count beyond its end');
  const blocks = new Float64Array(count);
  const old = new Uint32Array(count * 2);
  const positions = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    blocks[i] = reader.u64();
    reader.require(i === 0 || blocks[i]! >= blocks[i - 1]!, 'blocks that are not in order');
    old[i * 2] = reader.u32();
    old[i * 2 + 1] = reader.u32();
    positions[i] = reader.u32();
    reader.zeros(4);
  }
  return { kind: 'move', group: { id, ordinal, end }, blocks, old, positions };
}

function readRecord(outer: RecordReader, code: number, number: number, count: number): StateEntry {
  const fits = count <= MAX_RECORD_BYTES && count % RECORD_ALIGNMENT_BYTES === 0;
  outer.require(number === 0 && fits && count <= outer.remaining, 'an impossible record');
  const reader = new RecordReader(outer.fixed(count), 'commit entry');
  const entry = decodeRecord(reader, code);
  outer.require(reader.remaining < RECORD_ALIGNMENT_BYTES, 'a record that is too long');
  reader.zeros(reader.remaining);
  return entry;
}

function decodeRecord(reader: RecordReader, code: number): StateEntry {
  if (code === KIND_CODES.snapshot) return { kind: 'snapshot', snapshot: readSnapshot(reader) };
  if (code === KIND_CODES.drop) return { kind: 'drop', id: reader.fixed(SNAPSHOT_ID_BYTES) };
  return {
    kind: 'head',
    sizeBytes: reader.u64(),
    mappedBlocks: reader.u64(),
    map: readPointer(reader),
  };
}
