/**
 * One operation again and again on copies of the same crashed world, each time with another of its calls
 * that fails. Whatever fails, nothing that was flushed is lost, no byte of the disk or a snapshot is
 * wrong, and the volume opens when the disk works again.
 */
import type { CallKind, Outcome, SimulatedFiles } from './files.js';
import { BLOCK_BYTES, type World } from './world.js';

/** What an operation under a failing disk may end with. */
export const CLEAR = ['io', 'no-space', 'lost', 'damaged', 'flushed-data-missing'] as const;

const FORKS = 2 ** 20;

/** Calls that take something of a disk. */
const TAKING: ReadonlySet<CallKind> = new Set(['create', 'write', 'sync', 'rename', 'syncFolder']);

export interface Operation {
  /** What comes before, while everything works. */
  readonly prepare?: (world: World) => Promise<void>;
  readonly run: (world: World) => Promise<void>;
  /** Goes on in the same process, half of the times: the disk works again. */
  readonly goOn?: (world: World) => Promise<void>;
  /** Looks at what is there in the end, when the volume was opened again. */
  readonly check?: (world: World) => Promise<void>;
}

export interface FailOptions {
  readonly outcome: Outcome;
  /** All calls that want something of the disk fail from there on, as on one that is full. */
  readonly lasting?: boolean;
  /** Every that many calls one fails; else each of them does. */
  readonly stride?: number;
  /** Only calls of this kind count and fail. */
  readonly only?: CallKind;
  /** The machine stops so many of these calls later. */
  readonly stopsAfter?: number;
}

/** Returns how many calls of each kind failed. */
export async function failEach(
  origin: World,
  operation: Operation,
  options: FailOptions,
): Promise<Map<CallKind, number>> {
  const failed = new Map<CallKind, number>();
  for (let index = 0; ; index += options.stride ?? 1) {
    // No seed of a world that came before: it would draw the same names again.
    const seed = FORKS + index;
    const world = origin.fork(seed, 'machine', origin.files.afterKill(seed));
    const kind = await tryOnce(world, operation, index, options).catch((error: unknown) => {
      throw new Error(`call ${index}: ${world.explained(error).message}`, { cause: error });
    });
    world.files.halt();
    if (kind === null) return failed;
    failed.set(kind, (failed.get(kind) ?? 0) + 1);
  }
}

/** Makes the call fail that is `index` calls away; `kind` says which one it was, once it has come. */
export function failAt(
  files: SimulatedFiles,
  index: number,
  { outcome, lasting = false, only, stopsAfter = Infinity }: FailOptions,
): { kind: CallKind | null } {
  const state: { kind: CallKind | null } = { kind: null };
  let passed = -1;
  files.onCall = ({ kind }) => {
    if (only !== undefined && kind !== only) return 'works';
    passed++;
    if (passed === index) state.kind = kind;
    if (passed === index + stopsAfter) return 'stop';
    const fails = lasting ? passed >= index && TAKING.has(kind) : passed === index;
    return fails ? outcome : 'works';
  };
  return state;
}

/** The kind of the call that failed; null when the operation has no more calls. */
async function tryOnce(
  world: World,
  operation: Operation,
  index: number,
  options: FailOptions,
): Promise<CallKind | null> {
  await operation.prepare?.(world);
  const state = failAt(world.files, index, options);
  world.tolerated = CLEAR;
  const done = await world.attempt(() => operation.run(world));
  if (done.kind === 'failed') world.tolerate(done.error);
  world.files.onCall = () => 'works';
  if (operation.goOn && done.kind !== 'stopped' && world.dice.chance(0.5)) {
    // Reads must be right at once; of the rest a volume may say that it has to be opened again.
    await world.checkAll();
    const gone = await world.attempt(() => operation.goOn!(world));
    if (gone.kind === 'failed') world.tolerate(gone.error);
    await world.checkAll();
  }
  world.tolerated = [];
  if (world.dice.chance(0.5)) world.cutPower();
  else world.kill();
  await world.reopen();
  await write(world, 10_000, 5000);
  await world.flush();
  await world.checkAll();
  await operation.check?.(world);
  return state.kind;
}

export async function write(world: World, offset: number, bytes: number): Promise<boolean> {
  const data = world.dice.bytes(bytes);
  return world.change({ offset, bytes, data, trim: false, durable: false });
}

export async function trim(world: World, block: number, count: number): Promise<boolean> {
  const bytes = count * BLOCK_BYTES;
  const offset = block * BLOCK_BYTES;
  return world.change({ offset, bytes, data: null, trim: true, durable: false });
}
