import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import { BURST_REFILL_MS } from '../../../src/volume/limits.js';
import { Pace } from '../../../src/volume/pace.js';
import { SimulatedClock } from '../../simulation/dice.js';

/** A disk of which too much is dead by `excess.bytes`, and on which a burst may make as much again as `burst`. */
function makePace(burstBytes = 0) {
  const clock = new SimulatedClock();
  const excess = { bytes: MIB, marginBytes: 2 * MIB, burstBytes };
  const calls = { waits: 0 };
  const pace = new Pace(
    clock,
    () => excess,
    () => {
      calls.waits++;
    },
  );
  const settled = async (admitted: Promise<void>): Promise<boolean> => {
    let done = false;
    void admitted.then(() => (done = true));
    for (let i = 0; i < 20; i++) await Promise.resolve();
    return done;
  };
  return { clock, excess, calls, pace, settled };
}

describe('the pace of writers', () => {
  it('is theirs within the bounds', async () => {
    const { pace, excess, calls, settled } = makePace();
    excess.bytes = 0;
    for (let i = 0; i < 100; i++) expect(await settled(pace.admit(MIB))).toBe(true);
    expect(calls.waits).toBe(0);
  });

  it('is that of the collector beyond them', async () => {
    const { pace, calls, settled } = makePace();
    const first = pace.admit(MIB);
    expect(await settled(first)).toBe(false);
    expect(calls.waits).toBeGreaterThan(0);
    // Half-way to the bound, half of what is gained may be written.
    pace.noteGained(1.9 * MIB);
    expect(await settled(first)).toBe(false);
    pace.noteGained(0.1 * MIB);
    expect(await settled(first)).toBe(true);
    expect(await settled(pace.admit(MIB))).toBe(false);
  });

  it('is a tenth of that of the collector beyond the bounds', async () => {
    const { pace, excess, settled } = makePace();
    excess.bytes = 50 * MIB;
    const admitted = pace.admit(MIB);
    expect(await settled(admitted)).toBe(false);
    pace.noteGained(9.9 * MIB);
    expect(await settled(admitted)).toBe(false);
    pace.noteGained(0.1 * MIB);
    expect(await settled(admitted)).toBe(true);
  });

  it('lets nobody save up what is gained while nobody writes', () => {
    const { pace, excess } = makePace();
    excess.marginBytes = 8 * MIB;
    expect(pace.admitNow(MIB)).toBe(false);
    for (let i = 0; i < 100; i++) pace.noteGained(4 * MIB);
    // As much is dead as it was: what is left to the bound.
    for (let i = 0; i < 7; i++) expect(pace.admitNow(MIB)).toBe(true);
    expect(pace.admitNow(MIB)).toBe(false);
  });

  it('is asked without a wait by who can do something else', () => {
    const { pace, excess } = makePace(3 * MIB);
    excess.bytes = 0;
    expect(pace.admitNow(MIB)).toBe(true);
    excess.bytes = MIB;
    for (let i = 0; i < 3; i++) expect(pace.admitNow(MIB)).toBe(true);
    expect(pace.admitNow(MIB)).toBe(false);
    pace.noteGained(2 * MIB);
    expect(pace.admitNow(MIB)).toBe(true);
    expect(pace.admitNow(MIB)).toBe(false);
  });

  it('is never nothing', async () => {
    const { pace, clock, settled } = makePace();
    const admitted = pace.admit(MIB);
    expect(await settled(admitted)).toBe(false);
    clock.advance(1000);
    expect(await settled(admitted)).toBe(true);
  });

  it('is hardly more than nothing for all who hear nothing, however many they are', async () => {
    const { pace, clock, settled } = makePace();
    expect(pace.admitNow(MIB)).toBe(false);
    const admitted = Array.from({ length: 8 }, () => pace.admit(MIB / 2));
    const count = async (): Promise<number> => {
      const all = await Promise.all(admitted.map(settled));
      return all.filter((isAdmitted) => isAdmitted).length;
    };
    expect(await count()).toBe(0);
    for (const expected of [2, 4, 6]) {
      clock.advance(250);
      expect(await count()).toBe(expected);
    }
  });

  it('keeps nobody for ever who is woken again and again for nothing', async () => {
    const { pace, clock, settled } = makePace();
    const admitted = pace.admit(MIB);
    for (let i = 0; i < 49; i++) {
      clock.advance(100);
      pace.wake();
      expect(await settled(admitted)).toBe(false);
    }
    clock.advance(100);
    pace.wake();
    expect(await settled(admitted)).toBe(true);
  });

  it('is theirs again as soon as the bounds are met', async () => {
    const { pace, excess, settled } = makePace();
    const admitted = pace.admit(MIB);
    expect(await settled(admitted)).toBe(false);
    excess.bytes = -1;
    pace.wake();
    expect(await settled(admitted)).toBe(true);
    expect(await settled(pace.admit(100 * MIB))).toBe(true);
  });

  it('is theirs for a burst, now and then', async () => {
    const { pace, clock, settled } = makePace(4 * MIB);
    for (let i = 0; i < 4; i++) expect(await settled(pace.admit(MIB))).toBe(true);
    expect(await settled(pace.admit(MIB))).toBe(false);
    clock.advance(BURST_REFILL_MS / 2);
    for (let i = 0; i < 2; i++) expect(await settled(pace.admit(MIB))).toBe(true);
    expect(await settled(pace.admit(MIB))).toBe(false);
  });

  it('is theirs for a burst of what may be dead now, not when an earlier one was', async () => {
    const { pace, clock, excess, settled } = makePace(8 * MIB);
    expect(await settled(pace.admit(8 * MIB))).toBe(true);
    excess.burstBytes = 2 * MIB;
    clock.advance(BURST_REFILL_MS / 2);
    expect(await settled(pace.admit(MIB))).toBe(true);
    expect(await settled(pace.admit(MIB))).toBe(false);
  });
});
