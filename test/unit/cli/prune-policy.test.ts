/** What a pruning policy keeps: examples that users of restic's forget would expect, and laws. */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  choosePruned,
  isEmptyPolicy,
  type Age,
  type PrunePolicy,
} from '../../../src/cli/prune-policy.js';

const NONE: PrunePolicy = {
  last: 0,
  hourly: 0,
  daily: 0,
  weekly: 0,
  monthly: 0,
  yearly: 0,
  within: null,
};
const NOW = '2026-11-25T12:00:00';
const COUNTED = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;

/** Rules go by local time. The tests of this file have a process of their own, and one zone. */
const ZONE = 'Europe/Berlin';
process.env.TZ = ZONE;

afterEach(() => {
  process.env.TZ = ZONE;
});

interface Taken {
  readonly name: string;
  readonly timeMs: number;
}

/** Snapshots named after their local times, in order of time. */
function taken(...times: string[]): Taken[] {
  return times.map((name) => ({ name, timeMs: new Date(name).getTime() }));
}

/** Names of what is kept, the newest first. */
function kept(all: readonly Taken[], policy: Partial<PrunePolicy>, now = NOW): string[] {
  const { keep } = choosePruned(all, { ...NONE, ...policy }, new Date(now).getTime());
  return keep.map(({ snapshot }) => snapshot.name);
}

function age(part: Partial<Age>): Age {
  return { years: 0, months: 0, days: 0, hours: 0, ...part };
}

describe('a rule', () => {
  const week = taken(
    '2026-11-15T08:00',
    '2026-11-16T08:00',
    '2026-11-20T08:00',
    '2026-11-22T23:59',
    '2026-11-23T00:00',
    '2026-11-23T20:00',
    '2026-11-25T09:00',
    '2026-11-25T09:59',
    '2026-11-25T10:00',
  );

  it('keeps the newest', () => {
    expect(kept(week, { last: 2 })).toEqual(['2026-11-25T10:00', '2026-11-25T09:59']);
  });

  it('for hours keeps the newest of each hour of the clock', () => {
    expect(kept(week, { hourly: 3 })).toEqual([
      '2026-11-25T10:00',
      '2026-11-25T09:59',
      '2026-11-23T20:00',
    ]);
  });

  it('for days counts days that have a snapshot, not days that have passed', () => {
    expect(kept(week, { daily: 3 })).toEqual([
      '2026-11-25T10:00',
      '2026-11-23T20:00',
      '2026-11-22T23:59',
    ]);
  });

  it('for weeks begins them with Monday', () => {
    expect(kept(week, { weekly: 2 })).toEqual(['2026-11-25T10:00', '2026-11-22T23:59']);
  });

  it('for weeks goes on over the turn of a year', () => {
    const turn = taken(
      '2026-12-27T12:00',
      '2026-12-28T12:00',
      '2026-12-31T12:00',
      '2027-01-03T12:00',
    );
    expect(kept(turn, { weekly: 1 }, '2027-02-01')).toEqual(['2027-01-03T12:00']);
    expect(kept(turn, { weekly: 2 }, '2027-02-01')).toEqual([
      '2027-01-03T12:00',
      '2026-12-27T12:00',
    ]);
  });

  it('for months and years goes by the calendar', () => {
    const years = taken(
      '2024-12-31T23:00',
      '2025-01-01T00:30',
      '2025-06-30T23:59',
      '2025-07-01T00:00',
    );
    expect(kept(years, { monthly: 2 })).toEqual(['2025-07-01T00:00', '2025-06-30T23:59']);
    expect(kept(years, { yearly: 2 })).toEqual(['2025-07-01T00:00', '2024-12-31T23:00']);
  });

  it('that has not found enough keeps the oldest as well', () => {
    const days = taken('2026-11-25T08:00', '2026-11-25T09:00', '2026-11-25T10:00');
    expect(kept(days, { daily: 1 })).toEqual(['2026-11-25T10:00']);
    expect(kept(days, { daily: 2 })).toEqual(['2026-11-25T10:00', '2026-11-25T08:00']);
  });

  it('keeps one of each hour, day, ... when its number is unlimited', () => {
    expect(kept(week, { last: Infinity })).toHaveLength(week.length);
    expect(kept(week, { weekly: Infinity })).toEqual([
      '2026-11-25T10:00',
      '2026-11-22T23:59',
      '2026-11-15T08:00',
    ]);
  });

  it('goes by local time', () => {
    const night = [
      { name: 'sunday', timeMs: Date.UTC(2026, 10, 22, 22, 30) },
      { name: 'monday', timeMs: Date.UTC(2026, 10, 22, 23, 30) },
    ];
    expect(kept(night, { daily: 1 })).toEqual(['monday']);
    expect(kept(night, { weekly: 2 })).toEqual(['monday', 'sunday']);
    process.env.TZ = 'UTC';
    expect(kept([...night, ...taken('2026-11-21T00:00')], { daily: 1 })).toEqual(['monday']);
    expect(kept([...taken('2026-11-21T00:00'), ...night], { daily: 2 })).toEqual([
      'monday',
      '2026-11-21T00:00',
    ]);
  });

  it('takes the hour that comes twice when summer time ends for one', () => {
    const times = [0, 1, 2].map((hour) => Date.UTC(2026, 9, 25, hour, 30));
    const night = times.map((timeMs, at) => ({ name: `${at}`, timeMs }));
    const all = [{ name: 'older', timeMs: 0 }, ...night];
    expect(kept(all, { hourly: 3 })).toEqual(['2', '1', 'older']);
  });
});

