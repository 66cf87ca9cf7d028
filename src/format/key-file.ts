/**
 * A key file (keys/<32 hex>): the volume key, wrapped once for each passphrase or key file.
 *
 *   magic "CVKF", version, slot count u16, volume id 16, counter u64
 *   slots of 224 bytes:
 *     id 8, kind u8 (1 passphrase, 2 key file), zero 3, memory KiB u32, iterations u32, lanes u32, created u64
 *     salt 32, commitment 32, nonce 24, wrapped 48, zero 56
 *   MAC 32: HMAC-SHA256(key-file key, everything before)
 *
 * The one kind of file that can be recognised without a key: whoever holds a passphrase must find the
 * parameters. The highest counter counts; the MAC can be checked only after a slot has opened.
 */
import { magic, RecordReader, RecordWriter } from './codec.js';

const MAGIC = magic('CVKF');
const VERSION = 1;
const SLOT_BYTES = 224;
export const KEY_FILE_MAC_BYTES = 32;
export const MAX_KEY_SLOTS = 64;
/** A key file larger than this is not read. */
export const MAX_KEY_FILE_BYTES: number = 32 + MAX_KEY_SLOTS * SLOT_BYTES + KEY_FILE_MAC_BYTES;

export const KEY_SLOT_KINDS = ['passphrase', 'key-file'] as const;
export type KeySlotKind = (typeof KEY_SLOT_KINDS)[number];

export interface KeySlot {
  readonly id: Uint8Array;
  readonly kind: KeySlotKind;
  readonly memoryKiB: number;
  readonly iterations: number;
  readonly lanes: number;
  readonly createdMs: number;
  readonly salt: Uint8Array;
  readonly commitment: Uint8Array;
  readonly nonce: Uint8Array;
  readonly wrapped: Uint8Array;
}

export interface KeyFile {
  readonly volumeId: Uint8Array;
  readonly counter: number;
  readonly slots: readonly KeySlot[];
}

/** Everything but the MAC. */
export function encodeKeyFile(file: KeyFile): Uint8Array {
  const writer = new RecordWriter(32 + file.slots.length * SLOT_BYTES)
    .u32(MAGIC)
    .u16(VERSION)
    .u16(file.slots.length)
    .fixed(file.volumeId, 16)
    .u64(file.counter);
  for (const slot of file.slots) {
    writer
      .fixed(slot.id, 8)
      .u8(KEY_SLOT_KINDS.indexOf(slot.kind) + 1)
      .zeros(3)
      .u32(slot.memoryKiB)
      .u32(slot.iterations)
      .u32(slot.lanes)
      .u64(slot.createdMs)
      .fixed(slot.salt, 32)
      .fixed(slot.commitment, 32)
      .fixed(slot.nonce, 24)
      .fixed(slot.wrapped, 48)
      .zeros(56);
  }
  return writer.finish();
}

/** Decodes a whole file; `body` is what `mac` must be checked over. */
export function decodeKeyFile(bytes: Uint8Array): {
  file: KeyFile;
  body: Uint8Array;
  mac: Uint8Array;
} {
  const reader = new RecordReader(bytes, 'key file');
  reader.start(MAGIC, VERSION);
  const count = reader.u16();
  reader.require(count > 0 && count <= MAX_KEY_SLOTS, 'an impossible number of slots');
  const volumeId = reader.fixed(16);
  const counter = reader.u64();
  const slots = Array.from({ length: count }, () => readSlot(reader));
  const body = bytes.slice(0, reader.offset);
  const mac = reader.fixed(KEY_FILE_MAC_BYTES);
  reader.end();
  return { file: { volumeId, counter, slots }, body, mac };
}

function readSlot(reader: RecordReader): KeySlot {
  const id = reader.fixed(8);
  const kind = KEY_SLOT_KINDS[reader.u8() - 1];
  reader.require(kind !== undefined, 'a slot of unknown kind');
  reader.zeros(3);
  const slot: KeySlot = {
    id,
    kind: kind!,
    memoryKiB: reader.u32(),
    iterations: reader.u32(),
    lanes: reader.u32(),
    createdMs: reader.u64(),
    salt: reader.fixed(32),
    commitment: reader.fixed(32),
    nonce: reader.fixed(24),
    wrapped: reader.fixed(48),
  };
  reader.zeros(56);
  return slot;
}
