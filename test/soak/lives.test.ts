/** Volumes that live for years: snapshots, rollbacks, clones, collections, syncs, resizes, crashes. */
import { it, vi } from 'vitest';
import { live } from '../simulation/lives.js';
import { soak, wanted } from './soak.js';

vi.mock('../../src/volume/limits.js', async (original) => {
  const { LOW_LIMITS } = await import('../simulation/limits.js');
  return { ...(await original<object>()), ...LOW_LIMITS };
});

const OPERATIONS = 1000;

it.runIf(wanted('lives'))('finds nothing in long lives', async () => {
  const total: Record<string, number> = { operations: 0 };
  await soak('lives', async (seed) => {
    for (const [operation, times] of await live(seed, OPERATIONS)) {
      total[operation] = (total[operation] ?? 0) + times;
      if (operation !== 'crash') total['operations']! += times;
    }
    return { ...total };
  });
});
