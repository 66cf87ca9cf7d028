/**
 * Each operation again and again, each time with another call that fails: creation, opening after a crash,
 * writing, sealing, closing, repair, collections, snapshots, rollbacks, changes of size, sync, restore.
 * Whatever fails, nothing that was flushed is lost, no byte of the disk or a snapshot is wrong, and the
 * volume opens when the disk works again.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { KIB } from '../../../src/base/bytes.js';
import { isChunkvolError } from '../../../src/base/errors.js';
import { makeGeometry } from '../../../src/base/geometry.js';
import { chooseEngine } from '../../../src/crypto/engines.js';
import { repairVolume } from '../../../src/repair/repair.js';
import { unlock } from '../../../src/store/key-files.js';
import { createVolume } from '../../../src/volume/create.js';
import { openVolume } from '../../../src/volume/open.js';
import { Dice, SimulatedClock, SimulatedRandomness } from '../../simulation/dice.js';
import {
  CLEAR,
  failAt,
  failEach,
  trim,
  write,
  type Operation,
} from '../../simulation/each-call.js';
import { SimulatedFiles, type CallKind } from '../../simulation/files.js';
import * as heads from '../../simulation/heads.js';
import { limits } from '../../simulation/limits.js';
import { simulate } from '../../simulation/simulate.js';
import { BLOCK_BYTES, FOLDER, SHAPES, World } from '../../simulation/world.js';
import { keyFile } from '../../support/volumes.js';

vi.mock('../../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

afterEach(() => {
  limits.tight = false;
});

const TIMEOUT_MS = 300_000;

function total(failed: ReadonlyMap<CallKind, number>): number {
  return [...failed.values()].reduce((sum, count) => sum + count, 0);
}

/** An open volume with a past, and files that are only partly durable. */
async function grown(seed: number): Promise<World> {
  const world = await World.create(seed, SHAPES[seed % SHAPES.length]!);
  await world.reopen();
  await write(world, 0, 60_000);
  await world.seal();
  await write(world, 30_000, 60_000);
  await world.flush();
  await write(world, 80_000, 30_000);
  return world;
}

const OPENINGS: Readonly<Record<string, (world: World) => Promise<void>>> = {
  opening: async (world) => {
    const opened = await world.open();
    if (opened.kind === 'failed') throw opened.error;
    if (opened.kind === 'worked') await world.adopt(opened.value);
  },
  'opening, writing and sealing': async (world) => {
    await OPENINGS['opening']!(world);
    await write(world, 0, 20_000);
    await world.flush();
    await write(world, 50_000, 90_000);
    await world.seal();
    await world.close();
  },
};

/**
 * A volume, not open, with snapshots that share maps and blocks. Its groups hold what is dead, what is alive
 * on the disk, and what snapshots alone keep alive.
 */
async function aged(seed: number): Promise<World> {
  const world = await World.create(seed, SHAPES[seed % SHAPES.length]!);
  await world.reopen();
  await write(world, 0, 400_000);
  await world.flush();
  await write(world, 0, 200_000);
  await heads.snapshot(world, 'first');
  await write(world, 204_800, 80_000);
  await trim(world, 70, 5);
  await world.seal();
  await heads.snapshot(world, 'second');
  await write(world, 330_000, 40_000);
  await write(world, 409_600, 200_000);
  await world.flush();
  await trim(world, 100, 50);
  await heads.snapshot(world, 'third');
  await world.close();
  return world;
}

/** On a volume that is open and has something staged. */
function inUse(work: (world: World) => Promise<void>, goOn = work): Operation {
  const prepare = async (world: World): Promise<void> => {
    await world.reopen();
    await write(world, 20_000, 30_000);
  };
  return { prepare, run: work, goOn };
}

async function collect(world: World): Promise<void> {
  await heads.collect(world, true);
}

interface Sampled {
  readonly operation: Operation;
  /** Every that many calls one fails; the first number is for the first of CASES, and so on. */
  readonly strides: readonly [number, number, number];
}

