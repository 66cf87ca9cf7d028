/**
 * What is done to a volume as a whole while every crash is tried: snapshots, rollbacks, changes of size,
 * collections, syncs. See sweep.ts.
 */
import { write as writeBytes, trim } from './each-call.js';
import * as heads from './heads.js';
import type { Workload } from './sweep.js';
import { BLOCK_BYTES, type World } from './world.js';
import { turn } from './turn.js';

/** Snapshots that come and go, and a disk that goes back to one and forth again. */
const snapshots: Workload = async (world, watch) => {
  await world.reopen();
  await write(world, 0, 40);
  watch();
  await heads.snapshot(world, 'first');
  await write(world, 20, 30);
  await world.flush();
  await write(world, 45, 10);
  await heads.snapshot(world, 'second');
  await heads.rollback(world, 'first', 'kept');
  await write(world, 10, 5);
  await heads.deleteSnapshots(world, ['first', 'second']);
  await heads.rollback(world, 'kept', 'kept as well');
  await world.seal();
  await heads.deleteSnapshots(world, ['kept']);
};

/** A disk that grows and shrinks, with snapshots of other sizes. */
const sizes: Workload = async (world, watch) => {
  await world.reopen();
  const { sizeBytes } = world.volume!;
  await write(world, 0, 30);
  await heads.snapshot(world, 'small');
  watch();
  await heads.resize(world, sizeBytes * 2);
  await write(world, sizeBytes / BLOCK_BYTES + 10, 5);
  await heads.snapshot(world, 'large');
  await heads.rollback(world, 'small', 'kept');
  await heads.resize(world, 40 * BLOCK_BYTES);
  await write(world, 25, 15);
  await heads.rollback(world, 'kept', 'short');
  await trim(world, sizeBytes / BLOCK_BYTES, 20);
  await heads.resize(world, sizeBytes);
};

/** A collection that moves, rewrites maps of snapshots and deletes groups, and somebody who writes meanwhile. */
const collection: Workload = async (world, watch) => {
  await world.reopen();
  await age(world);
  watch();
  const [report] = await Promise.all([heads.collect(world, true), writeOn(world)]);
  if (!report?.movedBytes || !report.removedGroups) throw new Error('there was nothing to collect');
  await heads.deleteSnapshots(world, ['first', 'second']);
};

/** Syncs, with what was synced before, and a collection, between them. */
const syncs: Workload = async (world, watch) => {
  await world.reopen();
  await write(world, 0, 60);
  await heads.sync(world);
  await heads.snapshot(world, 'first');
  await write(world, 10, 45);
  await world.seal();
  watch();
  await write(world, 40, 20);
  await heads.sync(world);
  await heads.collect(world, true);
  await heads.rollback(world, 'first', 'kept');
  await heads.sync(world);
};

export const HEAD_WORKLOADS: Readonly<Record<string, Workload>> = {
  snapshots,
  sizes,
  collection,
  syncs,
};

/** Groups that hold what is dead, what is alive, and what snapshots alone keep alive. */
async function age(world: World): Promise<void> {
  await write(world, 0, 60);
  await world.flush();
  await write(world, 0, 40);
  await heads.snapshot(world, 'first');
  await write(world, 30, 15);
  await world.seal();
  await heads.snapshot(world, 'second');
  await write(world, 70, 45);
  await world.flush();
  await trim(world, 72, 40);
  await world.flush();
}

async function writeOn(world: World): Promise<void> {
  for (let turns = world.dice.below(60); turns > 0; turns--) await turn();
  await write(world, 35, 10);
  await heads.snapshot(world, 'meanwhile');
  await write(world, 42, 5);
  await world.flush();
}

function write(world: World, block: number, count: number): Promise<boolean> {
  return writeBytes(world, block * BLOCK_BYTES, count * BLOCK_BYTES);
}
