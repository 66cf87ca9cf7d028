/** Sizes as people write them: 100G, 1.5T, 64KiB. Binary units throughout, exact to the byte. */
import { ChunkvolError } from '../base/errors.js';

const SIZE = /^(\d{1,16})(?:\.(\d{1,12}))?\s?(?:([KMGTP])(?:iB)?)?$/i;
const UNITS = 'KMGTP';
const UNIT_FACTOR = 1024;

/**
 * Bytes of a size such as "4096", "64K", "1.5G" or "1PiB". Throws ChunkvolError('usage'), naming
 * `option`, for anything else, fractions of a byte and more than 2^53 bytes.
 */
export function parseSize(text: string, option: string): number {
  const match = SIZE.exec(text.trim());
  if (!match) {
    throw usage(option, text, 'write a number with K, M, G, T or P (powers of 1024), as in 100G');
  }
  const [, whole, fraction = '', suffix = ''] = match;
  const exponent = suffix === '' ? 0 : UNITS.indexOf(suffix.toUpperCase()) + 1;
  // In integers, as 0.1 of anything is not exact in floating point.
  const scaled = BigInt(whole! + fraction) * BigInt(UNIT_FACTOR) ** BigInt(exponent);
  const divisor = 10n ** BigInt(fraction.length);
  if (scaled % divisor !== 0n) throw usage(option, text, 'that is not a whole number of bytes');
  const bytes = Number(scaled / divisor);
  if (!Number.isSafeInteger(bytes)) throw usage(option, text, 'that is too large');
  return bytes;
}

function usage(option: string, text: string, advice: string): ChunkvolError {
  return new ChunkvolError('usage', `${option} ${JSON.stringify(text)}: ${advice}`);
}

/** For people to read, with three digits: "512 B", "1.50 GiB", "15.0 MiB", "100 KiB". */
export function formatBytes(bytes: number): string {
  if (bytes < UNIT_FACTOR) return `${bytes} B`;
  let value = bytes;
  let unit = -1;
  // 1023.5 would be written as 1024 of a unit that has a next one.
  while (value >= UNIT_FACTOR - 0.5 && unit < UNITS.length - 1) {
    value /= UNIT_FACTOR;
    unit++;
  }
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${UNITS[unit]!}iB`;
}

/** For people to read: "12 s", "3 min 5 s", "2 h 10 min". */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** "1 file", "2 files". */
export function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
