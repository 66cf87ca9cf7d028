/** Machines cloned while a volume is attached, many from each moment, all that they encrypt in one ledger. */
import { expect, it, vi } from 'vitest';
import { runClones } from '../simulation/clones.js';
import { SHAPES } from '../simulation/world.js';
import { soak, wanted } from './soak.js';

vi.mock('../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const FORKS = 500;

it.runIf(wanted('forks'))('finds no key and nonce that met two plaintexts', async () => {
  const total = { forks: 0, meetings: 0 };
  await soak('forks', async (seed) => {
    const { clones, meetings } = await runClones(seed, SHAPES[seed % SHAPES.length]!, FORKS);
    // Where they write nothing to the same place, nothing is shown.
    expect(meetings).toBeGreaterThan(3);
    total.forks += clones;
    total.meetings += meetings;
    return { ...total };
  });
});
