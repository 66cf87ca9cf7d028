/**
 * A crash after every single change of the disk: each state that may be found is recovered, twice.
 * See test/simulation/sweep.ts; `CHUNKVOL_SIM_FIRST=<seed> CHUNKVOL_SIM_SEEDS=1` replays a failure.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { limits } from '../../simulation/limits.js';
import { simulate } from '../../simulation/simulate.js';
import { sweepCrashes } from '../../simulation/sweep.js';
import { WORKLOADS } from '../../simulation/workloads.js';
import { SHAPES } from '../../simulation/world.js';

vi.mock('../../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const VARIANTS = 2;
const TIMEOUT_MS = 300_000;

afterEach(() => {
  limits.tight = false;
});

describe.each(Object.entries(WORKLOADS))(
  'a crash after every change of the disk: %s',
  (name, workload) => {
    it.each([
      ['a roomy volume', false],
      ['a volume at its limits', true],
    ])(
      'leaves a state of %s that was, with all that was flushed',
      async (_, tight) => {
        limits.tight = tight;
        await simulate(1, async (seed) => {
          const shape = SHAPES[(seed + name.length + Number(tight)) % SHAPES.length]!;
          const { points, states } = await sweepCrashes(seed, shape, workload, VARIANTS);
          expect(points).toBeGreaterThan(3);
          expect(states).toBeGreaterThan(points);
        });
      },
      TIMEOUT_MS,
    );
  },
);
