/**
 * Each operation again and again, each time with another call that fails: creation, opening after a crash,
 * writing, sealing, closing, repair. Whatever fails, nothing that was flushed is lost, no byte is wrong,
 * and the volume opens when the disk works again.
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
import { SimulatedFiles, type Outcome } from '../../simulation/files.js';
import { limits } from '../../simulation/limits.js';
import { FOLDER, SHAPES, World } from '../../simulation/world.js';
import { keyFile } from '../../support/volumes.js';

vi.mock('../../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

afterEach(() => {
  limits.tight = false;
});

const TIMEOUT_MS = 120_000;

/** What an operation under a failing disk may end with. */
const CLEAR = ['io', 'no-space', 'lost', 'damaged', 'flushed-data-missing'] as const;

function failAt(files: SimulatedFiles, index: number, outcome: Outcome): { reached: boolean } {
  const state = { reached: false };
  const at = files.calls + index;
  files.onCall = (call) => {
    if (call.index !== at) return 'works';
    state.reached = true;
    return outcome;
  };
  return state;
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

async function write(world: World, offset: number, bytes: number): Promise<boolean> {
  const data = world.dice.bytes(bytes);
  return world.change({ offset, bytes, data, trim: false, durable: false });
}

/** `operation` on a copy of the same crashed world, each time with another call that fails. */
async function failEach(
  origin: World,
  operation: (world: World) => Promise<void>,
  outcome: Outcome,
): Promise<number> {
  for (let index = 0; ; index++) {
    const world = origin.fork(index, 'machine', origin.files.afterKill(index));
    const { reached } = await tryOnce(world, index, operation, outcome).catch((error: unknown) => {
      throw new Error(`call ${index}: ${world.explained(error).message}`, { cause: error });
    });
    world.files.halt();
    if (!reached) return index;
  }
}

async function tryOnce(
  world: World,
  index: number,
  operation: (world: World) => Promise<void>,
  outcome: Outcome,
): Promise<{ reached: boolean }> {
  const state = failAt(world.files, index, outcome);
  world.tolerated = CLEAR;
  const done = await world.attempt(() => operation(world));
  if (done.kind === 'failed') world.tolerate(done.error);
  world.files.onCall = () => 'works';
  world.tolerated = [];
  if (world.dice.chance(0.5)) world.cutPower();
  else world.kill();
  await world.reopen();
  await write(world, 10_000, 5000);
  await world.flush();
  await world.checkAll();
  return state;
}

const OPERATIONS: Readonly<Record<string, (world: World) => Promise<void>>> = {
  opening: async (world) => {
    const opened = await world.open();
    if (opened.kind === 'failed') throw opened.error;
    if (opened.kind === 'worked') await world.adopt(opened.value);
  },
  'opening, writing and sealing': async (world) => {
    await OPERATIONS['opening']!(world);
    await write(world, 0, 20_000);
    await world.flush();
    await write(world, 50_000, 90_000);
    await world.seal();
    await world.close();
  },
};

describe('any single call that fails', () => {
  for (const [name, operation] of Object.entries(OPERATIONS)) {
    it.each([
      ['EIO', false],
      ['ENOSPC', true],
    ] as const)(
      `of ${name} costs nothing (%s, tight limits: %s)`,
      async (outcome, tight) => {
        limits.tight = tight;
        const origin = await grown(tight ? 2 : 1);
        origin.cutPower();
        expect(await failEach(origin, operation, outcome)).toBeGreaterThan(30);
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
        const state = failAt(world.files, index, index % 2 ? 'EIO' : 'ENOSPC');
        await repair(world).catch((error: unknown) => {
          if (!isChunkvolError(error, ...CLEAR)) throw error;
        });
        ({ reached } = state);
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
      const state = failAt(files, index, index % 2 ? 'EIO' : 'ENOSPC');
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
      ({ reached } = state);
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
