/**
 * The simulator for as long as it is given: `npm run soak -- --what lives --minutes 60 --first 1`. What a
 * run did is added to test/soak/results.json; one with a finding says which seed to replay.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const RESULTS = new URL('results.json', import.meta.url);
const MINUTE_MS = 60_000;

const first = Number(process.env['CHUNKVOL_SOAK_FIRST'] ?? 1);
const minutes = Number(process.env['CHUNKVOL_SOAK_MINUTES'] ?? 1);

interface Result extends Readonly<Record<string, string | number>> {
  readonly what: string;
  /** When it began. */
  readonly date: string;
  readonly firstSeed: number;
}

export function wanted(what: string): boolean {
  return (process.env['CHUNKVOL_SOAK_WHAT'] ?? what) === what;
}

/** Runs one seed after the other; `run` returns what was done since the first one. */
export async function soak(
  what: string,
  run: (seed: number) => Promise<Record<string, number>>,
): Promise<void> {
  const started = Date.now();
  const begun = new Date(started).toISOString().slice(0, 16);
  let seed = first;
  do {
    const done = await run(seed).catch((error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`seed ${seed}: ${message}`, { cause: error });
    });
    record({
      what,
      date: begun,
      firstSeed: first,
      lastSeed: seed,
      minutes: Math.round((Date.now() - started) / MINUTE_MS),
      ...done,
    });
    seed++;
  } while (Date.now() - started < minutes * MINUTE_MS);
}

/** After each seed, in place of what the same run had recorded before: it may be cut off. */
function record(result: Result): void {
  const all = JSON.parse(readFileSync(RESULTS, 'utf8')) as Result[];
  const others = all.filter(({ what, date, firstSeed }) => {
    return what !== result.what || date !== result.date || firstSeed !== result.firstSeed;
  });
  writeFileSync(RESULTS, `${JSON.stringify([...others, result], null, 2)}\n`);
  console.log(result);
}
