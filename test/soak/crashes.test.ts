/** The crash sweep, clones, forgeries and overlapping operations, campaign after campaign. */
import { it, vi } from 'vitest';
import { emptyCount, runCampaign } from '../simulation/campaign.js';
import { soak, wanted } from './soak.js';

vi.mock('../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const SIZE = { variants: 10, clones: 200, forgeries: 200, operations: 20_000 };

it.runIf(wanted('crashes'))('finds nothing in crashes', async () => {
  const count = emptyCount();
  await soak('crashes', async (seed) => {
    await runCampaign(seed, SIZE, count);
    return { ...count };
  });
});
