/** Runs simulated worlds one after the other, and says which seed a failure belongs to. */

const FIRST_SEED = Number(process.env['CHUNKVOL_SIM_FIRST'] ?? 1);
const SEED_COUNT = process.env['CHUNKVOL_SIM_SEEDS'];

/** `run` with `count` seeds, or with as many as CHUNKVOL_SIM_SEEDS says. */
export async function simulate(count: number, run: (seed: number) => Promise<void>): Promise<void> {
  const seeds = SEED_COUNT === undefined ? count : Number(SEED_COUNT);
  for (let seed = FIRST_SEED; seed < FIRST_SEED + seeds; seed++) {
    try {
      await run(seed);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
  }
}
