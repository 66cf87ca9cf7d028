/**
 * The codec in its plainest form, a byte at a time: what the kernel does, to be read and to be
 * tested against. Nothing else uses it.
 */
import { multiply } from './field.js';
import { parityMatrix, rebuildMatrix } from './matrix.js';

/** The parity units of data units of one length. */
export function encode(data: readonly Uint8Array[], parityUnits: number): Uint8Array[] {
  return parityMatrix(data.length, parityUnits).map((row) => combine(row, data));
}

/**
 * All units, data and parity, from those that are left: `units` has k + m entries, null for a lost
 * one. Throws RangeError when fewer than k are left.
 */
export function reconstruct(
  units: readonly (Uint8Array | null)[],
  dataUnits: number,
): Uint8Array[] {
  const present = units.map((unit) => unit !== null);
  const { sources, targets, rows } = rebuildMatrix(dataUnits, units.length - dataUnits, present);
  const left = sources.map((index) => units[index]!);
  return units.map((unit, index) => unit ?? combine(rows[targets.indexOf(index)]!, left));
}

/** The sum of coefficients[i] * units[i], bytewise. */
function combine(coefficients: Uint8Array, units: readonly Uint8Array[]): Uint8Array {
  const sum = new Uint8Array(units[0]!.length);
  units.forEach((unit, index) => {
    for (let at = 0; at < sum.length; at++) {
      sum[at]! ^= multiply(coefficients[index]!, unit[at]!);
    }
  });
  return sum;
}
