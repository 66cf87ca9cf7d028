/**
 * The library that defines the code, behind the calls that the tests need. It recomputes lost data
 * units only and stops at m = 0: lost parity is encoded anew, and m = 0 never reaches it. Its
 * `reconstruct` also leaves its memory damaged (one call with all data present, and the next
 * fails), so every such call has an instance to itself.
 */
import { ReedSolomonErasure } from '@subspace/reed-solomon-erasure.wasm';

const library = await ReedSolomonErasure.fromCurrentDirectory();

/** The parity units of data units of one length. */
export function oracleEncode(data: readonly Uint8Array[], parityUnits: number): Uint8Array[] {
  if (parityUnits === 0) return [];
  const parity = Array.from({ length: parityUnits }, () => new Uint8Array(data[0]!.length));
  const row = join([...data, ...parity]);
  check(library.encode(row, data.length, parityUnits));
  return split(row, data.length + parityUnits).slice(data.length);
}

/** All units, data and parity, from those that are left; null stands for a lost one. */
export async function oracleReconstruct(
  units: readonly (Uint8Array | null)[],
  dataUnits: number,
): Promise<Uint8Array[]> {
  const parityUnits = units.length - dataUnits;
  const lost = new Uint8Array(units.find((unit) => unit !== null)!.length);
  const row = join(units.map((unit) => unit ?? lost));
  if (parityUnits > 0) {
    const present = units.map((unit) => unit !== null);
    const unspoilt = await ReedSolomonErasure.fromCurrentDirectory();
    check(unspoilt.reconstruct(row, dataUnits, parityUnits, present));
  }
  const data = split(row, units.length).slice(0, dataUnits);
  return [...data, ...oracleEncode(data, parityUnits)];
}

function check(result: number): void {
  if (result !== ReedSolomonErasure.RESULT_OK) throw new Error(`the library says ${result}`);
}

function join(units: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(units));
}

function split(row: Uint8Array, units: number): Uint8Array[] {
  const unitBytes = row.length / units;
  return Array.from({ length: units }, (_, i) => row.slice(i * unitBytes, (i + 1) * unitBytes));
}
