/** The simulator at length: more than ten thousand crashed disks, each recovered twice, and the rest with them. */
import { expect, it, vi } from 'vitest';
import { emptyCount, runCampaign } from '../simulation/campaign.js';
import { simulate } from '../simulation/simulate.js';

vi.mock('../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const SIZE = { variants: 8, clones: 20, forgeries: 20, operations: 1000 };
const TIMEOUT_MS = 40 * 60_000;

it(
  'no crash, clone or forgery makes a volume lose or invent a byte',
  async () => {
    const count = emptyCount();
    await simulate(3, (seed) => runCampaign(seed + 500, SIZE, count));
    console.log(JSON.stringify(count));
    if (process.env['CHUNKVOL_SIM_SEEDS'] === undefined) {
      expect(count.recoveredStates).toBeGreaterThan(10_000);
    }
  },
  TIMEOUT_MS,
);
