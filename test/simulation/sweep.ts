/**
 * The crash sweep: one run of a workload, and a crash after each of its calls that changed the disk.
 *
 * The run is not repeated. Whenever a call has had its effect the world is frozen (files, oracle,
 * timeline); each frozen world is then found again after several different power cuts, or a kill. What
 * is found is recovered, checked, crashed and recovered once more: the bytes must be the same. Some go on
 * from there, all under one ledger, so that every crash is also a fork of every other.
 */
import { Dice } from './dice.js';
import type { Call, CallKind, SimulatedFiles } from './files.js';
import { checkRemote } from './heads.js';
import { FOLDER, World, type Shape } from './world.js';

const CHANGING: ReadonlySet<CallKind> = new Set([
  'create',
  'write',
  'sync',
  'truncate',
  'rename',
  'remove',
  'syncFolder',
]);

/** What is done to an open volume while the sweep watches. `watch` is called where it should begin. */
export type Workload = (world: World, watch: () => void) => Promise<void>;

export interface SweepCount {
  /** Calls after which a crash was looked at. */
  points: number;
  /** States of a disk that were recovered from, each different from the others of its point. */
  states: number;
}

interface CrashPoint {
  readonly call: Call;
  readonly world: World;
}

/** Throws when a state is recovered to anything that it must not be; the message names call and variant. */
export async function sweepCrashes(
  seed: number,
  shape: Shape,
  workload: Workload,
  variants: number,
  threads: World['threads'] = 'none',
): Promise<SweepCount> {
  const world = await World.create(seed, shape);
  world.threads = threads;
  const points = await freezeAtEachChange(world, workload);
  const dice = new Dice(seed + 0x5eed);
  let states = 0;
  for (const { call, world: frozen } of points) {
    const seen = new Set<string>();
    for (let variant = 0; variant < variants; variant++) {
      const found = crashed(frozen.files, variant, dice);
      const state = found.snapshot(FOLDER).join();
      const fork = frozen.fork(dice.next(), frozen.files.machine, found);
      if (seen.has(state)) continue;
      seen.add(state);
      states++;
      await recoverTwice(fork).catch((error: unknown) => {
        const where = `crash after call ${call.index} (${call.kind} ${call.path}), variant ${variant}`;
        throw new Error(`${where}: ${fork.explained(error).message}`, { cause: error });
      });
      fork.files.halt();
    }
  }
  world.files.halt();
  return { points: points.length, states };
}

async function freezeAtEachChange(world: World, workload: Workload): Promise<CrashPoint[]> {
  const points: CrashPoint[] = [];
  await workload(world, () => {
    world.files.onEffect = (call) => {
      if (!CHANGING.has(call.kind)) return;
      const frozen = world.fork(call.index, world.files.machine, world.files.afterKill(0));
      points.push({ call, world: frozen });
    };
  });
  world.files.onEffect = () => undefined;
  return points;
}

/** Variant 0 is a kill, after which the kernel still has everything; all others are power cuts. */
function crashed(files: SimulatedFiles, variant: number, dice: Dice): SimulatedFiles {
  return variant === 0 ? files.afterKill(dice.next()) : files.afterPowerCut(dice.next());
}

async function recoverTwice(world: World): Promise<void> {
  const { dice } = world;
  await world.reopen();
  // What was found is settled: from here on nothing else may be found.
  if (dice.chance(0.5)) world.cutPower();
  else world.kill();
  await world.reopen();
  if (world.remote) await checkRemote(world);
  if (dice.chance(0.75)) return;
  for (let i = 0; i < 3; i++) await world.step();
  const closed = dice.chance(0.5) ? await world.close() : null;
  if (closed?.kind === 'failed') throw closed.error;
  world.cutPower();
  await world.reopen();
}
