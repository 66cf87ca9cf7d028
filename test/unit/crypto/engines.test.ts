import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromHex, toHex } from '../../../src/base/bytes.js';
import { SLOT_OVERHEAD_BYTES } from '../../../src/crypto/engine.js';
import { bytesFrom, engines, makeBatch, plainOf, slotOf } from './batches.js';
import type { Allocate, Layout } from './batches.js';

const KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
const SALT = Uint8Array.from({ length: 8 }, (_, i) => 0x90 + i);
const LAYOUT: Layout = { plainBytes: 37, count: 5, gapBytes: 3, kind: 0x1234, seed: 1 };

const layouts: fc.Arbitrary<Layout> = fc.record({
  plainBytes: fc.oneof(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 1, max: 5000 })),
  count: fc.integer({ min: 0, max: 9 }),
  gapBytes: fc.integer({ min: 0, max: 17 }),
  kind: fc.integer({ min: 0, max: 0xffff }),
  seed: fc.integer(),
});

interface WebAssemblyApi {
  Memory: new (limits: { initial: number; maximum: number; shared?: boolean }) => {
    buffer: ArrayBuffer;
  };
}
const { Memory } = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

/** Kinds of memory that blocks may lie in, each with an odd start. */
const memories: [string, Allocate][] = [
  ['an ArrayBuffer', (bytes) => new Uint8Array(new ArrayBuffer(bytes + 9), 5, bytes)],
  ['a small array inside the heap', (bytes) => new Uint8Array(bytes)],
  ['the pool of Buffer', (bytes) => Buffer.allocUnsafe(bytes + 1).subarray(1)],
  [
    'WebAssembly memory',
    (bytes) => new Uint8Array(new Memory({ initial: 2, maximum: 2 }).buffer, 77, bytes),
  ],
  [
    'shared WebAssembly memory',
    (bytes) =>
      new Uint8Array(new Memory({ initial: 2, maximum: 2, shared: true }).buffer, 77, bytes),
  ],
];

describe('known slots, computed by another implementation (pyca/cryptography)', () => {
  const plain = Uint8Array.from({ length: 37 }, (_, i) => (7 * i + 1) % 256);
  const answers = [
    {
      position: 0x89abcdef,
      kind: 0x1234,
      number: 2 ** 53 - 1,
      slot:
        '169326308c29d99ca64fb1464e11cfbe376f97b1617df27cb3d03091e8bb2d884524fc4c39' +
        'bd9489e1b67001fe58b0c55b4c72106f9091929394959697',
    },
    {
      position: 0,
      kind: 0,
      number: 0,
      slot:
        '9ea695a4d9412fddcb3f5a6d47e4e67947d177db679bdbfa7585d58c8aa5f63fc468d72ef6' +
        '34fe8f5773ab47f8257db1050f828e3d9091929394959697',
    },
  ];

  for (const engine of engines) {
    it.each(answers)(`${engine.name}: position $position`, ({ position, kind, number, slot }) => {
      const batch = makeBatch({ ...LAYOUT, count: 1, kind });
      batch.positions[0] = position;
      batch.numbers[0] = number;
      plainOf(batch, 0).set(plain);
      engine.sealSlots(engine.slotKey(KEY), batch, SALT);
      expect(toHex(slotOf(batch, 0))).toBe(slot);

      plainOf(batch, 0).fill(0);
      const failed = Uint8Array.of(9);
      expect(engine.openSlots(engine.slotKey(KEY), batch, failed)).toBe(0);
      expect(failed[0]).toBe(0);
      expect(toHex(plainOf(batch, 0))).toBe(toHex(plain));
    });
  }
});

