/**
 * Files that are lost, cut short or changed behind a volume's back, and folders that are copied: what
 * can be had is had, what was flushed is never dropped without a word, and no byte is wrong.
 */
import { describe, expect, it, vi } from 'vitest';
import { isChunkvolError } from '../../../src/base/errors.js';
import { readRoots } from '../../../src/store/root-files.js';
import { Dice } from '../../simulation/dice.js';
import { SimulatedFiles } from '../../simulation/files.js';
import * as heads from '../../simulation/heads.js';
import { FOLDER, SHAPES, World, type Shape } from '../../simulation/world.js';
import { simulate } from '../../simulation/simulate.js';

vi.mock('../../../src/volume/limits.js', async (original) => ({
  ...(await original<object>()),
  STAGING_BYTES: 4 * 1024 * 1024,
}));

const HEADER_BYTES = 512;

function nameOf(shape: Shape): string {
  return `${shape.data}+${shape.parity}`;
}

/** A volume with some past, open, all of it flushed and an open group behind it. */
async function makeWorld(seed: number, shape: Shape, steps: number): Promise<World> {
  const world = await World.create(seed, shape);
  await world.reopen();
  for (let i = 0; i < steps; i++) await world.step();
  await world.flush();
  return world;
}

type Damage = (bytes: Uint8Array, from: number, dice: Dice) => Uint8Array | null;

/** What can happen to a file behind byte `from` of it. */
const DAMAGES: Readonly<Record<string, Damage>> = {
  missing: () => null,
  truncated: (bytes, from, dice) => bytes.slice(0, from + dice.below(bytes.length - from)),
  changed: (bytes, from, dice) => {
    const copy = bytes.slice();
    const at = from + dice.below(bytes.length - from);
    copy[at]! ^= 1 << dice.below(8);
    return copy;
  },
};

/** Flushed data in an open group, a later commit that knows of it, and then damage to a data file. */
async function damageOpenGroup(seed: number, shape: Shape, damage: Damage): Promise<void> {
  const world = await makeWorld(seed, shape, 12);
  const { dice } = world;
  // The open group holds this at least, and what tells of it: the damage spares the last commit.
  await world.change({ ...world.drawChange(), data: dice.bytes(40_000), bytes: 40_000, offset: 0 });
  await world.flush();
  const flushed = new Map(openFiles(world, shape).map((path) => [path, world.files.peek(path)!]));
  const before = world.oracle.copy();
  const last = { offset: 0, bytes: 150_000, data: dice.bytes(150_000), trim: false, durable: true };
  before.announce(last.offset, last.bytes, last.data);
  await world.change(last);
  world.kill();
  const victims = world.files.paths(`${FOLDER}/chunks`).filter((path) => {
    const earlier = flushed.get(path) ?? new Uint8Array(0);
    // A file that is cut short must not be the one that would have told of it. Its length says nothing of
    // that: files run ahead of the log.
    const isWritten = Buffer.compare(world.files.peek(path)!, earlier) !== 0;
    return earlier.length > HEADER_BYTES && !(isWritten && damage === DAMAGES['truncated']);
  });
  if (victims.length === 0) return;
  const path = dice.pick(victims);
  const whole = world.files.peek(path)!;
  const reach = whole.slice(0, flushed.get(path)!.length);
  const left = damage(reach, dice.chance(0.1) ? 0 : HEADER_BYTES, dice);
  const rest = whole.slice(reach.length);
  world.files.poke(path, left && left.length === reach.length ? join(left, rest) : left);
  await demandWarning(world, before);
}

/** The data files of groups that are not sealed. */
function openFiles(world: World, { data }: Shape): string[] {
  const open = world.volume!.groups().filter(({ state }) => state !== 'sealed');
  return open.flatMap(({ paths }) => paths.slice(0, data));
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.concat([a, b]));
}

/**
 * Opening says that flushed data are missing and changes nothing, unless all is there after all. Reading
 * what there is works; accepting the loss gives an older state that can be worked with.
 */
