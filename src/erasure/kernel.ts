/**
 * Runs the SIMD kernel (wasm/reed-solomon.ts) on units in a memory of its own.
 *
 * Layout of the memory, which is allocated once and never grows, so that views of it stay valid, and
 * which another thread may be given to compute in (one at a time runs the kernel on it):
 *
 *   0       addresses of the sources, u32 each
 *   128     addresses of the targets, u32 each
 *   256     multiplication tables, 32 bytes a coefficient, in the order [source][target]
 *   65536   the caller's bytes
 *
 * The code is compiled once per process, and run often enough for V8 to replace its first, four
 * times slower translation before anybody waits for it.
 */
// eslint-disable-next-line @typescript-eslint/no-restricted-imports -- program code, no volume
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { alignUp } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import { multiply } from './field.js';
import { MAX_DATA_UNITS, MAX_PARITY_UNITS, type Matrix } from './matrix.js';
import { WASM_PAGE_BYTES, webAssembly, type WasmMemory, type WasmModule } from './webassembly.js';

const SOURCES_OFFSET = 0;
const TARGETS_OFFSET = SOURCES_OFFSET + 4 * MAX_DATA_UNITS;
const TABLES_OFFSET = TARGETS_OFFSET + 4 * MAX_PARITY_UNITS;
/** The tables of one coefficient c: c * n for the sixteen low nibbles n, then c * (n << 4). */
const TABLE_BYTES = 32;
const HEAD_BYTES = TABLES_OFFSET + MAX_DATA_UNITS * MAX_PARITY_UNITS * TABLE_BYTES;
const BYTES_OFFSET = Math.ceil(HEAD_BYTES / WASM_PAGE_BYTES) * WASM_PAGE_BYTES;

/** Ranges start and end at multiples of this, in whole words of the kernel's shortest step. */
export const RANGE_UNIT_BYTES = 8;

const KERNEL_FILE = new URL('../../wasm/build/reed-solomon.wasm', import.meta.url);

/** wasm/reed-solomon.ts has the meaning of the parameters. */
type Multiply = (
  sources: number,
  sourceCount: number,
  targets: number,
  targetCount: number,
  tables: number,
  from: number,
  to: number,
  accumulate: boolean,
) => void;

/** A matrix product made ready for one kernel: see Kernel.prepare. */
export interface Product {
  readonly sourceAddresses: Uint32Array;
  readonly targetAddresses: Uint32Array;
  readonly tables: Uint8Array;
}

/** A kernel's code and memory, in a form that can be sent to another thread. */
export interface SharedKernel {
  readonly module: WasmModule;
  readonly memory: WasmMemory;
  /** The caller's bytes. */
  readonly length: number;
}

export class Kernel {
  /** The bytes that units are kept in; all positions are offsets in it. */
  readonly bytes: Uint8Array;
  private readonly multiply: Multiply;
  /** What the memory's first page holds. */
  private loaded: Product | undefined;

  constructor(readonly shared: SharedKernel) {
    const { module, memory, length } = shared;
    this.bytes = new Uint8Array(memory.buffer, BYTES_OFFSET, length);
    const instance = new webAssembly.Instance(module, { env: { memory } });
    this.multiply = instance.exports['multiply'] as Multiply;
  }

  /** A kernel with `length` bytes, all zero. Throws ChunkvolError when there is no such memory. */
  static async create(length: number): Promise<Kernel> {
    compiled ??= compileKernel(KERNEL_FILE).then(async (module) => {
      await warm(newKernel(module, WARM_BYTES));
      return module;
    });
    return newKernel(await compiled, length);
  }

  /** Another kernel with as many bytes, all zero, at once: the code is compiled already. */
  another(): Kernel {
    return newKernel(this.shared.module, this.shared.length);
  }

