/**
 * Sets of tests. `npm test` runs unit and integration, `npm run test:slow` the slow ones; CI all.
 *
 * unit         pure code and simulations: parallel, short
 * integration  real programs (file systems, NBD clients, rsync, rclone): minutes in all
 * slow         the same at scale: kills, virtual machines, whole file trees
 * soak         the simulator for as long as it is given; `npm run soak` only
 */
import { defineConfig, type ViteUserConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { Summary } from './test/support/summary.js';

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;

/** Files at a time; left to itself, vitest leaves one processor idle, which is half of a small machine. */
const WORKERS = '100%';

/** What takes longest by far, on one processor: begun last, it would keep the others waiting. */
const LONGEST = 'test/slow/simulation.test.ts';

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLongest = ({ moduleId }: TestSpecification): boolean => moduleId.endsWith(LONGEST);
    return [...sorted.filter(isLongest), ...sorted.filter((file) => !isLongest(file))];
  }
}

const config: ViteUserConfig = defineConfig({
  test: {
    reporters: ['default', new Summary()],
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: 20 * SECOND_MS,
          maxWorkers: WORKERS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: MINUTE_MS,
          hookTimeout: MINUTE_MS,
          maxWorkers: WORKERS,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'slow',
          include: ['test/slow/**/*.test.ts'],
          testTimeout: 15 * MINUTE_MS,
          hookTimeout: 5 * MINUTE_MS,
          maxWorkers: WORKERS,
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          name: 'soak',
          include: ['test/soak/**/*.test.ts'],
          testTimeout: 0,
          // What a simulated machine leaves behind is mostly young: a tenth of the time went into collecting it.
          pool: 'forks',
          execArgv: ['--max-semi-space-size=64'],
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});

export default config;