async function demandWarning(world: World, flushed: World['oracle']): Promise<void> {
  const untouched = world.files.snapshot(FOLDER);
  const opened = await world.open();
  if (opened.kind === 'worked') {
    world.oracle = flushed;
    const read = await world.attempt(() => world.adopt(opened.value));
    // Damage to what no recovery has to look at is met by whoever reads it.
    if (read.kind === 'failed' && !isChunkvolError(read.error, 'lost')) throw read.error;
    return;
  }
  if (opened.kind === 'failed' && !isChunkvolError(opened.error, 'flushed-data-missing')) {
    throw opened.error;
  }
  expect(world.files.snapshot(FOLDER)).toEqual(untouched);
  const reader = world.fork(world.dice.next(), 'machine');
  const onlyRead = await reader.open({ readOnly: true });
  if (onlyRead.kind !== 'worked') throw reader.explained('cannot be opened to read');
  await reader.adopt(onlyRead.value, true);
  await onlyRead.value.close();
  expect(reader.files.snapshot(FOLDER)).toEqual(untouched);
  const accepted = await world.open({ tolerance: 'loss' });
  if (accepted.kind === 'failed') throw world.explained(accepted.error);
  if (accepted.kind !== 'worked') return;
  await world.adopt(accepted.value, true);
  for (let i = 0; i < 6; i++) await world.step();
  if (world.dice.chance(0.5)) await world.close();
  world.cutPower();
  await world.reopen();
  const closed = await world.close();
  if (closed.kind === 'failed') throw world.explained(closed.error);
  await world.reopen();
}

describe('a data file of an open group', () => {
  for (const [name, damage] of Object.entries(DAMAGES)) {
    it(`that is ${name} is told of, and changes nothing`, async () => {
      // Where a group is a single file, nothing is left to tell what was there.
      const shapes = name === 'changed' ? SHAPES : SHAPES.filter(({ data }) => data > 1);
      await simulate(16, (seed) => damageOpenGroup(seed, shapes[seed % shapes.length]!, damage));
    });
  }
});

describe('the roots', () => {
  it('are taken from their replicas when the folder is empty', async () => {
    await simulate(12, async (seed) => {
      const world = await makeWorld(seed, SHAPES[seed % SHAPES.length]!, 15);
      if (world.dice.chance(0.5)) await world.step();
      if ((await world.close()).kind !== 'worked') throw new Error('cannot be closed');
      world.kill();
      for (const path of world.files.paths(`${FOLDER}/roots`)) world.files.poke(path, null);
      await world.reopen();
      await world.close();
      await world.reopen();
      expect(world.files.paths(`${FOLDER}/roots`).length).toBeGreaterThan(0);
    });
  });

  it('may be damaged, any one of them', async () => {
    await simulate(4, async (seed) => {
      const world = await makeWorld(seed, SHAPES[seed % SHAPES.length]!, 10);
      await world.volume!.sealNow();
      for (let i = 0; i < 10; i++) await world.step();
      await world.flush();
      if (world.dice.chance(0.5)) await world.close();
      world.kill();
      for (const path of world.files.paths(`${FOLDER}/roots`)) {
        for (const damage of Object.values(DAMAGES)) {
          const twin = world.fork(world.dice.next(), 'machine');
          twin.files.poke(path, damage(twin.files.peek(path)!, 0, world.dice));
          twin.ledger.forgetContents();
          await twin.reopen();
        }
      }
    });
  });
});

describe('roots after a sync, of which the newest are gone', () => {
  it.each(Object.entries(DAMAGES))(
    'make no stranger of the volume to its remote (%s)',
    async (_, damage) => {
      await simulate(10, async (seed) => {
        const world = await makeWorld(seed, SHAPES[seed % SHAPES.length]!, 10);
        const { dice } = world;
        await heads.sync(world);
        for (let i = 0; i < 10; i++) await world.step();
        await heads.sync(world);
        const { context } = world.volume!;
        if (dice.chance(0.5)) await world.close();
        world.kill();
        const { roots } = await readRoots({ ...context, files: world.files });
        for (const { name } of roots.slice(0, 1 + dice.below(roots.length))) {
          const path = `${FOLDER}/roots/${name}`;
          world.files.poke(path, damage(world.files.peek(path)!, 0, dice));
        }
        world.ledger.forgetContents();
        await world.reopen();
        await heads.checkRemote(world);
      });
    },
  );
});

