import { argon2id as nobleArgon2id } from '@noble/hashes/argon2.js';
import { describe, expect, it } from 'vitest';
import { toHex } from '../../../src/base/bytes.js';
import type { Argon2Parameters } from '../../../src/crypto/kdf.js';
import { ARGON2_LIMITS, argon2Fault, argon2id, DEFAULT_ARGON2 } from '../../../src/crypto/kdf.js';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

const FLOOR: Argon2Parameters = { memoryKiB: 8192, iterations: 1, lanes: 1 };

describe('argon2id', () => {
  it('gives a published answer (test suite of the reference implementation, v1.3)', async () => {
    const parameters = { memoryKiB: 65536, iterations: 2, lanes: 1 };
    const hash = await argon2id(text('password'), text('somesalt'), parameters, 32);
    expect(toHex(hash)).toBe('09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7');
  });

  it('agrees with another implementation on 64 bytes, several lanes and odd memory', async () => {
    const salt = new Uint8Array(32).fill(5);
    const hash = await argon2id(text('käse'), salt, { memoryKiB: 8199, iterations: 2, lanes: 3 });
    const other = nobleArgon2id(text('käse'), salt, { m: 8199, t: 2, p: 3, dkLen: 64 });
    expect(toHex(hash)).toBe(toHex(other));
  }, 30_000);

  it('lets the event loop run meanwhile, and leaves the password alone', async () => {
    const password = text('password');
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const hash = await argon2id(password, new Uint8Array(32), FLOOR);
    clearInterval(timer);
    expect(hash.length).toBe(64);
    expect(turns).toBeGreaterThan(3);
    expect(password).toEqual(text('password'));
  });

  it('refuses before any work what is out of its limits', async () => {
    const salt = new Uint8Array(32);
    const wrong: Partial<Argon2Parameters>[] = [
      { memoryKiB: ARGON2_LIMITS.memoryKiB.min - 1 },
      { memoryKiB: ARGON2_LIMITS.memoryKiB.max + 1 },
      { memoryKiB: 2 ** 32 - 1 },
      { memoryKiB: 8192.5 },
      { memoryKiB: NaN },
      { iterations: 0 },
      { iterations: ARGON2_LIMITS.iterations.max + 1 },
      { lanes: 0 },
      { lanes: ARGON2_LIMITS.lanes.max + 1 },
    ];
    for (const parameters of wrong) {
      const all = { ...FLOOR, ...parameters };
      expect(argon2Fault(all)).toMatch(/^Argon2 (memoryKiB|iterations|lanes) is /);
      await expect(argon2id(text('x'), salt, all)).rejects.toThrow(RangeError);
    }
    await expect(argon2id(new Uint8Array(0), salt, FLOOR)).rejects.toThrow(RangeError);
    await expect(argon2id(text('x'), new Uint8Array(7), FLOOR)).rejects.toThrow(RangeError);
  });

  it('has limits that its default, their floor and their ceiling keep', () => {
    const { memoryKiB, iterations, lanes } = ARGON2_LIMITS;
    const ceiling = { memoryKiB: memoryKiB.max, iterations: iterations.max, lanes: lanes.max };
    expect([DEFAULT_ARGON2, FLOOR, ceiling].map(argon2Fault)).toEqual([null, null, null]);
  });
});
