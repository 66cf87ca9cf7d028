/** Everything that the simulator tries with one seed, and how much of it there was. */
import { Crowd } from './crowd.js';
import { runClones } from './clones.js';
import { meetForgeries } from './forgeries.js';
import { limits } from './limits.js';
import { sweepCrashes } from './sweep.js';
import { WORKLOADS } from './workloads.js';
import { SHAPES, World } from './world.js';
import { KIB, MIB } from '../../src/base/bytes.js';

export interface CampaignSize {
  /** Ways in which the disk is found after each crash. */
  readonly variants: number;
  readonly clones: number;
  readonly forgeries: number;
  readonly operations: number;
}

export interface CampaignCount {
  workloads: number;
  crashPoints: number;
  recoveredStates: number;
  clones: number;
  forgedRecords: number;
  overlappingOperations: number;
}

const MAX_ARRAY_BYTES = 64 * MIB;

export function emptyCount(): CampaignCount {
  return {
    workloads: 0,
    crashPoints: 0,
    recoveredStates: 0,
    clones: 0,
    forgedRecords: 0,
    overlappingOperations: 0,
  };
}

/** A crash after every change of each workload, as `runCampaign` has it. */
export async function sweepWorkloads(
  seed: number,
  variants: number,
  count: Pick<CampaignCount, 'workloads' | 'crashPoints' | 'recoveredStates'>,
): Promise<void> {
  try {
    for (const [index, workload] of Object.values(WORKLOADS).entries()) {
      limits.tight = (seed + index) % 2 === 0;
      const shape = SHAPES[seed % SHAPES.length]!;
      const threads = Math.floor(seed / 4) % 2 === 0 ? 'none' : 'sound';
      const swept = await sweepCrashes(seed, shape, workload, variants, threads);
      count.workloads++;
      count.crashPoints += swept.points;
      count.recoveredStates += swept.states;
    }
  } finally {
    limits.tight = false;
  }
}

/** Adds to `count`; throws what is wrong. Needs the limits of limits.ts in the place of the real ones. */
export async function runCampaign(
  seed: number,
  size: CampaignSize,
  count: CampaignCount,
): Promise<void> {
  const shape = SHAPES[seed % SHAPES.length]!;
  try {
    await sweepWorkloads(seed, size.variants, count);
    count.clones += (await runClones(seed, shape, size.clones)).clones;
    for (const kind of ['outer', 'log'] as const) {
      await meetForgeries(seed, shape, kind, size.forgeries, MAX_ARRAY_BYTES);
      count.forgedRecords += size.forgeries;
    }
    limits.tight = seed % 2 === 0;
    const world = await World.create(seed, shape);
    await world.reopen();
    const crowd = new Crowd([world.volume!, world.volume!], 48 * KIB, world.dice);
    await world.clock.during(crowd.run(size.operations, 6));
    crowd.check();
    count.overlappingOperations += size.operations;
    world.files.halt();
  } finally {
    limits.tight = false;
  }
}
