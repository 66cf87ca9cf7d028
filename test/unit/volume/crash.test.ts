/**
 * Crashes and failing disks, by the hundred: random work on simulated files, against an oracle.
 *
 * A failure names the seed of its world, and `CHUNKVOL_SIM_FIRST=<seed> CHUNKVOL_SIM_SEEDS=1` replays
 * it. CHUNKVOL_SIM_SEEDS alone sets how many worlds each test looks at, for a longer run.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { alignDown, KIB, MIB } from '../../../src/base/bytes.js';
import { LogEnd } from '../../../src/volume/log-end.js';
import { simulate } from '../../simulation/simulate.js';
import type { CallKind, Outcome } from '../../simulation/files.js';
import { FOLDER, SHAPES, World, type Shape } from '../../simulation/world.js';

const BLOCK = 4 * KIB;

/** A buffer of the real size, made anew for each of so many volumes, would take most of the time. */
vi.mock('../../../src/volume/limits.js', async (original) => ({
  ...(await original<object>()),
  MIN_RESERVE_BYTES: 1024 * 1024,
  STAGING_BYTES: 4 * 1024 * 1024,
}));

/** A loop that waits for nothing would stop the whole test run: it is ended with an error instead. */
const MAX_ROUNDS = 10_000;

const sync: (this: LogEnd) => Promise<boolean> = Reflect.get<LogEnd, 'sync'>(
  LogEnd.prototype,
  'sync',
);

beforeEach(() => {
  let rounds = 0;
  // No spy: it would keep every volume that it has seen.
  LogEnd.prototype.sync = async function (this: LogEnd): Promise<boolean> {
    if (++rounds > MAX_ROUNDS) throw new Error('flush goes round and round');
    setImmediate(() => (rounds = 0));
    return sync.call(this);
  };
});

afterEach(() => {
  LogEnd.prototype.sync = sync;
});

/** Lets the machine stop at a call that the dice choose among the next ones. */
function stopWithin(world: World, calls: number): void {
  const last = world.files.calls + world.dice.below(calls);
  world.files.onCall = ({ index }) => (index >= last ? 'stop' : 'works');
}

function crash(world: World): void {
  if (world.dice.chance(0.25)) world.kill();
  else world.cutPower();
}

/** Recovers, as often interrupted as the dice want it. */
async function recover(world: World): Promise<void> {
  const { dice } = world;
  while (dice.chance(0.4)) {
    stopWithin(world, 80);
    const opened = await world.open();
    if (opened.kind === 'failed') throw opened.error;
    crash(world);
  }
  const seen = dice.chance(0.25) ? await world.readWithoutTouching() : null;
  await world.reopen();
  for (const [block, bytes] of seen ?? []) world.oracle.check(block, bytes);
}

async function finish(world: World): Promise<void> {
  const closed = await world.close();
  if (closed.kind === 'failed') throw world.explained(closed.error);
  const left = world.files.paths(`${FOLDER}/chunks`).filter((path) => path.includes('.'));
  expect(left, world.explained('files are left behind').message).toEqual([]);
  await checkSyncedCopy(world);
  await world.reopen();
  await world.checkAll();
  await world.close();
}

/** What a sync brings to another place: published files alone. It must be all of a closed volume. */
async function checkSyncedCopy(world: World): Promise<void> {
  const copy = world.fork(world.dice.next(), 'remote');
  for (const path of copy.files.paths(FOLDER)) {
    if (!/\/(?:chunks|roots|keys)\/[0-9a-f]{32}$/.test(path)) copy.files.poke(path, null);
  }
  await copy.reopen();
}

/** False when the machine stopped. */
async function workUntilCrash(world: World, steps: number): Promise<boolean> {
  for (let i = 0; i < steps; i++) if (!(await world.step())) return false;
  return true;
}

function nameOf(shape: Shape): string {
  return `${shape.data}+${shape.parity}`;
}

async function crashes(
  seed: number,
  shape: Shape,
  threads: World['threads'] = 'none',
): Promise<void> {
  const world = await World.create(seed, shape);
  world.threads = threads;
  await world.reopen();
  for (let round = 0; round < 3; round++) {
    stopWithin(world, 600);
    await workUntilCrash(world, 30);
    crash(world);
    await recover(world);
  }
  await workUntilCrash(world, 5);
  await finish(world);
}

