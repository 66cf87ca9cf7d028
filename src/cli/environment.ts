/** The outside world of a real process, and what the environment says about it. */
import { availableParallelism } from 'node:os';
import { KIB } from '../base/bytes.js';
import { systemClock } from '../base/clock.js';
import { ChunkvolError } from '../base/errors.js';
import { nodeFiles } from '../base/node-files.js';
import { kernelRandomness } from '../base/randomness.js';
import { chooseEngine } from '../crypto/engines.js';
import { argon2Fault, DEFAULT_ARGON2, type Argon2Parameters } from '../crypto/kdf.js';
import type { Environment } from '../store/context.js';
import { WorkThreads } from '../store/work-threads.js';
import { parseSize } from './size.js';

const THREADS_VARIABLE = 'CHUNKVOL_THREADS';
/** More than these have not enough to do, and each takes 30 MiB: one thread takes requests and hands the work out. */
const MAX_THREADS = 2;

const KDF_MEMORY_VARIABLE = 'CHUNKVOL_KDF_MEMORY';

/** Throws ChunkvolError('usage') when the environment asks for what is not there. */
export function systemEnvironment(): Environment {
  const engine = chooseEngine();
  const world = { files: nodeFiles, clock: systemClock, random: kernelRandomness, engine };
  const count = threadCount();
  return count === 0 ? world : { ...world, workers: new WorkThreads(engine.name, count) };
}

/** Threads for encryption and parity: what the variable says, else one for each further processor. */
function threadCount(): number {
  const wanted = process.env[THREADS_VARIABLE];
  if (!wanted) return Math.min(availableParallelism() - 1, MAX_THREADS);
  if (/^\d{1,2}$/.test(wanted)) return Number(wanted);
  throw new ChunkvolError('usage', `$${THREADS_VARIABLE}: not a number of threads: ${wanted}`);
}

/** What new passphrases are stretched with. Throws ChunkvolError('usage'). */
export function newArgon2Parameters(): Argon2Parameters {
  const memory = process.env[KDF_MEMORY_VARIABLE];
  if (!memory) return DEFAULT_ARGON2;
  const memoryKiB = parseSize(memory, `$${KDF_MEMORY_VARIABLE}`) / KIB;
  const parameters = { ...DEFAULT_ARGON2, memoryKiB };
  const fault = argon2Fault(parameters);
  if (fault !== null) throw new ChunkvolError('usage', `$${KDF_MEMORY_VARIABLE}: ${fault}`);
  return parameters;
}
