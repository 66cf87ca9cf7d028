/** Jobs: the same bytes as where they come from, on any memory that both see. */
import { describe, expect, it } from 'vitest';
import { KIB } from '../../../src/base/bytes.js';
import { SLOT_OVERHEAD_BYTES, type SlotBatch } from '../../../src/crypto/engine.js';
import { chooseEngine } from '../../../src/crypto/engines.js';
import { RowCodec } from '../../../src/erasure/row-codec.js';
import { finishRow } from '../../../src/store/parity.js';
import { batchForJob, JobRunner } from '../../../src/store/work.js';
import { patterned } from '../../support/volumes.js';

const engine = chooseEngine();
const PLAIN_BYTES = 4 * KIB;
const SLOT_BYTES = PLAIN_BYTES + SLOT_OVERHEAD_BYTES;
const GEOMETRY = { data: 2, parity: 2, unitBytes: 64 * KIB, chunkBytes: 1024 * KIB };
const SEAL_KEYS = { parity: patterned(32, 1), mac: patterned(32, 2), fill: patterned(32, 3) };
const KEY = patterned(32, 4);
const SALT = patterned(8, 5);

function batchOf(count: number, slots: Uint8Array, listLength = count): SlotBatch {
  const list = (each: (i: number) => number): number[] =>
    Array.from({ length: listLength }, (_, i) => each(i));
  return {
    count,
    plainBytes: PLAIN_BYTES,
    plain: patterned(count * PLAIN_BYTES, 6),
    plainAt: Uint32Array.from(list((i) => (i < count ? i * PLAIN_BYTES : 0xffff_ffff))),
    slots,
    slotAt: Uint32Array.from(list((i) => (i < count ? i * SLOT_BYTES : 0xffff_ffff))),
    positions: Uint32Array.from(list((i) => (i * SLOT_BYTES) / 8)),
    numbers: Float64Array.from(list((i) => i + 7)),
    kind: 1,
  };
}

describe('a job', () => {
  it('encrypts as the engine does, and decrypts that', () => {
    const runner = new JobRunner(engine);
    const wanted = batchOf(5, new Uint8Array(5 * SLOT_BYTES));
    engine.sealSlots(engine.slotKey(KEY), wanted, SALT);

    const batch = batchForJob(batchOf(5, new Uint8Array(5 * SLOT_BYTES), 9));
    expect(batch.plainAt).toHaveLength(5);
    expect(runner.run({ kind: 'seal', key: KEY, batch, salt: SALT })).toEqual([]);
    expect(batch.slots).toEqual(wanted.slots);

    const opened = { ...batch, plain: new Uint8Array(batch.plain.length) };
    const job = { kind: 'open', key: KEY, batch: opened } as const;
    expect(runner.run(job)).toEqual([Uint8Array.of(0, 0, 0, 0, 0)]);
    expect(opened.plain).toEqual(batch.plain);

    batch.slots[2 * SLOT_BYTES]! ^= 1;
    expect(runner.run(job)).toEqual([Uint8Array.of(0, 0, 1, 0, 0)]);
  });

  it('keeps keys apart, also when there are more than it keeps ready', () => {
    const runner = new JobRunner(engine);
    const keys = Array.from({ length: 70 }, (_, i) => patterned(32, 100 + i));
    const sealed = keys.map((key) => {
      const batch = batchOf(1, new Uint8Array(SLOT_BYTES));
      runner.run({ kind: 'seal', key, batch, salt: SALT });
      return batch;
    });
    for (const [i, key] of keys.entries()) {
      const failed = new Uint8Array(1);
      expect(engine.openSlots(engine.slotKey(key), sealed[i]!, failed)).toBe(0);
    }
  });

  it('finishes a row that it shares with whoever gave it, until it is told to forget it', async () => {
    const runner = new JobRunner(engine);
    const { data, parity, unitBytes } = GEOMETRY;
    const [mine, theirs] = [
      await RowCodec.create(data, parity, unitBytes),
      await RowCodec.create(data, parity, unitBytes),
    ];
    for (const codec of [mine, theirs]) codec.data.set(patterned(codec.data.length, 8));
    const group = { geometry: GEOMETRY, sealKeys: SEAL_KEYS };
    const end = 5 * data * unitBytes - 100_000;
    const wanted = finishRow(engine, group, mine, 4, end);

    runner.run({ kind: 'row', row: 3, shared: theirs.shared });
    const finish = { kind: 'finish', row: 3, ...group, index: 4, end } as const;
    expect(runner.run(finish)).toEqual(wanted);
    for (let place = 0; place < data + parity; place++) {
      expect(theirs.unit(place)).toEqual(mine.unit(place));
    }

    runner.run({ kind: 'forget', row: 3 });
    expect(() => runner.run(finish)).toThrow('there is no row 3 here');
  });
});