/** Makes a few calls of the next ones fail. */
function failSome(world: World, kinds: readonly CallKind[], outcomes: readonly Outcome[]): void {
  const { dice } = world;
  const faults = Array.from({ length: 1 + dice.below(3) }, () => ({
    kind: dice.pick(kinds),
    left: dice.below(dice.pick([5, 40, 200])),
    outcome: dice.pick(outcomes),
  }));
  const stopAt = world.files.calls + dice.below(2000);
  world.files.onCall = ({ kind, index }) => {
    if (index >= stopAt) return 'stop';
    for (const fault of faults) if (fault.kind === kind && fault.left-- === 0) return fault.outcome;
    return 'works';
  };
}

/** Opens on a disk that may fail once more, until it does not. */
async function openAtLast(world: World): Promise<void> {
  for (;;) {
    const opened = await world.open();
    if (opened.kind === 'worked') {
      const adopted = await world.attempt(() => world.adopt(opened.value));
      if (adopted.kind === 'worked') return;
      if (adopted.kind === 'failed') world.tolerate(adopted.error);
    }
    if (opened.kind === 'failed') world.tolerate(opened.error);
    world.volume = null;
    world.files.onCall = () => 'works';
    crash(world);
  }
}

async function faults(
  seed: number,
  shape: Shape,
  kinds: readonly CallKind[],
  threads: World['threads'] = 'none',
): Promise<void> {
  const world = await World.create(seed, shape);
  world.threads = threads;
  await world.reopen();
  for (let round = 0; round < 3; round++) {
    // Where there is no parity, a read that fails is an error for whoever asked.
    world.tolerated = kinds.some((kind) => kind === 'read' || kind === 'open')
      ? ['io', 'lost']
      : ['io'];
    // Who seals is told that it did not succeed.
    if (threads === 'failing') world.tolerated = ['io', 'internal'];
    failSome(world, kinds, ['EIO']);
    await workUntilCrash(world, 25);
    const goesOn = world.dice.chance(0.4);
    if (goesOn && world.dice.chance(0.5)) {
      const closed = await world.close();
      if (closed.kind === 'failed') world.tolerate(closed.error);
    }
    crash(world);
    // Nor can a volume that cannot be read be opened; that it is said is enough.
    world.tolerated = ['io', 'lost', 'damaged', 'flushed-data-missing'];
    failSome(world, kinds, world.dice.chance(0.5) ? ['EIO'] : ['works']);
    // In the end nothing fails any more.
    if (round === 2 && threads === 'failing') world.threads = 'sound';
    await openAtLast(world);
    world.files.onCall = () => 'works';
    world.tolerated = [];
  }
  await workUntilCrash(world, 5);
  world.cutPower();
  await world.reopen();
  await finish(world);
}

/** A day's work: flushed and not, sealed and going on, enough to fill groups. */
async function work(world: World): Promise<void> {
  const { dice } = world;
  const write = async (offset: number, bytes: number): Promise<boolean> =>
    world.change({ offset, bytes, data: dice.bytes(bytes), trim: false, durable: false });
  await write(0, 150_000);
  await world.flush();
  await write(100_000, 300_000);
  await world.change({ offset: 8192, bytes: 65536, data: null, trim: true, durable: false });
  await world.seal();
  await write(50_000, 200_000);
  await Promise.all([write(600_000, 250_000), world.flush(), write(900_000, 250_000)]);
  await write(0, 400_000);
  await world.seal();
  await write(300_000, 100_000);
  await world.flush();
  await write(700_000, 100_000);
}

/** The same work again and again, each time with another call that fails; in the end with none. */
async function failEach(kind: CallKind, shape: Shape): Promise<void> {
  for (let index = 0, hit = true; hit; index++) {
    const world = await World.create(index, shape);
    await world.reopen();
    let left = index;
    world.tolerated = ['io'];
    world.files.onCall = (call) => (call.kind === kind && left-- === 0 ? 'EIO' : 'works');
    await work(world);
    const closed = world.dice.chance(0.5) ? await world.close() : null;
    if (closed?.kind === 'failed') world.tolerate(closed.error);
    hit = left < 0;
    world.cutPower();
    world.tolerated = [];
    try {
      await world.reopen();
      await workUntilCrash(world, 2);
      await finish(world);
    } catch (error) {
      throw new Error(`${kind} ${index}: ${world.explained(error).message}`, { cause: error });
    }
  }
}

