/** The outside world of a real process, and what the environment says about it. */
import { KIB } from '../base/bytes.js';
import { systemClock } from '../base/clock.js';
import { ChunkvolError } from '../base/errors.js';
import { nodeFiles } from '../base/node-files.js';
import { kernelRandomness } from '../base/randomness.js';
import { chooseEngine } from '../crypto/engines.js';
import { argon2Fault, DEFAULT_ARGON2, type Argon2Parameters } from '../crypto/kdf.js';
import type { Environment } from '../store/context.js';
import { parseSize } from './size.js';

const KDF_MEMORY_VARIABLE = 'CHUNKVOL_KDF_MEMORY';

/** Throws ChunkvolError('usage') when the environment asks for a crypto engine that is not there. */
export function systemEnvironment(): Environment {
  return {
    files: nodeFiles,
    clock: systemClock,
    random: kernelRandomness,
    engine: chooseEngine(),
  };
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
