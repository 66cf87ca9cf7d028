/**
 * The simulator for as long as it is given: `npm run soak -- --minutes 60 --first 1`. A run without a
 * finding adds what it did to test/soak/results.json; one with a finding says which seed to replay.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { it, vi } from 'vitest';
import { emptyCount, runCampaign } from '../simulation/campaign.js';

vi.mock('../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const RESULTS = new URL('results.json', import.meta.url);
const SIZE = { variants: 10, clones: 200, forgeries: 200, operations: 20_000 };

const first = Number(process.env['CHUNKVOL_SOAK_FIRST'] ?? 1);
const minutes = Number(process.env['CHUNKVOL_SOAK_MINUTES'] ?? 1);

it(`finds nothing in ${minutes} minutes from seed ${first} on`, async () => {
  const started = Date.now();
  const count = emptyCount();
  let seed = first;
  do {
    await runCampaign(seed, SIZE, count).catch((error: unknown) => {
      const what = error instanceof Error ? error.message : String(error);
      throw new Error(`seed ${seed}: ${what}`, { cause: error });
    });
    seed++;
  } while (Date.now() - started < minutes * 60_000);
  const results = JSON.parse(readFileSync(RESULTS, 'utf8')) as object[];
  results.push({
    date: new Date().toISOString().slice(0, 16),
    firstSeed: first,
    lastSeed: seed - 1,
    minutes: Math.round((Date.now() - started) / 60_000),
    ...count,
  });
  writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
  console.log(results.at(-1));
});
