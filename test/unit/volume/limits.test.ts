/**
 * Crashes and failures again, with every limit so low that it is met all the time: a map that does not
 * fit its cache, checkpoints in the middle of groups and over several of them, full buffers.
 */
import { describe, it, vi } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import { simulate } from '../../simulation/simulate.js';
import { FOLDER, World, type Shape } from '../../simulation/world.js';

vi.mock('../../../src/volume/limits.js', async (original) => ({
  ...(await original<object>()),
  MIN_RESERVE_BYTES: 1024 * 1024,
  STAGING_BYTES: 1024 * 1024,
  MIN_COMMIT_TARGET_BYTES: 64 * 1024,
  MAX_COMMIT_TARGET_BYTES: 64 * 1024,
  MAX_STAGED_HOLES: 16,
  UNDURABLE_TARGET_BYTES: 512 * 1024,
  UNWRITTEN_LIMIT_BYTES: 128 * 1024,
  MAX_TAIL_BYTES: 700 * 1024,
  MAX_DIRTY_NODES: 40,
  MAX_CACHED_NODES: 64,
  MAX_NODES_PER_COMMIT: 7,
  // A few groups make a root too large for a replica.
  REPLICA_SHARE: 1 / 512,
  KEPT_CLOSED_ROOTS: 2,
}));

/** Disks so large that writes here and there touch a node of the map each. */
const SHAPES: readonly Shape[] = [
  { data: 2, parity: 1, sizeBytes: 2 ** 32 },
  { data: 1, parity: 0, sizeBytes: 2 ** 40 },
  { data: 4, parity: 2, sizeBytes: 2 ** 34 },
];

/** Many small writes all over the disk, then holes all over it: hundreds of nodes of the map change. */
async function scatter(world: World, count: number): Promise<boolean> {
  const { dice, shape } = world;
  const spots = Array.from({ length: count }, () => {
    return dice.below(shape.sizeBytes / MIB) * MIB + dice.below(200) * 4096;
  });
  for (const offset of spots) {
    const trim = dice.chance(0.3);
    const data = trim ? null : dice.bytes(4096);
    if (!(await world.change({ offset, bytes: 4096, data, trim, durable: false }))) return false;
  }
  if (dice.chance(0.5)) {
    for (const offset of spots) {
      const hole = { offset, bytes: 4096, data: null, trim: true, durable: false };
      if (dice.chance(0.5) && !(await world.change(hole))) return false;
    }
  }
  return dice.chance(0.6) ? world.flush() : true;
}

async function run(seed: number, fails: boolean): Promise<void> {
  const world = await World.create(seed, SHAPES[seed % SHAPES.length]!);
  const { dice } = world;
  await world.reopen();
  for (let round = 0; round < 2; round++) {
    const stopAt = world.files.calls + dice.below(3000);
    const failing = dice.pick(['sync', 'write', 'rename', 'syncFolder'] as const);
    let left = fails ? dice.below(60) : Infinity;
    let again = dice.below(3);
    world.tolerated = fails ? ['io'] : [];
    world.files.onCall = ({ kind, index }) => {
      if (index >= stopAt) return 'stop';
      if (kind !== failing || left-- > 0) return 'works';
      left = again-- > 0 ? dice.below(8) : Infinity;
      return 'EIO';
    };
    for (let i = 0; i < 12; i++) {
      const goesOn = dice.chance(0.4) ? await scatter(world, 60) : await world.step();
      if (!goesOn) break;
      // Many readers at once: what one pages in, another may drive out again.
      if (!(await Promise.all([1, 2, 3, 4].map(() => world.look()))).every(Boolean)) break;
    }
    world.cutPower();
    world.tolerated = [];
    await world.reopen();
    await world.checkAll();
  }
  const closed = await world.close();
  if (closed.kind === 'failed') throw world.explained(closed.error);
  // The closed root alone leads to everything.
  for (const path of world.files.paths(`${FOLDER}/local`)) world.files.poke(path, null);
  await world.reopen();
}

describe('a volume at its limits', () => {
  it('survives crashes', async () => {
    await simulate(10, (seed) => run(seed, false));
  });

  it('survives a disk that fails', async () => {
    await simulate(10, (seed) => run(seed, true));
  });
});
