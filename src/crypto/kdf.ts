/**
 * Argon2id (RFC 9106, version 1.3) in a worker thread, so that the event loop goes on and the memory
 * goes back to the system when the worker ends.
 *
 * Parameters come from files that anyone may have altered: they are checked against floor (weakening)
 * and ceiling (exhaustion) before anything is allocated.
 */
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { ChunkvolError, errorMessage } from '../base/errors.js';

export interface Argon2Parameters {
  readonly memoryKiB: number;
  readonly iterations: number;
  readonly lanes: number;
}

/**
 * About a second on a machine of 2026, in less than half of the memory that a serving process may
 * take. One lane, as the implementation computes lanes one after another: more would help attackers
 * alone.
 */
export const DEFAULT_ARGON2: Argon2Parameters = { memoryKiB: 196_608, iterations: 3, lanes: 1 };

export interface Bounds {
  readonly min: number;
  readonly max: number;
}

export const ARGON2_LIMITS: Readonly<Record<keyof Argon2Parameters, Bounds>> = {
  memoryKiB: { min: 8192, max: 1_048_576 },
  iterations: { min: 1, max: 16 },
  lanes: { min: 1, max: 16 },
};

export const ARGON2_BYTES = 64;
const MIN_SALT_BYTES = 8;

/** Runs as CommonJS in the worker; a failure ends it with an 'error' event. */
const WORKER_CODE = `
const { parentPort, workerData } = require('node:worker_threads');
const { library, options } = workerData;
require(library).argon2id(options).then((bytes) => parentPort.postMessage(bytes));
`;

/** What is wrong with `parameters`, in words, or null when they are within the limits. */
export function argon2Fault(parameters: Argon2Parameters): string | null {
  for (const name of ['memoryKiB', 'iterations', 'lanes'] as const) {
    const value = parameters[name];
    const { min, max } = ARGON2_LIMITS[name];
    if (!Number.isInteger(value) || value < min || value > max) {
      return `Argon2 ${name} is ${value}, outside ${min} to ${max}`;
    }
  }
  return null;
}

/**
 * `hashBytes` of key material from a password of at least 1 byte and a salt of at least 8. Throws
 * RangeError for parameters out of their limits, ChunkvolError ('internal') when the worker fails, for
 * want of memory above all.
 */
export async function argon2id(
  password: Uint8Array,
  salt: Uint8Array,
  parameters: Argon2Parameters,
  hashBytes: number = ARGON2_BYTES,
): Promise<Uint8Array> {
  const fault = argon2Fault(parameters);
  if (fault !== null) throw new RangeError(fault);
  if (password.length === 0) throw new RangeError('password must not be empty');
  if (salt.length < MIN_SALT_BYTES) {
    throw new RangeError(`salt must have at least ${MIN_SALT_BYTES} bytes, not ${salt.length}`);
  }
  return runWorker(parameters.memoryKiB, {
    password: Uint8Array.from(password),
    salt: Uint8Array.from(salt),
    memorySize: parameters.memoryKiB,
    iterations: parameters.iterations,
    parallelism: parameters.lanes,
    hashLength: hashBytes,
    outputType: 'binary',
  });
}

async function runWorker(memoryKiB: number, options: object): Promise<Uint8Array> {
  const library = createRequire(import.meta.url).resolve('hash-wasm');
  // Without execArgv: [] the worker would inherit loaders and flags meant for the main thread.
  const worker = new Worker(WORKER_CODE, {
    eval: true,
    execArgv: [],
    workerData: { library, options },
  });
  try {
    return await new Promise<Uint8Array>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', (status) => {
        reject(new Error(`its worker ended with status ${status}`));
      });
    });
  } catch (error) {
    throw new ChunkvolError(
      'internal',
      `cannot derive a key from the passphrase, which takes ${Math.ceil(memoryKiB / 1024)} MiB of memory: ${errorMessage(error)}`,
      { cause: error },
    );
  } finally {
    await worker.terminate();
  }
}