  /**
   * Makes ready the product of `rows` with the units at `sources`: the unit at targets[i] is the
   * sum of rows[i][j] * the unit at sources[j]. Positions are where units start in `bytes`; no
   * target may overlap a source.
   */
  prepare(sources: readonly number[], targets: readonly number[], rows: Matrix): Product {
    if (sources.length > MAX_DATA_UNITS || targets.length > MAX_PARITY_UNITS) {
      throw new RangeError(`a product has at most ${MAX_DATA_UNITS} x ${MAX_PARITY_UNITS} units`);
    }
    const tables = new Uint8Array(sources.length * targets.length * TABLE_BYTES);
    sources.forEach((_, source) => {
      rows.forEach((row, target) => {
        const at = (source * targets.length + target) * TABLE_BYTES;
        fillTable(tables.subarray(at, at + TABLE_BYTES), row[source]!);
      });
    });
    return {
      sourceAddresses: Uint32Array.from(sources, (position) => position + BYTES_OFFSET),
      targetAddresses: Uint32Array.from(targets, (position) => position + BYTES_OFFSET),
      tables,
    };
  }

  /**
   * Computes the bytes [from, to) of the targets, offsets in each unit; with `accumulate` adds to
   * what is there. from and to are multiples of 8 and in every unit: the caller sees to that.
   */
  run(product: Product, from: number, to: number, accumulate = false): void {
    if (this.loaded !== product) this.load(product);
    this.multiply(
      SOURCES_OFFSET,
      product.sourceAddresses.length,
      TARGETS_OFFSET,
      product.targetAddresses.length,
      TABLES_OFFSET,
      from,
      to,
      accumulate,
    );
  }

  private load(product: Product): void {
    const { buffer } = this.shared.memory;
    new Uint32Array(buffer, SOURCES_OFFSET, MAX_DATA_UNITS).set(product.sourceAddresses);
    new Uint32Array(buffer, TARGETS_OFFSET, MAX_PARITY_UNITS).set(product.targetAddresses);
    new Uint8Array(buffer, TABLES_OFFSET, product.tables.length).set(product.tables);
    this.loaded = product;
  }
}

let compiled: Promise<WasmModule> | undefined;

/** Compiles the kernel in `file`. Throws ChunkvolError 'internal' when it cannot be read. */
export async function compileKernel(file: URL): Promise<WasmModule> {
  let code: Uint8Array;
  try {
    code = await readFile(file);
  } catch (cause) {
    const message = `cannot read ${fileURLToPath(file)}, part of this program: run "npm run build"`;
    throw new ChunkvolError('internal', message, { cause });
  }
  return webAssembly.compile(code);
}

function newKernel(module: WasmModule, length: number): Kernel {
  return new Kernel({ module, memory: allocate(BYTES_OFFSET + length), length });
}

function allocate(bytes: number): WasmMemory {
  const pages = alignUp(bytes, WASM_PAGE_BYTES) / WASM_PAGE_BYTES;
  try {
    return new webAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    const message = `cannot allocate ${bytes} bytes for a stripe row: free memory and try again`;
    throw new ChunkvolError('internal', message, { cause });
  }
}

const WARM_UNIT_BYTES = 16384;
const WARM_SOURCES = 4;
/**
 * The kernel's passes are made for 1 to 4 targets, each a function that V8 translates by itself.
 */
const WARM_MAX_TARGETS = 4;
const WARM_BYTES = WARM_UNIT_BYTES * (WARM_SOURCES + WARM_MAX_TARGETS);
/** Measured on Node 20: the last of the passes is replaced after some 30 rounds, 20 ms in all. */
const WARM_ROUNDS = 40;

/** Runs each pass of the kernel until V8 finds it worth its better translation. */
async function warm(kernel: Kernel): Promise<void> {
  const positions = (first: number, count: number): number[] =>
    Array.from({ length: count }, (_, index) => (first + index) * WARM_UNIT_BYTES);
  for (let targets = 1; targets <= WARM_MAX_TARGETS; targets++) {
    const rows = Array.from({ length: targets }, () => new Uint8Array(WARM_SOURCES));
    const sources = positions(0, WARM_SOURCES);
    const product = kernel.prepare(sources, positions(WARM_SOURCES, targets), rows);
    for (let round = 0; round < WARM_ROUNDS; round++) {
      for (let call = 0; call < 4; call++) kernel.run(product, 0, WARM_UNIT_BYTES);
      // The translation is made on another thread and takes its place between two calls.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

function fillTable(table: Uint8Array, coefficient: number): void {
  for (let nibble = 0; nibble < 16; nibble++) {
    table[nibble] = multiply(coefficient, nibble);
    table[16 + nibble] = multiply(coefficient, nibble << 4);
  }
}
