/** The choice of the crypto engine: the fastest that loads here and passes its self-test. */
import { ChunkvolError, errorMessage } from '../base/errors.js';
import type { CryptoEngine, EngineName } from './engine.js';
import { engineError } from './engine.js';
import { NobleEngine } from './engine-noble.js';
import { NodeEngine } from './engine-node.js';
import { OpensslEngine } from './engine-openssl.js';
import { selfTest } from './self-test.js';

/** Names an engine, where the best available shall not be taken. */
const ENGINE_VARIABLE = 'CHUNKVOL_CRYPTO_ENGINE';

/** Fastest first. */
export const ENGINE_NAMES: readonly EngineName[] = ['openssl', 'node', 'noble'];

const MAKERS: Record<EngineName, () => CryptoEngine> = {
  openssl: () => new OpensslEngine(),
  node: () => new NodeEngine(),
  noble: () => new NobleEngine(),
};

/** What came of each engine that was tried: itself, or the reason why it cannot be used. */
const tried = new Map<EngineName, CryptoEngine | string>();

/**
 * The engine to use: `wanted`, else the one that $CHUNKVOL_CRYPTO_ENGINE names, else the fastest that
 * is available. Throws ChunkvolError ('usage') when the named one is unknown or unavailable.
 */
export function chooseEngine(
  wanted: string | undefined = process.env[ENGINE_VARIABLE],
): CryptoEngine {
  if (wanted !== undefined && wanted !== '') {
    const name = ENGINE_NAMES.find((known) => known === wanted);
    if (name !== undefined) return engineByName(name);
    throw new ChunkvolError(
      'usage',
      `there is no crypto engine "${wanted}"; set ${ENGINE_VARIABLE} to one of ${ENGINE_NAMES.join(', ')}, or unset it`,
    );
  }
  for (const name of ENGINE_NAMES) {
    const engine = tryEngine(name);
    if (typeof engine !== 'string') return engine;
  }
  throw new ChunkvolError('internal', 'no crypto engine passes its self-test; reinstall chunkvol');
}

/** Throws ChunkvolError ('usage') when the engine does not load here or fails its self-test. */
export function engineByName(name: EngineName): CryptoEngine {
  const engine = tryEngine(name);
  if (typeof engine !== 'string') return engine;
  throw engineError('usage', name, `is not available here (${engine})`);
}

function tryEngine(name: EngineName): CryptoEngine | string {
  const known = tried.get(name);
  if (known !== undefined) return known;
  const result = makeEngine(name);
  tried.set(name, result);
  return result;
}

function makeEngine(name: EngineName): CryptoEngine | string {
  try {
    const engine = MAKERS[name]();
    selfTest(engine);
    return engine;
  } catch (error) {
    return errorMessage(error).split('\n', 1)[0]!;
  }
}