/** A disk that fills up, stays full, and is cleared up again. */
async function fullDisk(seed: number, shape: Shape): Promise<void> {
  const world = await World.create(seed, shape);
  const { dice } = world;
  await world.reopen();
  for (let round = 0; round < 2; round++) {
    world.tolerated = ['no-space'];
    world.files.capacityBytes = world.files.usedBytes + dice.below(dice.pick([1, 8, 24]) * MIB);
    if (dice.chance(0.3)) failSome(world, ['write', 'create'], ['ENOSPC']);
    const works = (await workUntilCrash(world, 20)) && (await stayFull(world));
    world.files.onCall = () => 'works';
    if (!works || dice.chance(0.3)) {
      crash(world);
      await world.reopen();
    }
    world.files.capacityBytes = Infinity;
    world.tolerated = [];
    world.clock.advance(1000);
    await world.flush();
    await world.checkAll();
    crash(world);
    await world.reopen();
  }
  await finish(world);
}

/** False when the machine stopped. */
async function stayFull(world: World): Promise<boolean> {
  const { dice } = world;
  world.files.capacityBytes = world.files.usedBytes + dice.below(100_000);
  world.clock.advance(1000);
  if (!(await workUntilCrash(world, 10))) return false;
  world.files.onCall = () => 'works';
  // Room is not needed to trim, nor to read.
  world.tolerated = [];
  const trimmed = { ...world.drawChange(), data: null, trim: true, durable: false };
  await world.change({ ...trimmed, offset: alignDown(trimmed.offset, BLOCK), bytes: 16 * BLOCK });
  await world.checkAll();
  world.tolerated = ['no-space'];
  return world.flush();
}

/** Many worlds a test; seconds on a quiet machine. */
const TIMEOUT_MS = 180_000;

describe('a crash at any moment', () => {
  for (const shape of SHAPES) {
    it(
      `leaves a state that was, with all that was flushed (${nameOf(shape)})`,
      async () => {
        await simulate(20, (seed) => crashes(seed, shape));
      },
      TIMEOUT_MS,
    );
  }
});

describe('a disk that fails', () => {
  const kinds: readonly (readonly CallKind[])[] = [
    ['sync'],
    ['write'],
    ['rename', 'syncFolder'],
    ['create', 'open', 'remove', 'truncate', 'stat', 'list'],
    ['read'],
    ['sync', 'write', 'rename', 'syncFolder', 'create', 'remove', 'truncate'],
  ];
  for (const some of kinds) {
    it(
      `never costs what was flushed (${some.join(', ')})`,
      async () => {
        await simulate(12, (seed) => faults(seed, SHAPES[seed % SHAPES.length]!, some));
      },
      TIMEOUT_MS,
    );
  }
});

describe('work that other threads have taken', () => {
  for (const shape of SHAPES) {
    it(
      `is done before anybody relies on it (${nameOf(shape)})`,
      async () => {
        await simulate(10, (seed) => crashes(seed, shape, 'sound'));
      },
      TIMEOUT_MS,
    );
  }
  for (const threads of ['sound', 'failing'] as const) {
    it(
      `costs nothing when the disk fails beside it (${threads} threads)`,
      async () => {
        const kinds: readonly CallKind[] = ['sync', 'write'];
        await simulate(12, (seed) => faults(seed, SHAPES[seed % SHAPES.length]!, kinds, threads));
      },
      TIMEOUT_MS,
    );
  }
});

describe('any single call that fails', () => {
  for (const kind of ['sync', 'write', 'rename', 'syncFolder'] as const) {
    it(
      `costs nothing that was flushed (${kind})`,
      async () => {
        await failEach(kind, kind === 'write' ? SHAPES[2]! : SHAPES[1]!);
      },
      TIMEOUT_MS,
    );
  }
});

