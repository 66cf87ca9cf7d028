/** Volumes with forged records (see forge.ts), opened, used, checked and repaired. */
import { errorMessage, isChunkvolError } from '../../src/base/errors.js';
import { chooseEngine } from '../../src/crypto/engines.js';
import {
  decodeCommitHeader,
  encodeCommitBody,
  encodeCommitHeader,
  isSlotEntry,
  type CommitEntry,
} from '../../src/format/commit.js';
import { repairVolume } from '../../src/repair/repair.js';
import { scrubGroups } from '../../src/repair/scrub.js';
import type { StoreContext } from '../../src/store/context.js';
import { unlock } from '../../src/store/key-files.js';
import { openVolume } from '../../src/volume/open.js';
import type { Volume } from '../../src/volume/volume.js';
import { keyFile } from '../support/volumes.js';
import { Dice, SimulatedClock, SimulatedRandomness } from './dice.js';
import type { SimulatedFiles } from './files.js';
import { logRecords, outerRecords, type Forgeable } from './forge.js';
import { withBoundedArrays } from './memory-guard.js';
import { FOLDER, World, type Shape } from './world.js';

/** Numbers that bounds are forgotten at. */
const NUMBERS: readonly bigint[] = [
  0n,
  1n,
  2n,
  7n,
  511n,
  512n,
  4095n,
  4096n,
  2n ** 16n - 1n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 40n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 64n - 1n,
];

/** Calls of the file system that opening, using and repairing a small volume may take. */
const MAX_CALLS = 50_000;

/** Forges `count` records of one volume, each alone (or two at once), and meets each result. */
export async function meetForgeries(
  seed: number,
  shape: Shape,
  kind: 'outer' | 'log',
  count: number,
  maxArrayBytes: number,
): Promise<void> {
  const dice = new Dice(seed + 0xf0463);
  const files = await grown(seed, shape, dice);
  for (let index = 0; index < count; index++) {
    const victim = files.copied(dice.next(), 'machine');
    const what = await forge(victim, kind, dice);
    await withBoundedArrays(maxArrayBytes, () => meet(victim, dice)).catch((error: unknown) => {
      const trace = error instanceof Error ? (error.stack ?? '') : '';
      throw new Error(`forgery ${index}: ${what}: ${errorMessage(error)}\n${trace}`, {
        cause: error,
      });
    });
    victim.halt();
  }
}

/** Each commit that recovery reads, in turn, claims more slots than any group can hold. */
export async function meetHugeCommits(
  seed: number,
  shape: Shape,
  maxArrayBytes: number,
): Promise<number> {
  const dice = new Dice(seed);
  const files = await grown(seed, shape, dice);
  let met = 0;
  for (let index = 0; ; index++) {
    const victim = files.copied(dice.next(), 'machine');
    const context = await contextOf(victim, dice);
    const records = await openLogRecords(context, victim, dice);
    const headers = records.filter(({ what }) => what.startsWith('commit header'));
    const header = headers[index];
    if (!header) return met;
    const body = records[records.indexOf(header) + 1];
    if (!body?.what.startsWith('commit body')) continue;
    const slotCount = 2 ** 32 - 1;
    const entries = encodeCommitBody([{ kind: 'write', number: 0, count: slotCount }]);
    const fields = { ...decodeCommitHeader(header.plain), slotCount, bodyBytes: entries.length };
    header.put(encodeCommitHeader(fields));
    body.put(entries);
    await withBoundedArrays(maxArrayBytes, () => meet(victim, dice));
    victim.halt();
    met++;
  }
}

/** A volume with sealed groups, roots, and an open group behind them. */
async function grown(seed: number, shape: Shape, dice: Dice): Promise<SimulatedFiles> {
  const world = await World.create(seed, shape);
  await world.reopen();
  for (let i = 0; i < 12; i++) await world.step();
  await world.seal();
  for (let i = 0; i < 4; i++) await world.step();
  await world.flush();
  if (dice.chance(0.3)) await world.close();
  world.files.halt();
  return world.files.afterKill(dice.next());
}

async function forge(files: SimulatedFiles, kind: 'outer' | 'log', dice: Dice): Promise<string> {
  const context = await contextOf(files, dice);
  if (dice.chance(0.1)) {
    for (const path of files.paths(`${FOLDER}/roots`)) files.poke(path, null);
  }
  const told: string[] = [];
  const records =
    kind === 'outer' ? outerRecords(context, files) : await openLogRecords(context, files, dice);
  for (let i = dice.chance(0.2) ? 2 : 1; i > 0 && records.length > 0; i--) {
    // What is newest is what recovery looks at: the last of them.
    const recent = records.slice(-6);
    const record = dice.pick(dice.chance(0.6) ? recent : records);
    if (record.what.startsWith('commit header') && dice.chance(0.5)) {
      told.push(forgeCommit(record, records[records.indexOf(record) + 1], dice));
      continue;
    }
    const changed = changedPlain(record, dice);
    record.put(changed);
    told.push(`${record.what} (${difference(record.plain, changed)})`);
  }
  return told.join(', ');
}

async function openLogRecords(
  context: StoreContext,
  files: SimulatedFiles,
  dice: Dice,
): Promise<Forgeable[]> {
  const unlocked = await unlock(files, FOLDER, keyFile);
  const environment = { ...context, random: new SimulatedRandomness(dice.fork()) };
  const reader = await openVolume(environment, FOLDER, { unlocked, readOnly: true }).catch(
    () => null,
  );
  if (!reader) return [];
  const records = await logRecords(context, files, reader);
  await reader.close();
  return records;
}

