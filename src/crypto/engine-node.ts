/**
 * The engine on node:crypto, for where the FFI does not load: the same OpenSSL, but a new cipher
 * object and several allocations for each slot.
 *
 * Two traps of node:crypto decide its shape: without `authTagLength` a tag cut to 4 bytes is
 * accepted, and `update()` hands out plaintext that `final()` has yet to verify.
 */
import type { KeyObject } from 'node:crypto';
import { createCipheriv, createDecipheriv, createSecretKey } from 'node:crypto';
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

const GCM = 'aes-256-gcm';
const GCM_OPTIONS = { authTagLength: TAG_BYTES };

class NodeKey implements SlotKey {
  readonly raw: Uint8Array;
  readonly secret: KeyObject;

  constructor(raw: Uint8Array) {
    requireLength('key', raw, KEY_BYTES);
    this.raw = Uint8Array.from(raw);
    this.secret = createSecretKey(this.raw);
  }
}

export class NodeEngine implements CryptoEngine {
  readonly name = 'node';
  private readonly binding = new SlotBinding();

  slotKey(raw: Uint8Array): SlotKey {
    return new NodeKey(raw);
  }

  sealSlots(key: SlotKey, batch: SlotBatch, salt: Uint8Array): void {
    checkSeal(batch, salt);
    const { binding } = this;
    const { plainBytes, slots } = batch;
    binding.setKind(batch.kind);
    binding.setSalt(salt, 0);
    for (let i = 0; i < batch.count; i++) {
      const plainAt = batch.plainAt[i]!;
      const slotAt = batch.slotAt[i]!;
      binding.setSlot(batch.positions[i]!, batch.numbers[i]!);
      const cipher = createCipheriv(GCM, secretOf(key), binding.nonce, GCM_OPTIONS);
      cipher.setAAD(binding.aad);
      slots.set(cipher.update(batch.plain.subarray(plainAt, plainAt + plainBytes)), slotAt);
      cipher.final();
      slots.set(cipher.getAuthTag(), slotAt + plainBytes);
      binding.copySalt(slots, slotAt + plainBytes + TAG_BYTES);
    }
  }

  openSlots(key: SlotKey, batch: SlotBatch, failed: Uint8Array): number {
    checkOpen(batch, failed);
    let failures = 0;
    this.binding.setKind(batch.kind);
    for (let i = 0; i < batch.count; i++) {
      const plain = this.openSlot(secretOf(key), batch, i);
      if (plain === null) {
        rejectSlot(batch, i, failed);
        failures++;
      } else {
        batch.plain.set(plain, batch.plainAt[i]);
        failed[i] = 0;
      }
    }
    return failures;
  }

  /** The verified plaintext of slot `index`, or null where the tag does not match. */
  private openSlot(secret: KeyObject, batch: SlotBatch, index: number): Uint8Array | null {
    const { binding } = this;
    const { slots } = batch;
    const slotAt = batch.slotAt[index]!;
    const tagAt = slotAt + batch.plainBytes;
    binding.setSalt(slots, tagAt + TAG_BYTES);
    binding.setSlot(batch.positions[index]!, batch.numbers[index]!);
    const decipher = createDecipheriv(GCM, secret, binding.nonce, GCM_OPTIONS);
    decipher.setAAD(binding.aad);
    decipher.setAuthTag(slots.subarray(tagAt, tagAt + TAG_BYTES));
    const unverified = decipher.update(slots.subarray(slotAt, tagAt));
    try {
      decipher.final();
      return unverified;
    } catch {
      return null;
    }
  }

  gmac(key: Uint8Array, nonce: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
    requireLength('key', key, KEY_BYTES);
    requireLength('nonce', nonce, NONCE_BYTES);
    const cipher = createCipheriv(GCM, key, nonce, GCM_OPTIONS);
    for (const part of parts) cipher.setAAD(part);
    cipher.final();
    return Uint8Array.from(cipher.getAuthTag());
  }

  ctr(key: Uint8Array, counter: Uint8Array, bytes: Uint8Array, skipBytes: number): void {
    requireLength('key', key, KEY_BYTES);
    const start = skipCounter(counter, skipBytes);
    const cipher = createCipheriv('aes-256-ctr', key, start.counter);
    cipher.update(new Uint8Array(start.skip));
    bytes.set(cipher.update(bytes));
  }
}

function secretOf(key: SlotKey): KeyObject {
  if (!(key instanceof NodeKey)) throw new TypeError('the key was made by another engine');
  return key.secret;
}
