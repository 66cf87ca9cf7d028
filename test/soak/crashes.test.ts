/** A crash after every change of each workload, found in twenty ways, seed after seed. */
import { it, vi } from 'vitest';
import { sweepWorkloads } from '../simulation/campaign.js';
import { soak, wanted } from './soak.js';

vi.mock('../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const VARIANTS = 20;

it.runIf(wanted('crashes'))('finds nothing in crashes', async () => {
  const count = { workloads: 0, crashPoints: 0, recoveredStates: 0 };
  await soak('crashes', async (seed) => {
    await sweepWorkloads(seed, VARIANTS, count);
    return { ...count };
  });
});
