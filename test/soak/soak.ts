/**
 * The simulator for as long as it is given: `npm run soak -- --what lives --minutes 60 --first 1`. What a
 * run did is added to test/soak/results.json; one with a finding says which seed to replay.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const RESULTS = new URL('results.json', import.meta.url);
const MINUTE_MS = 60_000;

const first = Number(process.env['CHUNKVOL_SOAK_FIRST'] ?? 1);
const minutes = Number(process.env['CHUNKVOL_SOAK_MINUTES'] ?? 1);

export function wanted(what: string): boolean {
  return (process.env['CHUNKVOL_SOAK_WHAT'] ?? what) === what;
}

/** Runs one seed after the other; `run` returns what was done since the first one. */
export async function soak(
  what: string,
  run: (seed: number) => Promise<Record<string, number>>,
): Promise<void> {
  const started = Date.now();
  let seed = first;
  let done: Record<string, number>;
  do {
    done = await run(seed).catch((error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`seed ${seed}: ${message}`, { cause: error });
    });
    seed++;
  } while (Date.now() - started < minutes * MINUTE_MS);
  const results = JSON.parse(readFileSync(RESULTS, 'utf8')) as object[];
  results.push({
    what,
    date: new Date().toISOString().slice(0, 16),
    firstSeed: first,
    lastSeed: seed - 1,
    minutes: Math.round((Date.now() - started) / MINUTE_MS),
    ...done,
  });
  writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
  console.log(results.at(-1));
}
