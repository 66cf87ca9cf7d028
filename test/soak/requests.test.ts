/** NBD clients at one volume, their requests overlapping in time and place; see simulation/crowd.ts. */
import { afterEach, it, vi } from 'vitest';
import { KIB } from '../../src/base/bytes.js';
import { limits } from '../simulation/limits.js';
import { crowdOverNbd } from '../simulation/nbd-crowd.js';
import { soak, wanted } from './soak.js';

vi.mock('../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const SIZE = { operations: 20_000, connections: 4, atOnce: 8, bytes: 48 * KIB };

afterEach(() => {
  limits.tight = false;
});

it.runIf(wanted('requests'))('finds nothing that had no order', async () => {
  const total = { operations: 0 };
  await soak('requests', async (seed) => {
    limits.tight = seed % 2 === 0;
    await crowdOverNbd(seed, SIZE);
    total.operations += SIZE.operations;
    return { ...total };
  });
});
