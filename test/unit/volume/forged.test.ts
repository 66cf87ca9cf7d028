/**
 * Files whose every tag and MAC is right and whose contents are absurd, made by somebody who holds the
 * keys: a volume of them gives bytes or a clear error, in bounded time and memory, never a crash.
 * `CHUNKVOL_SIM_FIRST=<seed> CHUNKVOL_SIM_SEEDS=1` replays a failure.
 */
import { describe, expect, it, vi } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import { meetForgeries, meetHugeCommits } from '../../simulation/forgeries.js';
import { simulate } from '../../simulation/simulate.js';
import { SHAPES } from '../../simulation/world.js';

vi.mock('../../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const FORGERIES = 60;
const MAX_ARRAY_BYTES = 64 * MIB;

describe('records with valid tags and absurd contents', () => {
  it.each(['outer', 'log'] as const)(
    'are met with bytes or a clear error (%s)',
    async (kind) => {
      await simulate(2, async (seed) => {
        const shape = SHAPES[seed % SHAPES.length]!;
        await meetForgeries(seed, shape, kind, FORGERIES, MAX_ARRAY_BYTES);
      });
    },
    120_000,
  );

  it('get no memory for slots that no group can hold', async () => {
    await simulate(3, async (seed) => {
      expect(await meetHugeCommits(seed, SHAPES[0]!, MAX_ARRAY_BYTES)).toBeGreaterThan(3);
    });
  });
});
