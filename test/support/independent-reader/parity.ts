/** Section 11 of docs/format.md: Reed-Solomon, a byte at a time. */
import type { Geometry } from './geometry.js';

const EXP: number[] = [];
const LOG: number[] = [];
for (let power = 0, value = 1; power < 255; power++) {
  EXP[power] = EXP[power + 255] = value;
  LOG[value] = power;
  value = value & 0x80 ? (value << 1) ^ 0x11d : value << 1;
}
const multiply = (a: number, b: number): number => (a && b ? EXP[LOG[a]! + LOG[b]!]! : 0);
const reciprocal = (a: number): number => EXP[255 - LOG[a]!]!;

type Matrix = number[][];

function timesMatrix(a: Matrix, b: Matrix): Matrix {
  return a.map((row) =>
    b[0]!.map((_, column) =>
      row.reduce((sum, factor, i) => sum ^ multiply(factor, b[i]![column]!), 0),
    ),
  );
}

/** Gauss-Jordan on the matrix with the identity beside it. */
function inverse(matrix: Matrix): Matrix {
  const size = matrix.length;
  const work = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let column = 0; column < size; column++) {
    const pivot = work.findIndex((row, i) => i >= column && row[column] !== 0);
    [work[column], work[pivot]] = [work[pivot]!, work[column]!];
    const scale = reciprocal(work[column]![column]!);
    work[column] = work[column]!.map((value) => multiply(value, scale));
    for (let row = 0; row < size; row++) {
      const factor = work[row]![column]!;
      if (row === column || factor === 0) continue;
      work[row] = work[row]!.map((value, i) => value ^ multiply(factor, work[column]![i]!));
    }
  }
  return work.map((row) => row.slice(size));
}

export function codingMatrix(k: number, m: number): Matrix {
  const power = (base: number, exponent: number): number =>
    exponent === 0 ? 1 : multiply(base, power(base, exponent - 1));
  const vandermonde = Array.from({ length: k + m }, (_, r) =>
    Array.from({ length: k }, (_, c) => power(r, c)),
  );
  return timesMatrix(vandermonde, inverse(vandermonde.slice(0, k)));
}

/** The bytes of member `target` from those of k others, parity decrypted, all of one length. */
export function rebuild(geometry: Geometry, target: number, others: Map<number, Buffer>): Buffer {
  const matrix = codingMatrix(geometry.data, geometry.parity);
  const known = inverse([...others.keys()].map((member) => matrix[member]!));
  const [factors] = timesMatrix([matrix[target]!], known);
  const units = [...others.values()];
  const result = Buffer.alloc(units[0]!.length);
  for (const [i, unit] of units.entries()) {
    for (let at = 0; at < result.length; at++) result[at]! ^= multiply(factors![i]!, unit[at]!);
  }
  return result;
}

export function* choose(items: readonly number[], count: number): Generator<number[]> {
  if (count === 0) yield [];
  else
    for (const [i, item] of items.entries())
      for (const rest of choose(items.slice(i + 1), count - 1)) yield [item, ...rest];
}

export function unitCounter(member: number, row: number): Buffer {
  const counter = Buffer.alloc(16);
  counter.writeUInt16BE(member, 0);
  counter.writeUInt32BE(row, 2);
  return counter;
}
