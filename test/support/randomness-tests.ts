/**
 * Does it pass for random bytes? The statistics of the program `ent`, each as a distance from what
 * random bytes give, in standard deviations: a test allows what one sample in many millions exceeds.
 */
import { deflateRawSync } from 'node:zlib';

export interface RandomnessReport {
  readonly bytes: number;
  /** Chi-square of the byte counts (255 degrees of freedom), normalised. */
  readonly chiSquareDeviations: number;
  /** Mean of the bytes against 127.5. */
  readonly meanDeviations: number;
  /** Correlation of each byte with the next. */
  readonly serialDeviations: number;
  /** Pairs of points in the unit square, inside or outside the circle. */
  readonly monteCarloDeviations: number;
  /** Bits that are one. */
  readonly bitDeviations: number;
  /** Compressed length by original length. */
  readonly compressed: number;
}

export function testRandomness(bytes: Uint8Array): RandomnessReport {
  const n = bytes.length;
  const counts = new Array<number>(256).fill(0);
  let sum = 0;
  let ones = 0;
  for (const byte of bytes) {
    counts[byte]!++;
    sum += byte;
    ones += popCount(byte);
  }
  const expected = n / 256;
  const chiSquare = counts.reduce((total, count) => total + (count - expected) ** 2 / expected, 0);
  return {
    bytes: n,
    chiSquareDeviations: (chiSquare - 255) / Math.sqrt(2 * 255),
    meanDeviations: (sum / n - 127.5) / (73.9 / Math.sqrt(n)),
    serialDeviations: serialCorrelation(bytes) * Math.sqrt(n),
    monteCarloDeviations: monteCarlo(bytes),
    bitDeviations: (ones - 4 * n) / Math.sqrt(2 * n),
    compressed: deflateRawSync(bytes, { level: 9 }).length / n,
  };
}

/** The first statistic that is further out than `limit` standard deviations, as text; null when none is. */
export function notRandom(bytes: Uint8Array, limit = 6): string | null {
  const report = testRandomness(bytes);
  for (const [name, value] of Object.entries(report)) {
    if (!name.endsWith('Deviations')) continue;
    if (Math.abs(value as number) > limit)
      return `${name} ${String(value)} of ${bytes.length} bytes`;
  }
  return report.compressed < 1 ? `compresses to ${report.compressed}` : null;
}

function serialCorrelation(bytes: Uint8Array): number {
  const n = bytes.length;
  const mean = 127.5;
  const variance = (256 ** 2 - 1) / 12;
  let sum = 0;
  for (let i = 1; i < n; i++) sum += (bytes[i]! - mean) * (bytes[i - 1]! - mean);
  return sum / (n * variance);
}

function monteCarlo(bytes: Uint8Array): number {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const points = Math.floor(bytes.length / 6);
  let inside = 0;
  for (let i = 0; i < points; i++) {
    const x = view.readUIntBE(i * 6, 3) / 2 ** 24;
    const y = view.readUIntBE(i * 6 + 3, 3) / 2 ** 24;
    if (x * x + y * y <= 1) inside++;
  }
  const p = Math.PI / 4;
  return (inside - points * p) / Math.sqrt(points * p * (1 - p));
}

function popCount(byte: number): number {
  let count = 0;
  for (let rest = byte; rest; rest &= rest - 1) count++;
  return count;
}
