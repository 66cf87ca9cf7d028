import { describe, expect, it } from 'vitest';
import type { SlotBatch } from '../../../src/crypto/engine.js';
import { SlotBinding } from '../../../src/crypto/engine.js';
import { toHex } from '../../../src/base/bytes.js';
import { engines, makeBatch } from './batches.js';

const KEY = new Uint8Array(32).fill(1);
const SALT = new Uint8Array(8);
const LAYOUT = { plainBytes: 24, count: 4, gapBytes: 0, kind: 1, seed: 1 };

/** Each would be a read or a write outside the caller's memory, or an encoding that loses bits. */
const wrongBatches: [string, (batch: SlotBatch) => void][] = [
  ['a plaintext that ends outside', (batch) => (batch.plainAt[3]! += 1)],
  ['a plaintext far outside', (batch) => (batch.plainAt[0] = 0xffffffff)],
  ['a slot that ends outside', (batch) => (batch.slotAt[3]! += 1)],
  ['a slot far outside', (batch) => (batch.slotAt[1] = 0xffffffff)],
  ['areas smaller than one item', (batch) => (batch.plain = new Uint8Array(3))],
  ['more slots than offsets', (batch) => (batch.count = 5)],
  ['a negative count', (batch) => (batch.count = -1)],
  ['a fractional count', (batch) => (batch.count = 1.5)],
  ['no plaintext bytes', (batch) => (batch.plainBytes = 0)],
  ['fractional plaintext bytes', (batch) => (batch.plainBytes = 8.5)],
  ['plaintext bytes that are no number', (batch) => (batch.plainBytes = NaN)],
  ['too few positions', (batch) => (batch.positions = new Uint32Array(3))],
  ['too few numbers', (batch) => (batch.numbers = new Float64Array(3))],
  ['a number of 2^53', (batch) => (batch.numbers[2] = 2 ** 53)],
  ['a negative number', (batch) => (batch.numbers[0] = -1)],
  ['a fractional number', (batch) => (batch.numbers[0] = 0.5)],
  ['a kind of 17 bits', (batch) => (batch.kind = 0x10000)],
];

for (const engine of engines) {
  describe(`${engine.name} refuses`, () => {
    it.each(wrongBatches)('%s', (_, spoil) => {
      const batch = makeBatch(LAYOUT);
      spoil(batch);
      const before = toHex(batch.slots);
      const key = engine.slotKey(KEY);
      expect(() => {
        engine.sealSlots(key, batch, SALT);
      }).toThrow(RangeError);
      expect(() => engine.openSlots(key, batch, new Uint8Array(9))).toThrow(RangeError);
      expect(toHex(batch.slots)).toBe(before);
    });

    it('an area that was transferred away', () => {
      const batch = makeBatch(LAYOUT);
      const { buffer } = batch.slots;
      structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
      const key = engine.slotKey(KEY);
      expect(() => {
        engine.sealSlots(key, batch, SALT);
      }).toThrow(RangeError);
    });

    it('keys, salts, nonces, counters and skips of the wrong size', () => {
      const key = engine.slotKey(KEY);
      const batch = makeBatch(LAYOUT);
      const short = KEY.subarray(1);
      const calls = [
        () => engine.slotKey(short),
        () => {
          engine.sealSlots(key, batch, new Uint8Array(7));
        },
        () => engine.openSlots(key, batch, new Uint8Array(3)),
        () => engine.gmac(short, new Uint8Array(12), []),
        () => engine.gmac(KEY, new Uint8Array(16), []),
        () => {
          engine.ctr(short, new Uint8Array(16), new Uint8Array(4), 0);
        },
        () => {
          engine.ctr(KEY, new Uint8Array(12), new Uint8Array(4), 0);
        },
        () => {
          engine.ctr(KEY, new Uint8Array(16), new Uint8Array(4), -1);
        },
        () => {
          engine.ctr(KEY, new Uint8Array(16), new Uint8Array(4), 0.5);
        },
      ];
      for (const call of calls) expect(call).toThrow(RangeError);
    });

    it('a key that another engine made', () => {
      const other = engines.find((candidate) => candidate !== engine)!;
      const foreign = other.slotKey(KEY);
      expect(() => {
        engine.sealSlots(foreign, makeBatch(LAYOUT), SALT);
      }).toThrow(TypeError);
      expect(() => engine.openSlots(foreign, makeBatch(LAYOUT), new Uint8Array(4))).toThrow(
        TypeError,
      );
    });
  });
}

describe('SlotBinding', () => {
  it('writes position, salt, kind and number where the format has them', () => {
    const binding = new SlotBinding();
    binding.setKind(0x1234);
    binding.setSalt(Uint8Array.of(99, 1, 2, 3, 4, 5, 6, 7, 8), 1);
    binding.setSlot(0x89abcdef, 0x1122_3344_5566_7);
    expect(toHex(binding.nonce)).toBe('efcdab890102030405060708');
    expect(toHex(binding.aad)).toBe('34120000000000006756453423120100');
    const target = new Uint8Array(10);
    binding.copySalt(target, 2);
    expect(toHex(target)).toBe('00000102030405060708');
  });
});