describe('keep-within', () => {
  it('counts from the newest snapshot, not from now', () => {
    const old = taken(
      '2026-01-01T00:00',
      '2026-01-10T00:00',
      '2026-01-11T00:00',
      '2026-01-20T00:00',
    );
    expect(kept(old, { within: age({ days: 10 }) })).toEqual([
      '2026-01-20T00:00',
      '2026-01-11T00:00',
    ]);
  });

  it('leaves out what is exactly as old', () => {
    const old = taken('2026-01-10T00:00', '2026-01-20T00:00');
    expect(kept(old, { within: age({ days: 10 }) })).toEqual(['2026-01-20T00:00']);
    expect(kept(old, { within: age({ days: 10, hours: 1 }) })).toHaveLength(2);
  });

  it('counts days and months of the calendar, hours of the clock', () => {
    const spring = taken('2026-03-28T12:30', '2026-03-28T13:30', '2026-03-29T13:00');
    expect(kept(spring, { within: age({ days: 1 }) })).toEqual([
      '2026-03-29T13:00',
      '2026-03-28T13:30',
    ]);
    // The night was an hour short.
    expect(kept(spring, { within: age({ hours: 24 }) })).toHaveLength(3);
    const months = taken('2025-02-28T00:00', '2025-03-01T12:00', '2025-03-31T13:00');
    // One month before March 31 there is no day: that is March 3, as restic has it.
    expect(kept(months, { within: age({ months: 1 }) })).toEqual(['2025-03-31T13:00']);
    expect(kept(months, { within: age({ years: 1 }) })).toHaveLength(3);
  });

  it('does not count from a snapshot of the future, and keeps that', () => {
    const all = taken('2026-11-01T00:00', '2026-11-20T00:00', '2036-01-01T00:00');
    expect(kept(all, { within: age({ days: 7 }) })).toEqual([
      '2036-01-01T00:00',
      '2026-11-20T00:00',
    ]);
    expect(
      kept(taken('2036-01-01T00:00', '2037-01-01T00:00'), { within: age({ hours: 1 }) }),
    ).toEqual(['2037-01-01T00:00', '2036-01-01T00:00']);
  });

  it('reaches back as far as numbers go', () => {
    const all = taken('2026-11-01T00:00', '2026-11-20T00:00');
    const most = { years: 99_999, months: 99_999, days: 99_999, hours: 99_999 };
    expect(kept(all, { within: most })).toHaveLength(2);
  });
});

