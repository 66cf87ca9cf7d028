import { describe, expect, it } from 'vitest';
import { inverse, multiply, POLYNOMIAL, power } from '../../../src/erasure/field.js';

/** The definition: long multiplication of polynomials, reduced at every step. */
function multiplySlowly(a: number, b: number): number {
  let sum = 0;
  for (let bit = 7; bit >= 0; bit--) {
    sum <<= 1;
    if (sum > 0xff) sum ^= POLYNOMIAL;
    if (b & (1 << bit)) sum ^= a;
  }
  return sum;
}

const BYTES = Array.from({ length: 256 }, (_, byte) => byte);

describe('GF(2^8)', () => {
  it('multiplies all pairs of bytes as the definition does', () => {
    for (const a of BYTES) {
      const products = BYTES.map((b) => multiply(a, b));
      expect(products).toEqual(BYTES.map((b) => multiplySlowly(a, b)));
    }
  });

  it('inverts every byte but zero', () => {
    for (const a of BYTES.slice(1)) expect(multiply(a, inverse(a))).toBe(1);
    expect(() => inverse(0)).toThrow(RangeError);
  });

  it('raises to powers as repeated multiplication does', () => {
    for (const base of BYTES) {
      let expected = 1;
      for (let exponent = 0; exponent < 40; exponent++) {
        expect(power(base, exponent)).toBe(expected);
        expected = multiplySlowly(expected, base);
      }
    }
  });
});
