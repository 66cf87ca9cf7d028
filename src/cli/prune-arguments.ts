/** What the options of `snapshot prune` say, as restic writes it: "7", "unlimited", "1y5m7d2h". */
import { ChunkvolError } from '../base/errors.js';
import type { Age } from './prune-policy.js';

/** No more digits, so that every age is one that a calendar can count back. */
const COUNT = /^\d{1,5}$/;
const AGE_PART = /(\d{1,5})([ymdh])/g;
const UNITS = { y: 'years', m: 'months', d: 'days', h: 'hours' } as const;

/** 0 where nothing is said. Throws ChunkvolError('usage'), naming `option`. */
export function parseCount(text: string | undefined, option: string): number {
  if (text === undefined) return 0;
  if (text === 'unlimited') return Infinity;
  if (COUNT.test(text)) return Number(text);
  throw usage(option, text, 'write a number of up to five digits, or "unlimited"');
}

/** null where nothing, or no time at all, is said. Throws ChunkvolError('usage'), naming `option`. */
export function parseAge(text: string | undefined, option: string): Age | null {
  if (text === undefined) return null;
  const parts = [...text.matchAll(AGE_PART)];
  const units = parts.map(([, , unit]) => unit);
  const isWhole = parts.length > 0 && parts.map(([part]) => part).join('') === text;
  if (!isWhole || new Set(units).size < units.length) {
    throw usage(option, text, 'write years, months, days and hours, as in 30d or 1y5m7d2h');
  }
  const age = { years: 0, months: 0, days: 0, hours: 0 };
  for (const [, number, unit] of parts) age[UNITS[unit as keyof typeof UNITS]] = Number(number);
  return Object.values(age).some((number) => number > 0) ? age : null;
}

function usage(option: string, text: string, advice: string): ChunkvolError {
  return new ChunkvolError('usage', `${option} ${JSON.stringify(text)}: ${advice}`);
}