describe('a policy', () => {
  it('keeps what any of its rules keeps, and says which', () => {
    const all = taken(
      '2026-11-01T09:00',
      '2026-11-24T09:00',
      '2026-11-25T09:00',
      '2026-11-25T10:00',
    );
    const policy = { ...NONE, last: 1, daily: 2, within: age({ hours: 2 }) };
    const { keep, remove } = choosePruned(all, policy, new Date(NOW).getTime());
    expect(keep.map(({ snapshot, reasons }) => [snapshot.name, ...reasons])).toEqual([
      ['2026-11-25T10:00', 'within', 'last', 'daily'],
      ['2026-11-25T09:00', 'within'],
      ['2026-11-24T09:00', 'daily'],
    ]);
    expect(remove.map(({ name }) => name)).toEqual(['2026-11-01T09:00']);
  });

  it('takes snapshots of one moment in the order of the list', () => {
    const twins = [1, 2, 3].map((number) => ({ name: `${number}`, timeMs: 5 }));
    expect(kept(twins, { last: 2 })).toEqual(['3', '2']);
  });

  it('is content with no snapshots', () => {
    expect(choosePruned([], { ...NONE, last: 3 }, 0)).toEqual({ keep: [], remove: [] });
  });

  it('is empty without any rule', () => {
    expect(isEmptyPolicy(NONE)).toBe(true);
    for (const rule of COUNTED) expect(isEmptyPolicy({ ...NONE, [rule]: 1 })).toBe(false);
    expect(isEmptyPolicy({ ...NONE, within: age({ hours: 1 }) })).toBe(false);
  });
});

describe('any policy on any snapshots', () => {
  const HOUR_MS = 3_600_000;
  /** Some years, so that all periods come up, in steps that often fall into one of them. */
  const someTaken = fc
    .array(fc.integer({ min: 0, max: 4 * 365 * 24 * 4 }), { maxLength: 60 })
    .map((quarters) =>
      quarters
        .map((quarter) => Date.UTC(2022, 10, 25) + (quarter * HOUR_MS) / 4)
        .sort((a, b) => a - b)
        .map((timeMs, at) => ({ name: `${at}`, timeMs })),
    );
  const count = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 8 }), fc.constant(Infinity));
  const somePolicy = fc.record({
    last: count,
    hourly: count,
    daily: count,
    weekly: count,
    monthly: count,
    yearly: count,
    within: fc.option(
      fc.record({
        years: fc.nat(2),
        months: fc.nat(14),
        days: fc.nat(40),
        hours: fc.integer({ min: 1, max: 50 }),
      }),
    ),
  });

  it('keeps or removes each, the newest first', () => {
    fc.assert(
      fc.property(someTaken, somePolicy, (all, policy) => {
        const { keep, remove } = choosePruned(all, policy, new Date(NOW).getTime());
        const parts = [keep.map(({ snapshot }) => snapshot), [...remove]];
        for (const part of parts) {
          expect(part).toEqual([...part].sort((a, b) => Number(b.name) - Number(a.name)));
        }
        const names = parts.flat().map(({ name }) => Number(name));
        expect(names.sort((a, b) => a - b)).toEqual(all.map((_, at) => at));
      }),
    );
  });

  it('keeps the newest, unless it has no rule', () => {
    fc.assert(
      fc.property(someTaken, somePolicy, (all, policy) => {
        fc.pre(all.length > 0 && !isEmptyPolicy(policy));
        expect(kept(all, policy)).toContain(all.at(-1)!.name);
      }),
    );
  });

  it('keeps what its rules keep one by one, and nothing else', () => {
    fc.assert(
      fc.property(someTaken, somePolicy, (all, policy) => {
        const alone = [...COUNTED, 'within' as const].flatMap((rule) =>
          kept(all, { [rule]: policy[rule] }),
        );
        expect(new Set(kept(all, policy))).toEqual(new Set(alone));
      }),
    );
  });

  it('keeps of each period what a slow reading of the rule does', () => {
    const periodOf: Record<string, (date: Date) => string> = {
      hourly: (date) => `${date.toDateString()} ${date.getHours()}`,
      daily: (date) => date.toDateString(),
      weekly: (date) => {
        const monday = new Date(date);
        while (monday.getDay() !== 1) monday.setDate(monday.getDate() - 1);
        return monday.toDateString();
      },
      monthly: (date) => `${date.getFullYear()} ${date.getMonth()}`,
      yearly: (date) => `${date.getFullYear()}`,
    };
    const rules = fc.constantFrom(...Object.keys(periodOf));
    fc.assert(
      fc.property(someTaken, rules, fc.integer({ min: 1, max: 12 }), (all, rule, most) => {
        const newestOf = new Map<string, string>();
        for (const { name, timeMs } of all) newestOf.set(periodOf[rule]!(new Date(timeMs)), name);
        const expected = [...newestOf.values()].slice(-most);
        if (expected.length < most && all.length > 0) expected.unshift(all[0]!.name);
        expect(kept(all, { [rule]: most })).toEqual([...new Set(expected)].reverse());
      }),
    );
  });
});
