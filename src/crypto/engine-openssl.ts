/**
 * The fast engine: OpenSSL's EVP functions called straight on the callers' buffers, five calls a slot.
 *
 * A key keeps one cipher context for each direction, its key schedule computed once; only the nonce is
 * set anew for each slot. Invariants, since nothing here is memory-safe by itself:
 * - every offset is checked against its area before an address is made of it;
 * - `inUse` references all memory whose address is in use, because the engine of the language may
 *   otherwise collect a buffer after its last mention, in the middle of a loop over its address;
 * - buffers are neither detached nor moved during a call, since all calls are synchronous.
 */
import type { CryptoEngine, SlotBatch, SlotKey } from './engine.js';
import {
  AAD_AT,
  AAD_BYTES,
  checkOpen,
  checkSeal,
  engineError,
  KEY_BYTES,
  NONCE_AT,
  NONCE_BYTES,
  rejectSlot,
  skipCounter,
  SlotBinding,
  TAG_BYTES,
} from './engine.js';
import type { OpensslFunctions } from './openssl-ffi.js';
import { GET_TAG, loadOpenssl, SET_TAG } from './openssl-ffi.js';
import { requireLength } from './sizes.js';

/** OpenSSL counts in C's int. */
const MAX_CALL_BYTES = 2 ** 30;

/** Memory of the engine itself, its address taken once. */
const SCRATCH_BYTES = 128;
const KEY_AT = 0;
const IV_AT = 32;
const TAG_AT = 48;
const BLOCK_AT = 64;
const OUT_BYTES_AT = 80;

/** Addresses of the EVP_CIPHER_CTX of a key, 0 until the first use. */
interface Contexts {
  seal: number;
  open: number;
}

class OpensslKey implements SlotKey {
  readonly raw: Uint8Array;
  readonly contexts: Contexts = { seal: 0, open: 0 };

  constructor(raw: Uint8Array) {
    requireLength('key', raw, KEY_BYTES);
    this.raw = Uint8Array.from(raw);
  }
}

export class OpensslEngine implements CryptoEngine {
  readonly name = 'openssl';
  private readonly evp: OpensslFunctions = loadOpenssl();
  private readonly gcm: number = this.evp.aes256Gcm();
  /** For gmac and ctr, which set a key at each call. */
  private readonly gmacContext: number = this.contextOf(this.gcm, this.evp.encryptInit);
  private readonly ctrContext: number = this.contextOf(this.evp.aes256Ctr(), this.evp.encryptInit);
  private readonly binding = new SlotBinding();
  private readonly bindingAddress: number = this.evp.addressOf(this.binding.bytes);
  private readonly scratch = new Uint8Array(new ArrayBuffer(SCRATCH_BYTES));
  private readonly scratchAddress: number = this.evp.addressOf(this.scratch);
  private readonly abandoned = new FinalizationRegistry<Contexts>((contexts) => {
    if (contexts.seal !== 0) this.evp.freeContext(contexts.seal);
    if (contexts.open !== 0) this.evp.freeContext(contexts.open);
  });
  private inUse: unknown = null;

  slotKey(raw: Uint8Array): SlotKey {
    const key = new OpensslKey(raw);
    this.abandoned.register(key, key.contexts);
    return key;
  }

  sealSlots(key: SlotKey, batch: SlotBatch, salt: Uint8Array): void {
    checkSeal(batch, salt);
    checkCallBytes(batch.plainBytes);
    const context = this.sealContext(key);
    const { binding } = this;
    binding.setKind(batch.kind);
    binding.setSalt(salt, 0);
    this.whileInUse(batch, () => {
      const plainAddress = this.evp.addressOf(batch.plain);
      const slotsAddress = this.evp.addressOf(batch.slots);
      for (let i = 0; i < batch.count; i++) {
        const slotAt = batch.slotAt[i]!;
        binding.setSlot(batch.positions[i]!, batch.numbers[i]!);
        this.sealSlot(
          context,
          plainAddress + batch.plainAt[i]!,
          slotsAddress + slotAt,
          batch.plainBytes,
        );
        binding.copySalt(batch.slots, slotAt + batch.plainBytes + TAG_BYTES);
      }
    });
  }

  private sealSlot(context: number, from: number, to: number, bytes: number): void {
    const { evp, bindingAddress } = this;
    const outBytes = this.scratchAddress + OUT_BYTES_AT;
    const sealed =
      evp.encryptInit(context, 0, 0, bindingAddress + NONCE_AT, 0) === 1 &&
      evp.encryptUpdate(context, 0, outBytes, bindingAddress + AAD_AT, AAD_BYTES) === 1 &&
      evp.encryptUpdate(context, to, outBytes, from, bytes) === 1 &&
      evp.encryptFinal(context, to + bytes, outBytes) === 1 &&
      evp.control(context, GET_TAG, TAG_BYTES, to + bytes) === 1;
    if (!sealed) throw this.broken('encrypt');
  }

  openSlots(key: SlotKey, batch: SlotBatch, failed: Uint8Array): number {
    checkOpen(batch, failed);
    checkCallBytes(batch.plainBytes);
    const context = this.openContext(key);
    const { binding } = this;
    let failures = 0;
    binding.setKind(batch.kind);
    this.whileInUse(batch, () => {
      const plainAddress = this.evp.addressOf(batch.plain);
      const slotsAddress = this.evp.addressOf(batch.slots);
      for (let i = 0; i < batch.count; i++) {
        const slotAt = batch.slotAt[i]!;
        binding.setSalt(batch.slots, slotAt + batch.plainBytes + TAG_BYTES);
        binding.setSlot(batch.positions[i]!, batch.numbers[i]!);
        const to = plainAddress + batch.plainAt[i]!;
        if (this.openSlot(context, slotsAddress + slotAt, to, batch.plainBytes)) {
          failed[i] = 0;
        } else {
          rejectSlot(batch, i, failed);
          failures++;
        }
      }
    });
    if (failures > 0) this.evp.clearErrors();
    return failures;
  }