describe('a full disk', () => {
  for (const shape of SHAPES) {
    it(
      `costs nothing that was acknowledged (${nameOf(shape)})`,
      async () => {
        await simulate(10, (seed) => fullDisk(seed, shape));
      },
      TIMEOUT_MS,
    );
  }
});

describe('a disk that is nearly full', () => {
  it('refuses writes while it has room for all that was acknowledged', async () => {
    await simulate(6, async (seed) => {
      const world = await World.create(seed, SHAPES[0]!);
      await world.reopen();
      const { volume, dice, files, clock } = world;
      files.capacityBytes = files.usedBytes + (12 + dice.below(8)) * MIB;
      const write = async (): Promise<void> => {
        for (let i = 0; i < 1000; i++) {
          const bytes = dice.bytes(64 * KIB);
          await volume!.write(
            dice.below(SHAPES[0]!.sizeBytes / bytes.length) * bytes.length,
            bytes,
          );
          if (dice.chance(0.1)) clock.advance(300);
        }
      };
      await expect(write()).rejects.toMatchObject({ code: 'no-space' });
      await volume!.flush();
      files.halt();
    });
  });
});

describe('what only the log tells of', () => {
  it('is in the next root, also when no block has changed', async () => {
    await simulate(6, async (seed) => {
      const world = await World.create(seed, SHAPES[seed % SHAPES.length]!);
      await world.reopen();
      for (let i = 0; i < 5; i++) await world.step();
      await world.volume!.sealNow();
      await world.volume!.createSnapshot('late');
      world.kill();
      await world.reopen();
      const { root } = await world.volume!.sealNow();
      expect(root.snapshots.map(({ name }) => name)).toEqual(['late']);
      await world.close();
    });
  });
});

describe('what the kernel only seems to have written', () => {
  it('is durable once it was recovered', async () => {
    let found = 0;
    for (let seed = 1; seed <= 20; seed++) {
      const world = await World.create(seed, SHAPES[3]!);
      await world.reopen();
      await writeBlock(world, 0);
      await world.flush();
      await writeBlock(world, 44);
      // The process is killed between the fdatasync that failed and what it does about it.
      let failed = false;
      world.files.onCall = ({ kind }) => {
        if (failed) return 'stop';
        failed = kind === 'sync';
        return failed ? 'EIO' : 'works';
      };
      await world.flush();
      world.kill();
      await world.reopen();
      // Now and then the kernel shows it still.
      if ((await world.volume!.status()).mappedBytes === 2 * BLOCK) found++;
      world.cutPower();
      await world.reopen();
    }
    expect(found).toBeGreaterThan(3);
    expect(found).toBeLessThan(20);
  });
});

describe('commits of a group that was given up for another one', () => {
  it('do not come back when they were cut off once, and the other one held nothing', async () => {
    const world = await World.create(1, SHAPES[3]!);
    await world.reopen();
    await writeBlock(world, 0);
    await world.flush();
    await writeBlock(world, 44);
    // The seal writes what is staged, what lies ahead of it, and fails with its own commit.
    let writes = 0;
    world.files.onCall = ({ kind }) => (kind === 'write' && ++writes === 3 ? 'EIO' : 'works');
    const found: World[] = [];
    world.files.onEffect = ({ kind, path }) => {
      if (kind !== 'rename' || !path.endsWith('.new') || found.length > 0) return;
      for (let seed = 1; seed <= 10; seed++) {
        found.push(world.fork(seed, world.files.machine, world.files.afterKill(seed)));
      }
    };
    await world.seal();

    expect(found.length).toBe(10);
    for (const fork of found) {
      await fork.reopen();
      // Nobody was told that the block is durable, and it is not there.
      expect((await fork.volume!.status()).mappedBytes).toBe(BLOCK);
      // The next crash comes before the group is sealed, or after.
      fork.kill();
      await fork.reopen();
    }
  });
});

function writeBlock(world: World, block: number): Promise<boolean> {
  const data = world.dice.bytes(BLOCK);
  return world.change({ offset: block * BLOCK, bytes: BLOCK, data, trim: false, durable: false });
}
