/**
 * The portable engine and the reference for the other two: @noble/ciphers, audited JavaScript
 * without native parts, some fifty times slower than OpenSSL.
 */
import { ctr, gcm } from '@noble/ciphers/aes.js';
import { concatBytes } from '../base/bytes.js';
import type { CryptoEngine, SlotBatch, SlotKey } from './engine.js';
import {
  checkOpen,
  checkSeal,
  KEY_BYTES,
  NONCE_BYTES,
  rejectSlot,
  skipCounter,
  SlotBinding,
  TAG_BYTES,
} from './engine.js';
import { requireLength } from './sizes.js';

class NobleKey implements SlotKey {
  readonly raw: Uint8Array;

  constructor(raw: Uint8Array) {
    requireLength('key', raw, KEY_BYTES);
    this.raw = Uint8Array.from(raw);
  }
}

export class NobleEngine implements CryptoEngine {
  readonly name = 'noble';
  private readonly binding = new SlotBinding();

  slotKey(raw: Uint8Array): SlotKey {
    return new NobleKey(raw);
  }

  sealSlots(key: SlotKey, batch: SlotBatch, salt: Uint8Array): void {
    checkSeal(batch, salt);
    const { binding } = this;
    const { plainBytes } = batch;
    binding.setKind(batch.kind);
    binding.setSalt(salt, 0);
    for (let i = 0; i < batch.count; i++) {
      const plainAt = batch.plainAt[i]!;
      const slotAt = batch.slotAt[i]!;
      binding.setSlot(batch.positions[i]!, batch.numbers[i]!);
      const plain = batch.plain.subarray(plainAt, plainAt + plainBytes);
      batch.slots.set(gcm(nobleKey(key), binding.nonce, binding.aad).encrypt(plain), slotAt);
      binding.copySalt(batch.slots, slotAt + plainBytes + TAG_BYTES);
    }
  }

  openSlots(key: SlotKey, batch: SlotBatch, failed: Uint8Array): number {
    checkOpen(batch, failed);
    const { binding } = this;
    const sealedBytes = batch.plainBytes + TAG_BYTES;
    let failures = 0;
    binding.setKind(batch.kind);
    for (let i = 0; i < batch.count; i++) {
      const slotAt = batch.slotAt[i]!;
      binding.setSalt(batch.slots, slotAt + sealedBytes);
      binding.setSlot(batch.positions[i]!, batch.numbers[i]!);
      const sealed = batch.slots.subarray(slotAt, slotAt + sealedBytes);
      const cipher = gcm(nobleKey(key), binding.nonce, binding.aad);
      try {
        batch.plain.set(cipher.decrypt(sealed), batch.plainAt[i]);
        failed[i] = 0;
      } catch {
        // All sizes were checked before, so that the tag is all that can be wrong.
        rejectSlot(batch, i, failed);
        failures++;
      }
    }
    return failures;
  }

  gmac(key: Uint8Array, nonce: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
    requireLength('key', key, KEY_BYTES);
    requireLength('nonce', nonce, NONCE_BYTES);
    return gcm(key, nonce, concatBytes(...parts)).encrypt(new Uint8Array(0));
  }

  ctr(key: Uint8Array, counter: Uint8Array, bytes: Uint8Array, skipBytes: number): void {
    requireLength('key', key, KEY_BYTES);
    const start = skipCounter(counter, skipBytes);
    const padded = concatBytes(new Uint8Array(start.skip), bytes);
    bytes.set(ctr(key, start.counter).encrypt(padded).subarray(start.skip));
  }
}

function nobleKey(key: SlotKey): Uint8Array {
  if (!(key instanceof NobleKey)) throw new TypeError('the key was made by another engine');
  return key.raw;
}
