/**
 * What changes the disk of a simulated world as a whole: snapshots, rollbacks, changes of size, collections
 * and syncs. Each may fail as the world tolerates, and tells false when the machine stopped.
 *
 * What was acknowledged must be found after any crash (`World.floor`); what failed may be found or not.
 */
import { RemoteMemory } from '../../src/sync/memory.js';
import { downloadVolume } from '../../src/sync/restore.js';
import { runSync } from '../../src/sync/run.js';
import type { CollectReport } from '../../src/volume/collector.js';
import { keyFile, open } from '../support/volumes.js';
import type { DiskOracle } from './disk-oracle.js';
import type { FrozenDisk } from './engine.js';
import { SimulatedRemote } from './remote.js';
import { BLOCK_BYTES, type World } from './world.js';

const ZEROS = new Uint8Array(BLOCK_BYTES);
const MEMORY = '/memory';

/** What is in the snapshot is held against what was written, when it is acknowledged. */
export async function snapshot(world: World, name: string): Promise<boolean> {
  const done = await change(world, () => world.volume!.createSnapshot(name), true);
  if (done === 'worked') checkFrozen(world.oracle, frozen(world, name));
  return done !== 'stopped';
}

export async function deleteSnapshots(world: World, names: readonly string[]): Promise<boolean> {
  return (await change(world, () => world.volume!.deleteSnapshots(names), false)) !== 'stopped';
}

export async function rollback(world: World, name: string, keepAs: string): Promise<boolean> {
  const { oracle } = world;
  const before = oracle.copy();
  const target = frozen(world, name);
  const changed = [...new Set([...oracle.blocks, ...target.blocks.keys()])].sort((a, b) => a - b);
  for (const block of changed) {
    oracle.announce(block * BLOCK_BYTES, BLOCK_BYTES, target.blocks.get(block) ?? null);
  }
  const done = await change(world, () => world.volume!.rollback(name, keepAs), false);
  if (done === 'failed') return world.lookAgain(changed);
  if (done === 'stopped') return false;
  oracle.acknowledge(changed);
  oracle.flushing()();
  checkFrozen(before, frozen(world, keepAs));
  return true;
}

/** What is cut off must have been trimmed. */
export async function resize(world: World, sizeBytes: number): Promise<boolean> {
  return (await change(world, () => world.volume!.resize(sizeBytes), true)) !== 'stopped';
}

/** A collection makes everything durable that was there before it. */
export async function collect(world: World, aggressive: boolean): Promise<CollectReport | null> {
  let report: CollectReport | null = null;
  await world.flush(async () => (report = await world.volume!.collect({ aggressive })));
  return report;
}

/** A sync makes everything durable that was there before it, here and there. */
export async function sync(world: World): Promise<boolean> {
  world.remote ??= new SimulatedRemote(() => world.files);
  const memory = new RemoteMemory(world.files, MEMORY);
  const { remote } = world;
  return world.flush(async () => {
    const { sequence } = await world.volume!.status();
    await runSync(world.volume!, remote, { memory });
    world.synced = Math.max(world.synced, sequence);
  });
}

/** Restores what is on the remote to a folder of its own. When it failed it may be called again. */
export async function restore(world: World, folder: string): Promise<void> {
  const memory = new RemoteMemory(world.files, `${MEMORY}-of${folder}`);
  const options = { credential: keyFile, memory };
  await downloadVolume(world.environment(), world.remote!, folder, options);
}

/** Reads what was restored: a state after some commit, and after none before what was synced. */
export async function checkRestored(world: World, folder: string): Promise<void> {
  const volume = await open(folder, { readOnly: true }, world.environment());
  const { sequence } = await volume.status();
  if (sequence < world.synced) {
    throw new Error(`commit ${world.synced - 1} was synced, and ${sequence} is the next there`);
  }
  await world.checkCopy(volume, sequence);
  await volume.close();
}

/** What is on the remote is whole, whatever came between, and another sync brings what is here now. */
export async function checkRemote(world: World): Promise<void> {
  if (world.synced > 0) {
    await restore(world, '/restored');
    await checkRestored(world, '/restored');
  }
  await sync(world);
  await restore(world, '/restored-again');
  await checkRestored(world, '/restored-again');
}

type Outcome = 'worked' | 'failed' | 'stopped';

/** `settles`: what was acknowledged before is durable when it is done. */
async function change(
  world: World,
  work: () => Promise<unknown>,
  settles: boolean,
): Promise<Outcome> {
  const flushed = world.oracle.flushing();
  let floor = 0;
  const done = await world.attempt(async () => {
    await work();
    floor = world.timeline.endOfHeads;
  });
  if (done.kind === 'failed') world.tolerate(done.error);
  if (done.kind !== 'worked') return done.kind;
  if (settles) flushed();
  world.floor = Math.max(world.floor, floor);
  return 'worked';
}

function frozen(world: World, name: string): FrozenDisk {
  const { snapshots } = world.timeline.diskBefore(Infinity);
  const found = [...snapshots.values()].find((each) => each.name === name);
  if (!found) throw new Error(`the log has no snapshot ${name}`);
  return found;
}

function checkFrozen(oracle: DiskOracle, { blocks }: FrozenDisk): void {
  for (const block of new Set([...oracle.blocks, ...blocks.keys()])) {
    oracle.checkPresent(block, blocks.get(block) ?? ZEROS);
  }
}