const WHOLE_DISK: Readonly<Record<string, Sampled>> = {
  'a collection': { operation: inUse(collect), strides: [1, 5, 8] },
  'a collection after snapshots were deleted': {
    operation: inUse(async (world) => {
      await heads.deleteSnapshots(world, ['first', 'third']);
      await heads.collect(world, false);
    }, collect),
    strides: [5, 8, 12],
  },
  'snapshots and a rollback': {
    operation: inUse(
      async (world) => {
        await heads.snapshot(world, 'fourth');
        await write(world, 60_000, 30_000);
        await heads.rollback(world, 'second', 'kept');
        await write(world, 10_000, 10_000);
        await heads.deleteSnapshots(world, ['first', 'second']);
        await heads.snapshot(world, 'fifth');
      },
      async (world) => {
        await heads.rollback(world, 'third', 'kept as well');
        await heads.snapshot(world, 'sixth');
      },
    ),
    strides: [1, 1, 1],
  },
  'changes of size': {
    operation: inUse(
      async (world) => {
        const { sizeBytes } = world.volume!;
        // What could not be trimmed is not cut off.
        world.tolerated = [...world.tolerated, 'usage'];
        await heads.resize(world, sizeBytes * 2);
        await write(world, sizeBytes, 5000);
        await trim(world, sizeBytes / BLOCK_BYTES, 2);
        await heads.resize(world, 700 * KIB);
      },
      async (world) => {
        await heads.resize(world, 900 * KIB);
        await write(world, 800 * KIB, 5000);
      },
    ),
    strides: [1, 1, 1],
  },
};

const CASES = [
  { title: 'EIO', outcome: 'EIO', lasting: false, tight: false },
  { title: 'ENOSPC', outcome: 'ENOSPC', lasting: false, tight: true },
  { title: 'ENOSPC from then on', outcome: 'ENOSPC', lasting: true, tight: false },
] as const;

/** A volume, not open, that was synced. */
async function synced(seed: number): Promise<World> {
  const world = await aged(seed);
  await world.reopen();
  await heads.sync(world);
  await world.close();
  return world;
}

async function sync(world: World): Promise<void> {
  await heads.sync(world);
}

