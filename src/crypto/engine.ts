/**
 * The interface of bulk encryption, and what its engines share: blocks in, slots out, a batch a call.
 *
 * A slot, as stored (`plainBytes` = n):
 *
 *     0            n             n + 16      n + 24
 *     | ciphertext | tag (16)    | salt (8)  |
 *
 * AES-256-GCM with
 *
 *     nonce (12)   u32 position || salt (8)
 *     AAD (16)     u16 kind || 6 zero bytes || u64 number
 *
 * All numbers are little-endian. Invariants:
 * - every engine gives the same bytes;
 * - the tag always has 16 bytes, and no plaintext is left behind that it does not vouch for;
 * - whoever calls never seals two plaintexts under one (key, position, salt).
 */
import type { ErrorCode } from '../base/errors.js';
import { ChunkvolError } from '../base/errors.js';
import { requireLength } from './sizes.js';

export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;
export const AAD_BYTES = 16;
export const TAG_BYTES = 16;
export const SALT_BYTES = 8;
export const COUNTER_BYTES = 16;
/** What a slot is longer than its plaintext. */
export const SLOT_OVERHEAD_BYTES = 24;

const MAX_U16 = 0xffff;

/**
 * Blocks and their slots. The two areas must not overlap; in `plainAt`, `slotAt`, `positions` and
 * `numbers` only the first `count` entries count.
 */
export interface SlotBatch {
  count: number;
  /** Plaintext bytes of every slot of the batch, at least 1. */
  plainBytes: number;
  plain: Uint8Array;
  /** Byte offset in `plain` of each plaintext. */
  plainAt: Uint32Array;
  slots: Uint8Array;
  /** Byte offset in `slots` of each slot. */
  slotAt: Uint32Array;
  /** The position in the nonce of each. */
  positions: Uint32Array;
  /** The number in the associated data of each: integers from 0 below 2^53. */
  numbers: Float64Array;
  /** u16, the same for the whole batch. */
  kind: number;
}

export type EngineName = 'openssl' | 'node' | 'noble';

/** A key made ready for the engine that returned it, and for no other. */
export interface SlotKey {
  /** A copy of the 32 bytes. */
  readonly raw: Uint8Array;
}

/** All methods throw RangeError for wrong sizes and for offsets outside their area. */
export interface CryptoEngine {
  readonly name: EngineName;
  /** Takes 32 bytes; the caller may wipe them afterwards. */
  slotKey(raw: Uint8Array): SlotKey;
  /** Encrypts `batch.plain` into `batch.slots`; all get the same 8-byte salt. */
  sealSlots(key: SlotKey, batch: SlotBatch, salt: Uint8Array): void;
  /**
   * Decrypts `batch.slots` into `batch.plain`, the salt taken from each slot. `failed[i]` becomes 1
   * where the tag does not match, and that plaintext area zeros; else 0. Returns the failures.
   */
  openSlots(key: SlotKey, batch: SlotBatch, failed: Uint8Array): number;
  /** The 16-byte AES-256-GCM tag of an empty plaintext with all `parts`, concatenated, as AAD. */
  gmac(key: Uint8Array, nonce: Uint8Array, parts: readonly Uint8Array[]): Uint8Array;
  /**
   * XORs AES-256-CTR keystream onto `bytes` in place, from `skipBytes` into the stream that starts at
   * the 16-byte counter block `counter` (counted up as one big-endian number, modulo 2^128).
   */
  ctr(key: Uint8Array, counter: Uint8Array, bytes: Uint8Array, skipBytes: number): void;
}

/** Nonce and associated data of one slot after another, in buffers that stay where they are. */
export class SlotBinding {
  /** `nonce` and `aad` lie in here, at NONCE_AT and AAD_AT. */
  readonly bytes: Uint8Array = new Uint8Array(new ArrayBuffer(32));
  readonly nonce: Uint8Array = this.bytes.subarray(NONCE_AT, NONCE_AT + NONCE_BYTES);
  readonly aad: Uint8Array = this.bytes.subarray(AAD_AT, AAD_AT + AAD_BYTES);
  private readonly view = new DataView(this.bytes.buffer);

  setKind(kind: number): void {
    this.view.setUint16(AAD_AT, kind, true);
  }

  /** Takes the 8 bytes of `source` at byte `at`. */
  setSalt(source: Uint8Array, at: number): void {
    // A loop: for eight bytes a subarray and its set() cost several times as much.
    for (let i = 0; i < SALT_BYTES; i++) this.bytes[SALT_AT + i] = source[at + i]!;
  }

