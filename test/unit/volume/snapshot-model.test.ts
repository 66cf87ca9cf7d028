/**
 * A volume's long life against flat arrays: random operations of every kind, with crashes, and with
 * every limit so low that it is met all the time. CHUNKVOL_SIM_SEEDS asks for more worlds.
 */
import { describe, it, vi } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import { simulate } from '../../simulation/simulate.js';
import { SnapshotWorld, type SnapshotShape } from '../../simulation/snapshot-world.js';

vi.mock('../../../src/volume/limits.js', async (original) => ({
  ...(await original<object>()),
  MIN_RESERVE_BYTES: 1024 * 1024,
  STAGING_BYTES: 1024 * 1024,
  COMMIT_TARGET_BYTES: 128 * 1024,
  MAX_CACHED_NODES: 64,
  MAX_DIRTY_NODES: 40,
  MAX_NODES_PER_COMMIT: 7,
  MAX_TAIL_BYTES: 1024 * 1024,
  MAX_GATHERED_SLOTS: 300,
  MAX_MOVED_SLOTS: 24,
  MIN_GARBAGE_BYTES: 512 * 1024,
  MAX_SHORT_GROUPS: 5,
  KEPT_CLOSED_ROOTS: 3,
}));

const SHAPES: readonly SnapshotShape[] = [
  { data: 2, parity: 1, sizeBytes: 8 * MIB },
  { data: 1, parity: 0, sizeBytes: 2 * MIB },
  { data: 4, parity: 2, sizeBytes: 64 * MIB },
];

const STEPS = 400;

/** A step that waits for ever is ended with an error that says which one it was. */
async function inTime(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error('a step took longer than a minute'));
    }, 60_000);
  });
  await Promise.race([work, late]).finally(() => {
    clearTimeout(timer);
  });
}

async function live(seed: number): Promise<void> {
  const world = await SnapshotWorld.create(seed, SHAPES[seed % SHAPES.length]!);
  try {
    for (let step = 0; step < STEPS; step++) await inTime(world.step());
    await inTime(world.finish());
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`${what}, after ${world.history.join(', ')}`, { cause: error });
  }
}

describe('a volume that lives for years', () => {
  it(
    'is at any time what it was made, and so are its snapshots',
    { timeout: 180_000 },
    async () => {
      await simulate(6, live);
    },
  );
});
