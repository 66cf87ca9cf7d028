/**
 * A volume's long life against flat arrays: random operations of every kind, with crashes, and with
 * every limit so low that it is met all the time. CHUNKVOL_SIM_SEEDS asks for more worlds.
 */
import { describe, it, vi } from 'vitest';
import { live } from '../../simulation/lives.js';
import { simulate } from '../../simulation/simulate.js';

vi.mock('../../../src/volume/limits.js', async (original) => {
  const { LOW_LIMITS } = await import('../../simulation/limits.js');
  return { ...(await original<object>()), ...LOW_LIMITS };
});

const OPERATIONS = 400;

describe('a volume that lives for years', () => {
  it(
    'is at any time what it was made, and so are its snapshots',
    { timeout: 180_000 },
    async () => {
      await simulate(6, async (seed) => {
        await live(seed, OPERATIONS);
      });
    },
  );
});