describe('sealing and opening', () => {
  it('gives the same bytes in all engines, gaps untouched', () => {
    fc.assert(
      fc.property(layouts, (layout) => {
        const key = bytesFrom(`key ${layout.seed}`, 32);
        const salt = bytesFrom(`salt ${layout.seed}`, 8);
        const sealed = engines.map((engine) => {
          const batch = makeBatch(layout);
          engine.sealSlots(engine.slotKey(key), batch, salt);
          expect(toHex(batch.plain)).toBe(toHex(makeBatch(layout).plain));
          return toHex(batch.slots);
        });
        expect(new Set(sealed).size).toBe(1);
      }),
      { numRuns: 60 },
    );
  });

  it('opens in every engine what any other sealed, one key object for both directions', () => {
    fc.assert(
      fc.property(layouts, (layout) => {
        const original = makeBatch(layout);
        for (const sealer of engines) {
          const batch = makeBatch(layout);
          sealer.sealSlots(sealer.slotKey(KEY), batch, SALT);
          for (const opener of engines) {
            const key = opener.slotKey(KEY);
            for (let i = 0; i < batch.count; i++) plainOf(batch, i).fill(0x55);
            const failed = new Uint8Array(batch.count).fill(7);
            expect(opener.openSlots(key, batch, failed)).toBe(0);
            expect(failed.every((flag) => flag === 0)).toBe(true);
            expect(toHex(batch.plain)).toBe(toHex(original.plain));
            opener.sealSlots(key, batch, SALT);
          }
        }
      }),
      { numRuns: 20 },
    );
  });

  it('takes many slots of 4 KiB in one batch', () => {
    const layout = { plainBytes: 4096, count: 64, gapBytes: 0, kind: 1, seed: 4 };
    const sealed = engines.map((engine) => {
      const batch = makeBatch(layout);
      engine.sealSlots(engine.slotKey(KEY), batch, SALT);
      return Buffer.from(batch.slots);
    });
    expect(sealed[0]!.equals(sealed[1]!)).toBe(true);
    expect(sealed[0]!.equals(sealed[2]!)).toBe(true);
  });

  for (const [name, allocate] of memories) {
    for (const engine of engines) {
      it(`works in ${name} (${engine.name})`, () => {
        const layout = { ...LAYOUT, plainBytes: 16, count: 1, gapBytes: 0 };
        const batch = makeBatch(layout, allocate);
        const elsewhere = makeBatch(layout);
        const key = engine.slotKey(KEY);
        engine.sealSlots(key, batch, SALT);
        engine.sealSlots(key, elsewhere, SALT);
        expect(toHex(batch.slots)).toBe(toHex(elsewhere.slots));
        batch.plain.fill(0);
        expect(engine.openSlots(key, batch, new Uint8Array(1))).toBe(0);
        expect(toHex(batch.plain)).toBe(toHex(elsewhere.plain));
      });
    }
  }

  it('keeps keys apart when their uses alternate', () => {
    for (const engine of engines) {
      const keys = [1, 2, 3].map((byte) => engine.slotKey(new Uint8Array(32).fill(byte)));
      const first = keys.map((key) => {
        const batch = makeBatch(LAYOUT);
        engine.sealSlots(key, batch, SALT);
        return batch;
      });
      expect(new Set(first.map((batch) => toHex(batch.slots))).size).toBe(3);
      const failed = new Uint8Array(LAYOUT.count);
      for (let i = 0; i < 3; i++) {
        expect(engine.openSlots(keys[i]!, first[i]!, failed)).toBe(0);
        expect(engine.openSlots(keys[(i + 1) % 3]!, first[i]!, failed)).toBe(LAYOUT.count);
      }
    }
  });

  it('copies the key: wiping the original changes nothing', () => {
    for (const engine of engines) {
      const raw = Uint8Array.from(KEY);
      const key = engine.slotKey(raw);
      raw.fill(0);
      const batch = makeBatch(LAYOUT);
      engine.sealSlots(key, batch, SALT);
      expect(toHex(key.raw)).toBe(toHex(KEY));
      expect(engine.openSlots(engine.slotKey(KEY), batch, new Uint8Array(LAYOUT.count))).toBe(0);
    }
  });
});