/** Header and body of one commit, in agreement with each other and with nothing else. */
function forgeCommit(header: Forgeable, body: Forgeable | undefined, dice: Dice): string {
  const fields = decodeCommitHeader(header.plain);
  if (!body?.what.startsWith('commit body')) {
    header.put(encodeCommitHeader({ ...fields, slotCount: 2 ** 32 - 1 }));
    return `${header.what} without a body`;
  }
  const entries = absurdEntries(Math.floor(body.plain.length / 16), dice);
  const slots = entries.reduce((sum, entry) => sum + (isSlotEntry(entry) ? entry.count : 0), 0);
  const slotCount = Math.min(slots, 2 ** 32 - 1);
  header.put(encodeCommitHeader({ ...fields, slotCount, bodyBytes: body.plain.length }));
  body.put(encodeCommitBody(entries));
  return `${header.what} and its body: ${JSON.stringify(entries.slice(0, 4))}`;
}

function changedPlain(record: Forgeable, dice: Dice): Uint8Array {
  if (record.what.startsWith('commit body') && dice.chance(0.6)) return absurdBody(record, dice);
  if (record.what.startsWith('commit header') && dice.chance(0.4)) {
    const header = decodeCommitHeader(record.plain);
    const field = dice.pick(['slotCount', 'rootBytes', 'bodyBytes'] as const);
    const value = Number(dice.pick(NUMBERS.filter((number) => number < 2n ** 32n)));
    return encodeCommitHeader({ ...header, [field]: value });
  }
  const changed = Buffer.from(record.plain);
  for (let i = 1 + dice.below(3); i > 0; i--) {
    const width = dice.pick([1, 2, 4, 8] as const);
    const at = dice.below(Math.max(1, changed.length - width));
    const number = dice.chance(0.2) ? BigInt(dice.next()) : dice.pick(NUMBERS);
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(number);
    bytes.copy(changed, at, 0, width);
  }
  return new Uint8Array(changed);
}

/** A body of the same length whose entries lie far outside of any disk. */
function absurdBody({ plain }: Forgeable, dice: Dice): Uint8Array {
  return encodeCommitBody(absurdEntries(Math.floor(plain.length / 16), dice));
}

function absurdEntries(entryCount: number, dice: Dice): CommitEntry[] {
  const absurd = (): CommitEntry => {
    const number = Number(dice.pick(NUMBERS) % 2n ** 53n);
    const most = 2 ** 53 - 1 - number;
    const count = Math.max(1, Math.min(Number(dice.pick(NUMBERS) % 2n ** 40n), most));
    if (dice.chance(0.5)) return { kind: 'hole', number, count };
    const few = dice.chance(0.7) ? 1 : count;
    if (dice.chance(0.8)) return { kind: 'write', number, count: few };
    return { kind: 'node', level: dice.below(8), number, count: few };
  };
  return Array.from({ length: entryCount }, absurd);
}

function difference(before: Uint8Array, after: Uint8Array): string {
  const changed = [...after.keys()].filter((at) => before[at] !== after[at]);
  return `${changed.length} bytes from ${changed[0] ?? 'none'} on`;
}

/** Throws unless everything that is done to the volume works or ends with a ChunkvolError. */
async function meet(files: SimulatedFiles, dice: Dice): Promise<void> {
  files.onCall = ({ index }) => {
    if (index > MAX_CALLS) throw new Error(`more than ${MAX_CALLS} calls of the file system`);
    return 'works';
  };
  const context = await orClear(contextOf(files, dice));
  const unlocked = context && (await orClear(unlock(files, FOLDER, keyFile)));
  if (!context || !unlocked) return;
  const readOnly = dice.chance(0.3);
  const tolerance = dice.chance(0.5) ? 'loss' : undefined;
  const volume = await orClear(openVolume(context, FOLDER, { unlocked, readOnly, tolerance }));
  if (!volume) return;
  await use(volume, readOnly, dice);
  await orClear(scrubGroups(volume.context, volume.groups()));
  if (!readOnly) {
    await orClear(repairVolume(volume.context, volume.groups(), { slots: volume.slots }));
  }
  await orClear(volume.close());
}

async function use(volume: Volume, readOnly: boolean, dice: Dice): Promise<void> {
  const { sizeBytes } = volume;
  const bytes = Math.min(65536, sizeBytes);
  for (let i = 0; i < 4; i++) {
    const offset = i === 0 ? 0 : dice.below(sizeBytes - bytes + 1);
    await orClear(volume.read(offset, new Uint8Array(bytes)));
    if (readOnly) continue;
    if (dice.chance(0.5)) await orClear(volume.write(offset, dice.bytes(bytes)));
    else await orClear(volume.trim(offset, bytes));
  }
  await orClear(volume.extents(0, sizeBytes, 100));
  await orClear(volume.status());
  if (readOnly) return;
  if (dice.chance(0.3)) await orClear(volume.zero(0, sizeBytes));
  await orClear(volume.flush());
  await orClear(volume.sealNow());
}

/** null for an error that a user can do something with; any other is a bug. */
async function orClear<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (isChunkvolError(error) && error.code !== 'internal') return null;
    throw error;
  }
}

async function contextOf(files: SimulatedFiles, dice: Dice): Promise<StoreContext> {
  const { keyFile: known, keys } = await unlock(files, FOLDER, keyFile);
  return {
    files,
    clock: new SimulatedClock(),
    random: new SimulatedRandomness(dice.fork()),
    engine: chooseEngine(),
    folder: FOLDER,
    volumeId: known.volumeId,
    keys,
  };
}
