import { describe, expect, it } from 'vitest';
import { BufferPool, DATA_AT, pooledBytes } from '../../../src/nbd/buffers.js';
import { MAX_PAYLOAD_BYTES } from '../../../src/nbd/protocol.js';

describe('BufferPool', () => {
  it('lends powers of two that hold what is asked for', () => {
    const pool = new BufferPool();
    for (const bytes of [0, 1, 4095, 4096, 4097, 65536, 65537, 2 ** 20 + 1, MAX_PAYLOAD_BYTES]) {
      const expected = Math.max(4096, 2 ** Math.ceil(Math.log2(Math.max(1, bytes))));
      expect(pooledBytes(bytes)).toBe(expected);
      expect(pool.take(bytes)).toHaveLength(DATA_AT + expected);
    }
    expect(() => pool.take(MAX_PAYLOAD_BYTES + 1)).toThrow(RangeError);
  });

  it('lends again what it got back, to nobody twice', () => {
    const pool = new BufferPool();
    const first = pool.take(5000);
    const second = pool.take(5000);
    expect(second).not.toBe(first);
    pool.giveBack(first);
    expect(pool.take(4000)).not.toBe(first);
    expect(pool.take(8192)).toBe(first);
    expect(pool.take(8192)).not.toBe(first);
  });

  it('lends large ones in memory that threads share, as long as there are not too many of them', () => {
    const isShared = (buffer: Buffer): boolean => buffer.buffer instanceof SharedArrayBuffer;
    const pool = new BufferPool();
    expect(isShared(pool.take(32768))).toBe(false);
    const lent = Array.from({ length: 64 }, () => pool.take(2 ** 20));
    const shared = lent.filter(isShared);
    expect(shared.length).toBeGreaterThan(16);
    expect(shared.length).toBeLessThan(32);
    // What is lost with a connection makes room for others; what comes back serves again.
    pool.abandon(shared[0]!);
    expect(isShared(pool.take(2 ** 20))).toBe(true);
    expect(isShared(pool.take(2 ** 20))).toBe(false);
    pool.giveBack(shared[1]!);
    expect(pool.take(2 ** 20)).toBe(shared[1]);
  });

  it('keeps a bounded amount', () => {
    const pool = new BufferPool();
    const lent = Array.from({ length: 64 }, () => pool.take(2 ** 20));
    for (const buffer of lent) pool.giveBack(buffer);
    const again = Array.from({ length: 64 }, () => pool.take(2 ** 20));
    const reused = again.filter((buffer) => lent.includes(buffer)).length;
    expect(reused).toBeGreaterThan(16);
    expect(reused).toBeLessThanOrEqual(32);
  });
});