describe('sealed groups', () => {
  for (const shape of SHAPES.filter(({ parity }) => parity > 0)) {
    it(`give right bytes with any ${shape.parity} of their files lost or damaged (${nameOf(shape)})`, async () => {
      await simulate(8, async (seed) => {
        const world = await makeWorld(seed, shape, 15);
        if ((await world.close()).kind !== 'worked') throw new Error('cannot be closed');
        await world.reopen();
        const groups = world.volume!.groups().map(({ paths }) => [...paths]);
        world.kill();
        for (const paths of groups) {
          for (let i = 0; i < shape.parity; i++) {
            const [path] = paths.splice(world.dice.below(paths.length), 1);
            const damage = world.dice.pick(Object.values(DAMAGES));
            world.files.poke(path!, damage(world.files.peek(path!)!, 0, world.dice));
          }
        }
        world.ledger.forgetContents();
        await world.reopen();
        for (let i = 0; i < 4; i++) await world.step();
        await world.close();
        await world.reopen();
      });
    });
  }

  it('are never left out without a word when more is lost', async () => {
    await simulate(8, async (seed) => {
      const shape = SHAPES[seed % SHAPES.length]!;
      const world = await makeWorld(seed, shape, 15);
      await world.close();
      await world.reopen();
      const paths = [...world.dice.pick(world.volume!.groups()).paths];
      world.kill();
      for (let i = 0; i <= shape.parity; i++) {
        world.files.poke(paths.splice(world.dice.below(paths.length), 1)[0]!, null);
      }
      const untouched = world.files.snapshot(FOLDER);
      const opened = await world.open();
      if (opened.kind === 'worked') {
        // Some of the files held nothing but their header.
        await world.adopt(opened.value);
        return;
      }
      expect(
        isChunkvolError(opened.kind === 'failed' && opened.error, 'lost', 'flushed-data-missing'),
      ).toBe(true);
      expect(world.files.snapshot(FOLDER)).toEqual(untouched);
    });
  });
});

describe('a copied folder', () => {
  it('and its original are both written, each on its own', async () => {
    await simulate(8, async (seed) => {
      const world = await makeWorld(seed, SHAPES[seed % SHAPES.length]!, 15);
      // The second is what the snapshot of a virtual machine brings back: nothing tells it from the first.
      const copies = [world.fork(seed + 1, 'another machine'), world.fork(seed + 2, 'machine')];
      for (const copy of copies) await copy.reopen();
      for (let i = 0; i < 12; i++) for (const each of [world, ...copies]) await each.step();
      for (const each of [world, ...copies]) {
        each.cutPower();
        await each.reopen();
        const closed = await each.close();
        if (closed.kind === 'failed') throw each.explained(closed.error);
        await each.reopen();
      }
    });
  });

  it('opens although it was copied file by file under load', async () => {
    await simulate(12, async (seed) => {
      const world = await makeWorld(seed, SHAPES[seed % SHAPES.length]!, 15);
      const files = new SimulatedFiles(seed);
      files.machine = 'another machine';
      for (const folder of ['chunks', 'roots', 'keys', 'local']) {
        await files.makeFolder(`${FOLDER}/${folder}`);
      }
      const listed = world.files.paths(FOLDER).sort(() => world.dice.below(3) - 1);
      for (const path of listed) {
        files.poke(path, world.files.peek(path));
        if (world.dice.chance(0.4)) await world.step();
      }
      const copy = world.fork(seed + 1, 'another machine', files);
      copy.ledger.forgetContents();
      const opened = await copy.open();
      if (opened.kind !== 'worked') throw copy.explained(opened.kind === 'failed' && opened.error);
      await copy.adopt(opened.value, true);
      for (let i = 0; i < 8; i++) await copy.step();
      copy.cutPower();
      await copy.reopen();
      const closed = await copy.close();
      if (closed.kind === 'failed') throw copy.explained(closed.error);
    });
  });

  it('opens at a state before a group that did not come along whole', async () => {
    let opened = 0;
    await simulate(24, async (seed) => {
      const shape = SHAPES[seed % SHAPES.length]!;
      const world = await makeWorld(seed, shape, 10);
      for (let i = 0; i < 3; i++) {
        await world.volume!.sealNow();
        for (let k = 0; k < 5; k++) await world.step();
      }
      const copy = world.fork(seed + 1, 'another machine');
      const sealed = world.volume!.groups().filter(({ state }) => state === 'sealed');
      const paths = [...copy.dice.pick(sealed).paths];
      for (let i = 0; i <= shape.parity; i++) {
        copy.files.poke(paths.splice(copy.dice.below(paths.length), 1)[0]!, null);
      }
      copy.ledger.forgetContents();
      const result = await copy.open();
      if (result.kind !== 'worked') {
        const error = result.kind === 'failed' && result.error;
        if (isChunkvolError(error, 'lost')) return;
        throw copy.explained(error);
      }
      opened++;
      await copy.adopt(result.value, true);
      for (let i = 0; i < 8; i++) await copy.step();
      copy.cutPower();
      await copy.reopen();
      const closed = await copy.close();
      if (closed.kind === 'failed') throw copy.explained(closed.error);
      await copy.reopen();
    });
    expect(opened, 'copies that could be opened').toBeGreaterThan(6);
  });
});