  /**
   * True when the tag matches. Else what was written to `to` must be wiped: a call that fails for any
   * other reason has verified nothing either.
   */
  private openSlot(context: number, from: number, to: number, bytes: number): boolean {
    const { evp, bindingAddress } = this;
    const outBytes = this.scratchAddress + OUT_BYTES_AT;
    return (
      evp.decryptInit(context, 0, 0, bindingAddress + NONCE_AT, 0) === 1 &&
      evp.control(context, SET_TAG, TAG_BYTES, from + bytes) === 1 &&
      evp.decryptUpdate(context, 0, outBytes, bindingAddress + AAD_AT, AAD_BYTES) === 1 &&
      evp.decryptUpdate(context, to, outBytes, from, bytes) === 1 &&
      evp.decryptFinal(context, to + bytes, outBytes) === 1
    );
  }

  gmac(key: Uint8Array, nonce: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
    requireLength('key', key, KEY_BYTES);
    requireLength('nonce', nonce, NONCE_BYTES);
    const { evp, gmacContext: context, scratch, scratchAddress } = this;
    const outBytes = scratchAddress + OUT_BYTES_AT;
    scratch.set(nonce, IV_AT);
    this.setKey(context, key, evp.encryptInit);
    const absorbed = this.whileInUse(parts, () =>
      parts.every((part) => {
        checkCallBytes(part.length);
        if (part.length === 0) return true;
        return evp.encryptUpdate(context, 0, outBytes, evp.addressOf(part), part.length) === 1;
      }),
    );
    const done =
      absorbed &&
      evp.encryptFinal(context, scratchAddress + BLOCK_AT, outBytes) === 1 &&
      evp.control(context, GET_TAG, TAG_BYTES, scratchAddress + TAG_AT) === 1;
    if (!done) throw this.broken('authenticate');
    return scratch.slice(TAG_AT, TAG_AT + TAG_BYTES);
  }

  ctr(key: Uint8Array, counter: Uint8Array, bytes: Uint8Array, skipBytes: number): void {
    requireLength('key', key, KEY_BYTES);
    checkCallBytes(bytes.length);
    const start = skipCounter(counter, skipBytes);
    if (bytes.length === 0) return;
    const { evp, ctrContext: context, scratchAddress } = this;
    const outBytes = scratchAddress + OUT_BYTES_AT;
    const block = scratchAddress + BLOCK_AT;
    this.scratch.set(start.counter, IV_AT);
    this.setKey(context, key, evp.encryptInit);
    const done = this.whileInUse(bytes, () => {
      const address = evp.addressOf(bytes);
      return (
        evp.encryptUpdate(context, block, outBytes, block, start.skip) === 1 &&
        evp.encryptUpdate(context, address, outBytes, address, bytes.length) === 1
      );
    });
    if (!done) throw this.broken('encrypt');
  }

  private sealContext(key: SlotKey): number {
    const { raw, contexts } = opensslKey(key);
    if (contexts.seal === 0) {
      contexts.seal = this.contextOf(this.gcm, this.evp.encryptInit);
      this.setKey(contexts.seal, raw, this.evp.encryptInit);
    }
    return contexts.seal;
  }

  private openContext(key: SlotKey): number {
    const { raw, contexts } = opensslKey(key);
    if (contexts.open === 0) {
      contexts.open = this.contextOf(this.gcm, this.evp.decryptInit);
      this.setKey(contexts.open, raw, this.evp.decryptInit);
    }
    return contexts.open;
  }

  /** A context for `cipher`, without a key: naming the cipher is the slow part of getting ready. */
  private contextOf(cipher: number, init: OpensslFunctions['encryptInit']): number {
    const context = this.evp.newContext();
    if (context === 0 || init(context, cipher, 0, 0, 0) !== 1) throw this.broken('start');
    return context;
  }

  /** Gives a context its key, and whatever IV is in the scratch memory. */
  private setKey(context: number, key: Uint8Array, init: OpensslFunctions['encryptInit']): void {
    const { scratch, scratchAddress } = this;
    scratch.set(key, KEY_AT);
    const ready = init(context, 0, scratchAddress + KEY_AT, scratchAddress + IV_AT, 0) === 1;
    scratch.fill(0, KEY_AT, KEY_AT + KEY_BYTES);
    if (!ready) throw this.broken('take a key');
  }

  private whileInUse<T>(memory: unknown, work: () => T): T {
    this.inUse = memory;
    try {
      return work();
    } finally {
      this.inUse = null;
    }
  }

  private broken(what: string): Error {
    this.evp.clearErrors();
    return engineError('internal', this.name, `failed to ${what}`);
  }
}

function opensslKey(key: SlotKey): OpensslKey {
  if (key instanceof OpensslKey) return key;
  throw new TypeError('the key was made by another engine');
}

function checkCallBytes(bytes: number): void {
  if (bytes > MAX_CALL_BYTES) {
    throw new RangeError(`at most ${MAX_CALL_BYTES} bytes a call, not ${bytes}`);
  }
}
