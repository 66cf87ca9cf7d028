/** What is done to a volume while every crash, and every failure, is tried: see sweep.ts. */
import { KIB } from '../../src/base/bytes.js';
import { HEAD_WORKLOADS } from './head-workloads.js';
import type { Workload } from './sweep.js';
import type { World } from './world.js';
import { turn } from './turn.js';

const BLOCK = 4 * KIB;
const TEN_YEARS_MS = 10 * 365 * 86_400_000;

/** Writes, zeroes, trims, flushes, seals: whatever the dice say, and a clock that is set meanwhile. */
const anything: Workload = async (world, watch) => {
  await world.reopen();
  watch();
  for (let i = 0; i < 10; i++) {
    if (world.dice.chance(0.1)) world.clock.jump(world.dice.pick([-TEN_YEARS_MS, TEN_YEARS_MS]));
    await world.step();
  }
};

/** What a journalling file system does: the data, a flush, and a commit record that must not come first. */
const journal: Workload = async (world, watch) => {
  await world.reopen();
  watch();
  for (let transaction = 0; transaction < 5; transaction++) {
    for (let i = 0; i < 2; i++) await write(world, 64 + world.dice.below(100), 4);
    await write(world, 1 + (transaction % 8), 2);
    await world.flush();
    await write(world, 9 + (transaction % 8), 1, true);
    await write(world, 0, 1);
  }
  await world.flush();
};

/** Opening after a crash, with all that it finishes, removes and seals; and closing. */
const recovery: Workload = async (world, watch) => {
  await world.reopen();
  await write(world, 200, 30);
  await world.flush();
  const last = world.files.calls + 40 + world.dice.below(400);
  world.files.onCall = ({ index }) => (index >= last ? 'stop' : 'works');
  for (let i = 0; i < 30 && (await world.step()); i++);
  // Sealed to the last byte, there would be nothing to recover.
  if (await write(world, 300, 20)) await world.flush();
  world.cutPower();
  watch();
  await world.reopen();
  await world.close();
};

/** Seal after seal, some with nothing new, and a checkpoint between. */
const seals: Workload = async (world, watch) => {
  await world.reopen();
  watch();
  for (let i = 0; i < 3; i++) {
    await write(world, world.dice.below(300), 1 + world.dice.below(40));
    await world.seal();
    if (world.dice.chance(0.3)) await world.seal();
  }
  await world.close();
};

/** A disk that fails once, and a group that has to be given up for it. */
const failure: Workload = async (world, watch) => {
  await world.reopen();
  await write(world, 0, 10);
  await world.flush();
  const kind = world.dice.pick(['sync', 'write', 'rename', 'syncFolder', 'create'] as const);
  let left = world.dice.below(5);
  world.tolerated = ['io'];
  world.files.onCall = (call) => (call.kind === kind && left-- === 0 ? 'EIO' : 'works');
  watch();
  for (let i = 0; i < 12; i++) {
    await world.step();
    if (i % 3 === 0) await write(world, world.dice.below(400), 5);
    if (i % 6 === 0) await world.seal();
  }
  world.files.onCall = () => 'works';
  await world.flush();
  world.tolerated = [];
};

/** A group that is given up before anything in it is durable, and cannot be removed: it has a twin from then on. */
const twins: Workload = async (world, watch) => {
  await world.reopen();
  await write(world, 0, 4);
  await world.seal();
  let births = world.shape.data + world.shape.parity;
  world.tolerated = ['io'];
  world.files.onCall = ({ kind, path }) => {
    const isFirst = kind === 'sync' && births-- === 0;
    const isRemoval = births < 0 && kind === 'rename' && path.endsWith('.open');
    return isFirst || isRemoval ? 'EIO' : 'works';
  };
  watch();
  await write(world, 10, 20);
  await world.flush();
  await write(world, 20, 5);
  await world.flush();
  world.files.onCall = () => 'works';
  world.tolerated = [];
  await write(world, 100, 2);
  await world.flush();
};

/** A machine that stopped when a group was born and nothing was in it yet; and what becomes of that group. */
const newborn: Workload = async (world, watch) => {
  await world.reopen();
  await write(world, 0, 4);
  await world.seal();
  let births = world.shape.data + world.shape.parity;
  world.files.onCall = ({ kind }) => (kind === 'write' && births-- === 0 ? 'stop' : 'works');
  await write(world, 10, 20);
  await world.flush();
  world.cutPower();
  watch();
  await world.reopen();
  await write(world, 30, 2);
  await world.flush();
};

/** Several that write and flush, each on its own: one's commit comes while another's fdatasync runs. */
const rivals: Workload = async (world, watch) => {
  await world.reopen();
  watch();
  const rival = async (lane: number): Promise<void> => {
    for (let i = 0; i < 5; i++) {
      // In step with each other they would all be one commit.
      for (let turns = world.dice.below(12); turns > 0; turns--) await turn();
      await write(world, lane * 120 + world.dice.below(100), 1 + world.dice.below(4));
      await world.flush();
    }
  };
  await Promise.all([0, 1, 2].map(rival));
};

/** Another writer's folder: what was copied by hand is opened, and goes on as a volume of its own. */
const copied: Workload = async (world, watch) => {
  await world.reopen();
  for (let i = 0; i < 8; i++) await world.step();
  await world.flush();
  world.kill();
  world.files = world.files.copied(world.dice.next(), 'another machine');
  watch();
  await world.reopen();
  await write(world, 5, 3);
  await world.flush();
  await world.close();
};

export const WORKLOADS: Readonly<Record<string, Workload>> = {
  anything,
  journal,
  recovery,
  seals,
  failure,
  twins,
  newborn,
  rivals,
  copied,
  ...HEAD_WORKLOADS,
};

/** False when the machine stopped. */
function write(world: World, block: number, count: number, durable = false): Promise<boolean> {
  const data = world.dice.bytes(count * BLOCK);
  return world.change({ offset: block * BLOCK, bytes: data.length, data, trim: false, durable });
}