describe('what does not authenticate', () => {
  const layout: Layout = { plainBytes: 19, count: 3, gapBytes: 5, kind: 0x0a0b, seed: 2 };
  const slotBits = 8 * (layout.plainBytes + SLOT_OVERHEAD_BYTES);

  /** Alterations of the middle slot of three, by name. */
  const alterations: [
    string,
    number,
    (batch: ReturnType<typeof makeBatch>, bit: number) => void,
  ][] = [
    [
      'ciphertext, tag and salt',
      slotBits,
      (batch, bit) => {
        slotOf(batch, 1)[bit >> 3]! ^= 1 << (bit & 7);
      },
    ],
    [
      'position',
      32,
      (batch, bit) => {
        batch.positions[1]! ^= 1 << bit;
      },
    ],
    [
      'number',
      53,
      (batch, bit) => {
        batch.numbers[1] = Number(BigInt(batch.numbers[1]!) ^ (1n << BigInt(bit)));
      },
    ],
  ];

  for (const engine of engines) {
    it.each(alterations)(`${engine.name}: every single bit of the %s`, (_, bits, alter) => {
      const key = engine.slotKey(KEY);
      const original = makeBatch(layout);
      for (let bit = 0; bit < bits; bit++) {
        const batch = makeBatch(layout);
        engine.sealSlots(key, batch, SALT);
        alter(batch, bit);
        plainOf(batch, 1).fill(0xff);
        const failed = new Uint8Array(3).fill(9);
        expect(engine.openSlots(key, batch, failed)).toBe(1);
        expect([...failed]).toEqual([0, 1, 0]);
        plainOf(original, 1).fill(0);
        expect(toHex(batch.plain)).toBe(toHex(original.plain));
      }
    });

    it(`${engine.name}: every single bit of the kind, which all slots share`, () => {
      const key = engine.slotKey(KEY);
      for (let bit = 0; bit < 16; bit++) {
        const batch = makeBatch(layout);
        engine.sealSlots(key, batch, SALT);
        batch.kind ^= 1 << bit;
        const failed = new Uint8Array(3);
        expect(engine.openSlots(key, batch, failed)).toBe(3);
        expect([...failed]).toEqual([1, 1, 1]);
        for (let i = 0; i < 3; i++)
          expect(plainOf(batch, i).every((byte) => byte === 0)).toBe(true);
      }
    });

    it(`${engine.name}: a failure leaves no trace in what comes after`, () => {
      const key = engine.slotKey(KEY);
      const batch = makeBatch(layout);
      engine.sealSlots(key, batch, SALT);
      slotOf(batch, 0)[0]! ^= 1;
      const failed = new Uint8Array(3);
      expect(engine.openSlots(key, batch, failed)).toBe(1);
      slotOf(batch, 0)[0]! ^= 1;
      expect(engine.openSlots(key, batch, failed)).toBe(0);
      expect([...failed]).toEqual([0, 0, 0]);
      expect(toHex(batch.plain)).toBe(toHex(makeBatch(layout).plain));
    });
  }
});