  /** Writes the salt to byte `at` of `target`, as it ends a slot. */
  copySalt(target: Uint8Array, at: number): void {
    for (let i = 0; i < SALT_BYTES; i++) target[at + i] = this.bytes[SALT_AT + i]!;
  }

  setSlot(position: number, number: number): void {
    this.view.setUint32(NONCE_AT, position, true);
    this.view.setUint32(NUMBER_AT, number, true);
    this.view.setUint32(NUMBER_AT + 4, Math.floor(number / 2 ** 32), true);
  }
}

export const NONCE_AT = 0;
const SALT_AT: number = NONCE_AT + 4;
export const AAD_AT = 16;
const NUMBER_AT: number = AAD_AT + 8;

/**
 * Everything an engine relies on before it touches memory: with FFI an offset outside an area would
 * be a write into somebody else's memory.
 */
export function checkBatch(batch: SlotBatch): void {
  const { count, plainBytes, kind } = batch;
  const lists = [batch.plainAt, batch.slotAt, batch.positions, batch.numbers];
  if (!Number.isInteger(count) || count < 0 || lists.some((list) => list.length < count)) {
    throw new RangeError(`a batch of ${count} slots needs as many offsets, positions and numbers`);
  }
  if (!Number.isInteger(plainBytes) || plainBytes < 1) {
    throw new RangeError(`plainBytes must be a positive integer, not ${plainBytes}`);
  }
  if (!Number.isInteger(kind) || kind < 0 || kind > MAX_U16) {
    throw new RangeError(`kind must fit 16 bits, not ${kind}`);
  }
  checkArea('plain', batch.plain, batch.plainAt, count, plainBytes);
  checkArea('slots', batch.slots, batch.slotAt, count, plainBytes + SLOT_OVERHEAD_BYTES);
  for (let i = 0; i < count; i++) {
    const number = batch.numbers[i]!;
    if (!Number.isSafeInteger(number) || number < 0) {
      throw new RangeError(`numbers[${i}] must be an integer from 0 below 2^53, not ${number}`);
    }
  }
}

function checkArea(
  name: string,
  area: Uint8Array,
  offsets: Uint32Array,
  count: number,
  itemBytes: number,
): void {
  const lastAt = area.length - itemBytes;
  for (let i = 0; i < count; i++) {
    if (offsets[i]! > lastAt) {
      throw new RangeError(`entry ${i} lies outside the ${area.length} bytes of ${name}`);
    }
  }
}

/** The checks of sealSlots. */
export function checkSeal(batch: SlotBatch, salt: Uint8Array): void {
  checkBatch(batch);
  requireLength('salt', salt, SALT_BYTES);
}

/** The checks of openSlots. */
export function checkOpen(batch: SlotBatch, failed: Uint8Array): void {
  checkBatch(batch);
  if (failed.length < batch.count) {
    throw new RangeError(`failed has ${failed.length} entries for ${batch.count} slots`);
  }
}

/** A slot whose tag did not match: marks it and leaves nothing of it in the plaintext area. */
export function rejectSlot(batch: SlotBatch, index: number, failed: Uint8Array): void {
  const at = batch.plainAt[index]!;
  batch.plain.fill(0, at, at + batch.plainBytes);
  failed[index] = 1;
}

/** The counter block that is `skipBytes` into the stream, and how many of its bytes are skipped. */
export function skipCounter(
  counter: Uint8Array,
  skipBytes: number,
): { readonly counter: Uint8Array; readonly skip: number } {
  requireLength('counter', counter, COUNTER_BYTES);
  if (!Number.isSafeInteger(skipBytes) || skipBytes < 0) {
    throw new RangeError(`skipBytes must be an integer from 0 below 2^53, not ${skipBytes}`);
  }
  const moved = Uint8Array.from(counter);
  let carry = Math.floor(skipBytes / COUNTER_BYTES);
  for (let i = COUNTER_BYTES - 1; i >= 0 && carry > 0; i--) {
    carry += moved[i]!;
    moved[i] = carry % 256;
    carry = Math.floor(carry / 256);
  }
  return { counter: moved, skip: skipBytes % COUNTER_BYTES };
}

/** What an engine throws when it finds itself broken, and why it is not available. */
export function engineError(code: ErrorCode, name: string, reason: string): ChunkvolError {
  return new ChunkvolError(
    code,
    `the crypto engine "${name}" ${reason}; set CHUNKVOL_CRYPTO_ENGINE to another, or unset it`,
  );
}
