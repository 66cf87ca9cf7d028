/** Machines that are cloned while a volume is attached: see test/simulation/clones.ts. */
import { describe, expect, it, vi } from 'vitest';
import { runClones } from '../../simulation/clones.js';
import { simulate } from '../../simulation/simulate.js';
import { SHAPES } from '../../simulation/world.js';

vi.mock('../../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const CLONES = 20;

describe('clones of a running machine', () => {
  it('never encrypt two plaintexts under one key and nonce', async () => {
    await simulate(6, async (seed) => {
      const { meetings } = await runClones(seed, SHAPES[seed % SHAPES.length]!, CLONES);
      // Where they write nothing to the same place, nothing is shown.
      expect(meetings).toBeGreaterThan(3);
    });
  });
});
