import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Intake } from '../../../src/nbd/intake.js';

const nothing = (): void => undefined;

describe('Intake', () => {
  it('cuts a stream the same way however it arrives', () => {
    const pieces = fc.array(fc.record({ bytes: fc.nat(20), skipped: fc.boolean() }), {
      minLength: 1,
    });
    fc.assert(
      fc.property(pieces, fc.array(fc.integer({ min: 1, max: 30 })), (goals, cuts) => {
        const total = goals.reduce((sum, goal) => sum + goal.bytes, 0);
        const stream = Buffer.from(Array.from({ length: total }, (_, at) => at & 0xff));
        const intake = new Intake(nothing);
        const filled: Buffer[] = [];
        const next = (index: number): void => {
          const goal = goals[index];
          if (!goal) return;
          if (goal.skipped) {
            intake.skip(goal.bytes, () => {
              next(index + 1);
            });
            return;
          }
          const target = Buffer.alloc(goal.bytes);
          intake.fill(target, () => {
            filled.push(target);
            next(index + 1);
          });
        };
        next(0);
        let at = 0;
        for (const cut of [...cuts, total]) {
          if (at < total) intake.push(stream.subarray(at, Math.min(total, at + cut)));
          at += cut;
        }
        let start = 0;
        const expected = goals.flatMap((goal) => {
          start += goal.bytes;
          return goal.skipped ? [] : [stream.subarray(start - goal.bytes, start)];
        });
        expect(filled).toEqual(expected);
        expect(intake.idle).toBe(true);
      }),
    );
  });

  it('takes what the source has put into its place, and what it lends for a moment', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 90_000 }), { minLength: 1, maxLength: 8 });
    const arrivals = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 8 });
    let inPlace = 0;
    fc.assert(
      fc.property(sizes, arrivals, (goals, arrived) => {
        const total = goals.reduce((sum, bytes) => sum + bytes, 0);
        const stream = Buffer.from(Array.from({ length: total }, (_, at) => (at * 7) & 0xff));
        const intake = new Intake(nothing);
        const filled: Buffer[] = [];
        const next = (): void => {
          const bytes = goals[filled.length];
          if (bytes === undefined) return;
          const target = Buffer.alloc(bytes);
          intake.fill(target, () => {
            filled.push(target);
            // Now and then nobody asks for more until later.
            if (filled.length % 3 !== 0) next();
          });
        };
        next();
        const lent = Buffer.alloc(70_000);
        for (let at = 0, i = 0; at < total; i++) {
          if (intake.idle) next();
          const space = intake.space() ?? lent;
          const bytes = Math.min(arrived[i % arrived.length]!, space.length, total - at);
          stream.copy(space, 0, at, at + bytes);
          at += bytes;
          if (space === lent) {
            intake.push(lent.subarray(0, bytes));
            lent.fill(0xff);
          } else {
            intake.filled(bytes);
            inPlace += bytes;
          }
        }
        while (filled.length < goals.length) next();
        expect(Buffer.compare(Buffer.concat(filled), stream)).toBe(0);
      }),
    );
    expect(inPlace).toBeGreaterThan(0);
  });

  it('does not count what comes to its place when the goal is forgotten', () => {
    const intake = new Intake(nothing);
    intake.fill(Buffer.alloc(100_000), nothing);
    expect(intake.space()?.length).toBe(100_000);
    intake.stop();
    const other = Buffer.alloc(3);
    intake.fill(other, nothing);
    intake.filled(3);
    expect(intake.idle).toBe(false);
    intake.push(Buffer.from([1, 2, 3]));
    expect(other).toEqual(Buffer.from([1, 2, 3]));
    expect(intake.space()).toBeNull();
  });

  it('consumes nothing without a goal, and asks for more only when it needs more', () => {
    let hungry = 0;
    const intake = new Intake(() => (hungry += 1));
    const first = Buffer.alloc(2);
    intake.fill(first, nothing);
    expect(hungry).toBe(1);
    intake.push(Buffer.from([1, 2, 3, 4, 5]));
    expect(first).toEqual(Buffer.from([1, 2]));
    expect(intake.idle).toBe(true);
    const second = Buffer.alloc(3);
    intake.fill(second, nothing);
    expect(second).toEqual(Buffer.from([3, 4, 5]));
    expect(hungry).toBe(1);
    intake.fill(first, nothing);
    expect(hungry).toBe(2);
  });

  it('works through very many small pieces of one chunk without recursion', () => {
    const intake = new Intake(nothing);
    const one = Buffer.alloc(1);
    let count = 0;
    const next = (): void => {
      count += 1;
      intake.fill(one, next);
    };
    intake.fill(one, next);
    intake.push(Buffer.alloc(200_000));
    expect(count).toBe(200_000);
  });

  it('forgets a goal that is stopped', () => {
    const intake = new Intake(nothing);
    intake.fill(Buffer.alloc(4), () => {
      throw new Error('must not be called');
    });
    intake.push(Buffer.alloc(2));
    intake.stop();
    intake.push(Buffer.alloc(8));
    expect(intake.idle).toBe(true);
  });
});
