/**
 * Which snapshots a policy keeps, as users of restic's `forget` know it:
 *
 * - A rule for hours (days, weeks, months, years) looks at the snapshots from the newest to the oldest
 *   and keeps the newest of each of the last N hours that have one at all. Periods are those of the
 *   calendar, in local time; weeks are those of ISO 8601, from Monday on.
 * - The last rule keeps the newest N.
 * - A rule that has kept fewer than N keeps the oldest snapshot as well, so that the history becomes
 *   no shorter than it has to be.
 * - `within` keeps everything that is younger than an age, counted back from the newest snapshot and
 *   not from now. A snapshot of the future (a clock was wrong) does not count as the newest.
 *
 * What any rule keeps is kept. Pure: the same arguments give the same choice.
 */

/** How many a rule keeps: 0 is no rule, Infinity keeps all. */
export interface PrunePolicy {
  readonly last: number;
  readonly hourly: number;
  readonly daily: number;
  readonly weekly: number;
  readonly monthly: number;
  readonly yearly: number;
  readonly within: Age | null;
}

export interface Age {
  readonly years: number;
  readonly months: number;
  readonly days: number;
  readonly hours: number;
}

/** Civil time in one time zone. */
export interface Calendar {
  /** Months are counted from 0. */
  fields(timeMs: number): { year: number; month: number; day: number; hour: number };
  /** Years, months and days of the calendar earlier, then hours of 60 minutes. */
  before(timeMs: number, age: Age): number;
}

export interface Choice<T> {
  /** The newest first, each with the rules that keep it. */
  readonly keep: readonly { readonly snapshot: T; readonly reasons: readonly string[] }[];
  /** The newest first. */
  readonly remove: readonly T[];
}

/** `snapshots` of the same moment count as made in the order of the list. */
export function choosePruned<T extends { readonly timeMs: number }>(
  snapshots: readonly T[],
  policy: PrunePolicy,
  nowMs: number,
  calendar: Calendar = localCalendar,
): Choice<T> {
  const newestFirst = [...snapshots].reverse().sort((a, b) => b.timeMs - a.timeMs);
  const youngMs = youngestOutside(newestFirst, policy.within, nowMs, calendar);
  const counters = RULES.map(({ rule }) => ({ left: policy[rule], period: '' }));
  const keep: { snapshot: T; reasons: string[] }[] = [];
  const remove: T[] = [];
  newestFirst.forEach((snapshot, index) => {
    const isOldest = index === newestFirst.length - 1;
    const reasons = snapshot.timeMs > youngMs ? ['within'] : [];
    RULES.forEach(({ rule, periodOf }, at) => {
      const counter = counters[at]!;
      const period = periodOf(calendar.fields(snapshot.timeMs), index);
      if (counter.left === 0 || (period === counter.period && !isOldest)) return;
      counter.left -= 1;
      counter.period = period;
      reasons.push(rule);
    });
    if (reasons.length > 0) keep.push({ snapshot, reasons });
    else remove.push(snapshot);
  });
  return { keep, remove };
}

/** Whether there is no rule at all: such a policy would keep nothing. */
export function isEmptyPolicy(policy: PrunePolicy): boolean {
  return policy.within === null && RULES.every(({ rule }) => policy[rule] === 0);
}

/** Everything after this time is young enough for `within`. */
function youngestOutside(
  newestFirst: readonly { readonly timeMs: number }[],
  within: Age | null,
  nowMs: number,
  calendar: Calendar,
): number {
  if (within === null) return Infinity;
  const newest = newestFirst.find(({ timeMs }) => timeMs < nowMs);
  return newest ? calendar.before(newest.timeMs, within) : -Infinity;
}

type Fields = ReturnType<Calendar['fields']>;

const RULES: readonly {
  readonly rule: Exclude<keyof PrunePolicy, 'within'>;
  /** Tells the period that a snapshot falls into from all others. */
  readonly periodOf: (fields: Fields, index: number) => string;
}[] = [
  { rule: 'last', periodOf: (_, index) => `${index}` },
  { rule: 'hourly', periodOf: ({ hour, ...date }) => `${dayOf(date)} ${hour}` },
  { rule: 'daily', periodOf: dayOf },
  { rule: 'weekly', periodOf: (fields) => `${mondayOf(fields)}` },
  { rule: 'monthly', periodOf: ({ year, month }) => `${year}-${month}` },
  { rule: 'yearly', periodOf: ({ year }) => `${year}` },
];

const DAY_MS = 86_400_000;

function dayOf({ year, month, day }: Omit<Fields, 'hour'>): string {
  return `${year}-${month}-${day}`;
}

/** The number of the Monday of a date's week, in days since 1970, whose first day was a Thursday. */
function mondayOf({ year, month, day }: Fields): number {
  const date = Date.UTC(year, month, day) / DAY_MS;
  return date - ((((date + 3) % 7) + 7) % 7);
}

const localCalendar: Calendar = {
  fields(timeMs) {
    const date = new Date(timeMs);
    return {
      year: date.getFullYear(),
      month: date.getMonth(),
      day: date.getDate(),
      hour: date.getHours(),
    };
  },
  before(timeMs, { years, months, days, hours }) {
    const date = new Date(timeMs);
    date.setFullYear(date.getFullYear() - years, date.getMonth() - months, date.getDate() - days);
    return date.getTime() - hours * 3_600_000;
  },
};