describe('gmac', () => {
  // The GCM specification, test case 13 (nothing), and NIST CAVS gcmEncryptExtIV256 (16 bytes of AAD).
  const answers = [
    {
      key: '00'.repeat(32),
      nonce: '00'.repeat(12),
      aad: '',
      tag: '530f8afbc74536b9a963b4f1c4cb738b',
    },
    {
      key: '78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223',
      nonce: 'd79cf22d504cc793c3fb6c8a',
      aad: 'b96baa8c1c75a671bfb2d08d06be5f36',
      tag: '3e5d486aa2e30b22e040b85723a06e76',
    },
  ];
  for (const engine of engines) {
    it.each(answers)(`${engine.name}: published answer $tag`, ({ key, nonce, aad, tag }) => {
      const got = engine.gmac(fromHex(key)!, fromHex(nonce)!, [fromHex(aad)!]);
      expect(toHex(got)).toBe(tag);
    });
  }

  it('is the same in all engines, however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 70 }), { maxLength: 6 }), (parts) => {
        const nonce = bytesFrom('nonce', 12);
        const whole = Buffer.concat(parts);
        const tags = engines.flatMap((engine) => [
          toHex(engine.gmac(KEY, nonce, parts)),
          toHex(engine.gmac(KEY, nonce, [whole])),
        ]);
        expect(new Set(tags).size).toBe(1);
      }),
      { numRuns: 60 },
    );
  });

  it('depends on every byte, the key and the nonce', () => {
    for (const engine of engines) {
      const bytes = bytesFrom('bytes', 33);
      const nonce = bytesFrom('nonce', 12);
      const tags = new Set([toHex(engine.gmac(KEY, nonce, [bytes]))]);
      for (let i = 0; i < bytes.length; i++) {
        const altered = Uint8Array.from(bytes);
        altered[i]! ^= 0x80;
        tags.add(toHex(engine.gmac(KEY, nonce, [altered])));
      }
      tags.add(
        toHex(
          engine.gmac(
            KEY.map((byte) => byte ^ 1),
            nonce,
            [bytes],
          ),
        ),
      );
      tags.add(
        toHex(
          engine.gmac(
            KEY,
            nonce.map((byte) => byte ^ 1),
            [bytes],
          ),
        ),
      );
      expect(tags.size).toBe(bytes.length + 3);
    }
  });
});

describe('ctr', () => {
  // NIST SP 800-38A, F.5.5, all four blocks.
  const key = fromHex('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4')!;
  const counter = fromHex('f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff')!;
  const plain = fromHex(
    '6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51' +
      '30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710',
  )!;
  const cipher =
    '601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5' +
    '2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6';

  for (const engine of engines) {
    it(`${engine.name}: published answer, from every byte on`, () => {
      for (let skip = 0; skip <= plain.length; skip++) {
        const bytes = plain.slice(skip);
        engine.ctr(key, counter, bytes, skip);
        expect(toHex(bytes)).toBe(cipher.slice(2 * skip));
      }
    });

    it(`${engine.name}: leaves its arguments and the neighbours alone`, () => {
      const area = new Uint8Array(40).fill(0xee);
      const ownKey = Uint8Array.from(key);
      const ownCounter = Uint8Array.from(counter);
      engine.ctr(ownKey, ownCounter, area.subarray(3, 20), 21);
      expect(area.subarray(0, 3).every((byte) => byte === 0xee)).toBe(true);
      expect(area.subarray(20).every((byte) => byte === 0xee)).toBe(true);
      expect(toHex(ownKey)).toBe(toHex(key));
      expect(toHex(ownCounter)).toBe(toHex(counter));
    });
  }

  it('is the same in all engines, far into the stream and across every carry', () => {
    const counters = fc.oneof(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.integer({ min: 0, max: 16 }).map((n) => new Uint8Array(16).fill(0xff, 16 - n)),
    );
    const skips = fc.oneof(
      fc.integer({ min: 0, max: 100 }),
      fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
    );
    fc.assert(
      fc.property(counters, skips, fc.uint8Array({ maxLength: 100 }), (start, skip, bytes) => {
        const results = engines.map((engine) => {
          const copy = Uint8Array.from(bytes);
          engine.ctr(KEY, start, copy, skip);
          return toHex(copy);
        });
        expect(new Set(results).size).toBe(1);
      }),
      { numRuns: 80 },
    );
  });

  it('counts on modulo 2^128: the block after all ones is all zeros', () => {
    for (const engine of engines) {
      const wrapped = new Uint8Array(16);
      engine.ctr(KEY, new Uint8Array(16).fill(0xff), wrapped, 16);
      const zero = new Uint8Array(16);
      engine.ctr(KEY, new Uint8Array(16), zero, 0);
      expect(toHex(wrapped)).toBe(toHex(zero));
    }
  });
});
