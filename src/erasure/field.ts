/**
 * Arithmetic in GF(2^8), the field of the codec: bytes as polynomials over GF(2), modulo x^8 + x^4
 * + x^3 + x^2 + 1 (0x11D). Addition is XOR. The generator is x (the byte 2), so that every byte but
 * zero is a power of it, and products are sums of logarithms.
 */

/** The reduction polynomial, its x^8 included. */
export const POLYNOMIAL = 0x11d;

/** Order of the multiplicative group: x^255 = 1. */
const ORDER = 255;

/** EXP[i] is x^i, twice over, so that a sum of two logarithms needs no reduction. */
const EXP = new Uint8Array(2 * ORDER);
/** LOG[EXP[i]] is i; LOG[0] has no meaning. */
const LOG = new Uint8Array(256);

for (let power = 0, value = 1; power < ORDER; power++) {
  EXP[power] = value;
  EXP[power + ORDER] = value;
  LOG[value] = power;
  value <<= 1;
  if (value > 0xff) value ^= POLYNOMIAL;
}

/** The product of two bytes. */
export function multiply(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : EXP[LOG[a]! + LOG[b]!]!;
}

/** The byte whose product with `a` is 1. Throws RangeError for zero, which has none. */
export function inverse(a: number): number {
  if (a === 0) throw new RangeError('zero has no inverse');
  return EXP[ORDER - LOG[a]!]!;
}

/** `base` to the power of `exponent` (a count, not an element); 0 to the power of 0 is 1. */
export function power(base: number, exponent: number): number {
  if (exponent === 0) return 1;
  return base === 0 ? 0 : EXP[(LOG[base]! * exponent) % ORDER]!;
}
