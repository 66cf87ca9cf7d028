/** Records that were altered by who holds a key, met by all that reads them; see simulation/forgeries.ts. */
import { it, vi } from 'vitest';
import { MIB } from '../../src/base/bytes.js';
import { meetForgeries } from '../simulation/forgeries.js';
import { SHAPES } from '../simulation/world.js';
import { soak, wanted } from './soak.js';

vi.mock('../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const FORGERIES = 2000;
const MAX_ARRAY_BYTES = 64 * MIB;

it.runIf(wanted('forgeries'))('finds none that does harm', async () => {
  const total = { forgedRecords: 0 };
  await soak('forgeries', async (seed) => {
    for (const kind of ['outer', 'log'] as const) {
      await meetForgeries(seed, SHAPES[seed % SHAPES.length]!, kind, FORGERIES, MAX_ARRAY_BYTES);
      total.forgedRecords += FORGERIES;
    }
    return { ...total };
  });
});