describe('any single call that fails', () => {
  for (const [name, { operation, strides }] of Object.entries(WHOLE_DISK)) {
    it.each(CASES.map((each, index) => ({ ...each, stride: strides[index]!, index })))(
      `of ${name} costs neither the disk nor a snapshot ($title)`,
      async ({ tight, index, ...options }) => {
        limits.tight = tight;
        await simulate(1, async (seed) => {
          const failed = await failEach(await aged(seed + index), operation, options);
          expect(total(failed)).toBeGreaterThan(15);
        });
      },
      TIMEOUT_MS,
    );
  }

  it(
    'of the fdatasyncs of a collection costs nothing either when the machine stops soon after',
    async () => {
      // When snapshots lead to what the failed commit told of, and no root names their maps yet.
      const options = { outcome: 'EIO', only: 'sync', stopsAfter: 9 } as const;
      await simulate(3, async (seed) => {
        const failed = await failEach(await aged(seed), inUse(collect), options);
        expect(total(failed)).toBeGreaterThan(15);
      });
    },
    TIMEOUT_MS,
  );

  it.each(CASES)(
    'of a sync leaves a whole state on the remote, and the next sync finishes ($title)',
    async ({ tight, outcome, lasting }) => {
      limits.tight = tight;
      const syncing = { ...inUse(sync), check: heads.checkRemote };
      const options = { outcome, lasting, stride: tight || lasting ? 3 : 1 };
      await simulate(1, async (seed) => {
        expect(total(await failEach(await synced(seed), syncing, options))).toBeGreaterThan(15);
      });
    },
    TIMEOUT_MS,
  );

  it(
    'of an opening does not make a stranger of what was synced before',
    async () => {
      const run = async (world: World): Promise<void> => {
        await OPENINGS['opening']!(world);
        await sync(world);
      };
      const operation = { run, check: heads.checkRemote };
      await simulate(1, async (seed) => {
        const failed = await failEach(await synced(seed), operation, { outcome: 'EIO', stride: 2 });
        expect(total(failed)).toBeGreaterThan(15);
      });
    },
    TIMEOUT_MS,
  );

  it(
    'of a restore leaves what the next one goes on with',
    async () => {
      const restoring: Operation = {
        run: (world) => heads.restore(world, '/there'),
        check: async (world) => {
          await heads.restore(world, '/there').catch((error: unknown) => {
            if (!isChunkvolError(error, 'exists')) throw error;
          });
          await heads.checkRestored(world, '/there');
        },
      };
      await simulate(1, async (seed) => {
        const failed = await failEach(await synced(seed), restoring, { outcome: 'EIO' });
        expect(total(failed)).toBeGreaterThan(15);
      });
    },
    TIMEOUT_MS,
  );

  for (const [name, run] of Object.entries(OPENINGS)) {
    it.each([
      ['EIO', false],
      ['ENOSPC', true],
    ] as const)(
      `of ${name} costs nothing (%s, tight limits: %s)`,
      async (outcome, tight) => {
        limits.tight = tight;
        const origin = await grown(tight ? 2 : 1);
        origin.cutPower();
        expect(total(await failEach(origin, { run }, { outcome }))).toBeGreaterThan(30);
      },
      TIMEOUT_MS,
    );
  }

  it(
    'of a repair leaves what was there, and the next repair finishes',
    async () => {
      const origin = await grown(4);
      await origin.close();
      await origin.reopen();
      const [first, second] = origin.volume!.groups()[0]!.paths as [string, string];
      const sound = new Map([first, second].map((path) => [path, origin.files.peek(path)!]));
      origin.kill();
      origin.files.poke(first, null);
      const damaged = sound.get(second)!.slice();
      damaged[3000]! ^= 1;
      origin.files.poke(second, damaged);
      origin.ledger.forgetContents();
      const repair = async (world: World): Promise<void> => {
        const { context, slots } = world.volume!;
        await repairVolume(context, world.volume!.groups(), { slots });
      };
      for (let index = 0, reached = true; reached; index++) {
        const world = origin.fork(index, 'machine');
        const opened = await world.open();
        if (opened.kind !== 'worked') throw world.explained('cannot be opened');
        world.volume = opened.value;
        const state = failAt(world.files, index, { outcome: index % 2 ? 'EIO' : 'ENOSPC' });
        await repair(world).catch((error: unknown) => {
          if (!isChunkvolError(error, ...CLEAR)) throw error;
        });
        reached = state.kind !== null;
        world.files.onCall = () => 'works';
        await world.checkAll();
        await repair(world);
        for (const [path, bytes] of sound) {
          expect(Buffer.compare(world.files.peek(path)!, bytes), `call ${index}`).toBe(0);
        }
        world.files.halt();
      }
    },
    TIMEOUT_MS,
  );

  it('of creating a volume leaves one that opens, or none', async () => {
    let volumes = 0;
    for (let index = 0, reached = true; reached; index++) {
      const files = new SimulatedFiles(index);
      const random = new SimulatedRandomness(new Dice(index));
      const world = { files, clock: new SimulatedClock(), random, engine: chooseEngine() };
      const state = failAt(files, index, { outcome: index % 2 ? 'EIO' : 'ENOSPC' });
      const failed = await createVolume(world, FOLDER, {
        name: 'disk',
        sizeBytes: 1024 * KIB,
        geometry: makeGeometry(2, 1, 1024 * KIB, 4 * KIB),
        blockBytes: 4 * KIB,
        credential: keyFile,
      }).then(
        () => null,
        (error: unknown) => error,
      );
      reached = state.kind !== null;
      if (failed !== null) expect(isChunkvolError(failed, ...CLEAR)).toBe(true);
      files.onCall = () => 'works';
      const found = { ...world, files: files.afterPowerCut(index) };
      const unlocked = await unlock(found.files, FOLDER, keyFile).catch((error: unknown) => {
        expect(isChunkvolError(error, 'not-a-volume'), `call ${index}`).toBe(true);
        return null;
      });
      if (failed === null) expect(unlocked).not.toBeNull();
      if (!unlocked) continue;
      await (await openVolume(found, FOLDER, { unlocked })).close();
      volumes++;
    }
    expect(volumes).toBeGreaterThan(0);
  });
});
