/**
 * The code: which linear combinations of the data units the parity units are, and which
 * combinations of what is left the lost ones are.
 *
 * The coding matrix has one row a unit, data first: the Vandermonde matrix V[r][c] = r^c of k + m
 * rows and k columns, times the inverse of its top square. That makes the top square the identity
 * (data units are stored as they are) and leaves every k rows of it independent, as any k rows of V
 * are: any k units give back the others. It is the matrix of the `reed-solomon-erasure` library,
 * and part of the volume's format: it can never change.
 */
import { inverse, multiply, power } from './field.js';

/** Rows of equal length, of elements of the field. */
export type Matrix = readonly Uint8Array[];

export const MAX_DATA_UNITS = 32;
export const MAX_PARITY_UNITS = 8;

/** Throws RangeError unless 1 <= dataUnits <= 32 and 0 <= parityUnits <= 8, both whole numbers. */
export function checkGeometry(dataUnits: number, parityUnits: number): void {
  if (!Number.isInteger(dataUnits) || dataUnits < 1 || dataUnits > MAX_DATA_UNITS) {
    throw new RangeError(`dataUnits must be 1 to ${MAX_DATA_UNITS}, not ${dataUnits}`);
  }
  if (!Number.isInteger(parityUnits) || parityUnits < 0 || parityUnits > MAX_PARITY_UNITS) {
    throw new RangeError(`parityUnits must be 0 to ${MAX_PARITY_UNITS}, not ${parityUnits}`);
  }
}

/** The parity rows of the coding matrix: parity unit i is the sum of row[i][j] * data unit j. */
export function parityMatrix(dataUnits: number, parityUnits: number): Matrix {
  checkGeometry(dataUnits, parityUnits);
  const top = vandermonde(0, dataUnits, dataUnits);
  const bottom = vandermonde(dataUnits, parityUnits, dataUnits);
  return product(bottom, invert(top));
}

/** How to compute the lost units: unit targets[i] is the sum of rows[i][j] * unit sources[j]. */
export interface Rebuild {
  /** The k units read: the first of those present. */
  readonly sources: readonly number[];
  /** The units that are not present, data and parity. */
  readonly targets: readonly number[];
  readonly rows: Matrix;
}

/**
 * The rebuild of every unit that is not `present` (one entry a unit, k + m in all) from k that are.
 * Throws RangeError when fewer are.
 */
export function rebuildMatrix(
  dataUnits: number,
  parityUnits: number,
  present: readonly boolean[],
): Rebuild {
  const units = dataUnits + parityUnits;
  if (present.length !== units) {
    throw new RangeError(`present must have ${units} entries, not ${present.length}`);
  }
  const indices = [...present.keys()];
  const sources = indices.filter((index) => present[index]).slice(0, dataUnits);
  const targets = indices.filter((index) => !present[index]);
  if (sources.length < dataUnits) {
    throw new RangeError(`only ${sources.length} units are present, ${dataUnits} are needed`);
  }
  const coding = [...identity(dataUnits), ...parityMatrix(dataUnits, parityUnits)];
  // sources = A * data, so data = inverse(A) * sources, and any unit is its row times that.
  const dataFromSources = invert(sources.map((index) => coding[index]!));
  const rows = product(
    targets.map((index) => coding[index]!),
    dataFromSources,
  );
  return { sources, targets, rows };
}

/** The inverse of a square matrix, by Gauss-Jordan elimination. Throws RangeError when singular. */
export function invert(matrix: Matrix): Matrix {
  const size = matrix.length;
  const left = matrix.map((row) => row.slice());
  const right = identity(size);
  for (let column = 0; column < size; column++) {
    const pivot = left.findIndex((row, index) => index >= column && row[column] !== 0);
    if (pivot < 0) throw new RangeError('the matrix is singular');
    swap(left, column, pivot);
    swap(right, column, pivot);
    const factor = inverse(left[column]![column]!);
    scale(left[column]!, factor);
    scale(right[column]!, factor);
    for (let row = 0; row < size; row++) {
      const excess = left[row]![column]!;
      if (row === column || excess === 0) continue;
      addScaled(left[row]!, left[column]!, excess);
      addScaled(right[row]!, right[column]!, excess);
    }
  }
  return right;
}

/** The matrix product a * b. */
function product(a: Matrix, b: Matrix): Matrix {
  return a.map((row) => {
    const sum = new Uint8Array(b[0]!.length);
    row.forEach((factor, index) => {
      addScaled(sum, b[index]!, factor);
    });
    return sum;
  });
}

/**
 * Rows firstRow, firstRow + 1, ... of the Vandermonde matrix: powers 0, 1, ... of the row's number.
 */
function vandermonde(firstRow: number, rows: number, columns: number): Matrix {
  return Array.from({ length: rows }, (_, row) =>
    Uint8Array.from({ length: columns }, (_, column) => power(firstRow + row, column)),
  );
}

function identity(size: number): Uint8Array[] {
  return Array.from({ length: size }, (_, row) => {
    const elements = new Uint8Array(size);
    elements[row] = 1;
    return elements;
  });
}

function swap(rows: Uint8Array[], a: number, b: number): void {
  [rows[a], rows[b]] = [rows[b]!, rows[a]!];
}

function scale(row: Uint8Array, factor: number): void {
  row.forEach((value, index) => {
    row[index] = multiply(value, factor);
  });
}

/** into += factor * row, elementwise. */
function addScaled(into: Uint8Array, row: Uint8Array, factor: number): void {
  row.forEach((value, index) => {
    into[index]! ^= multiply(value, factor);
  });
}
