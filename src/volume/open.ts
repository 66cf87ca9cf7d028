/**
 * Opening a volume: recovery, the end of the log made durable, and everything put together. It serves
 * at once; groups that a crash left open are sealed in the background.
 */
import { settleAll } from '../base/async.js';
import { MIB } from '../base/bytes.js';
import { isChunkvolError } from '../base/errors.js';
import type { OpenFile } from '../base/files.js';
import { memberBytes } from '../erasure/stripe.js';
import { disposeGroup } from '../store/birth.js';
import type { Environment, StoreContext } from '../store/context.js';
import { groupLabel, type Group } from '../store/group.js';
import type { UnlockedVolume } from '../store/key-files.js';
import { OpenFiles } from '../store/open-files.js';
import { cutOff } from '../store/seal.js';
import { asideFolder, setAside, setTailAside } from '../store/set-aside.js';
import { SlotReader } from '../store/slot-reader.js';
import { Checkpointer } from './checkpoint.js';
import { Collector } from './collector.js';
import { CutGroups } from './cut-groups.js';
import { folderIdentity, writeIdentity } from './identity.js';
import { STAGING_BYTES } from './limits.js';
import { Log } from './log.js';
import { LogEnd } from './log-end.js';
import { Measures } from './measures.js';
import { makeNodeReader } from './node-reader.js';
import { ReadEpochs } from './read-epochs.js';
import { recover, type Recovered, type Tolerance } from './recovery.js';
import { Retention } from './retention.js';
import { Roots } from './roots.js';
import { SnapshotDevices } from './snapshot-devices.js';
import { Snapshots } from './snapshots.js';
import { Space } from './space.js';
import { Staging } from './staging.js';
import { Survivors } from './survivors.js';
import { Volume, type VolumeParts } from './volume.js';
import { Warmth } from './warmth.js';
import { WritePath } from './write-path.js';

export interface OpenOptions {
  readonly unlocked: UnlockedVolume;
  /** Nothing in the folder is changed, and no write is taken. */
  readonly readOnly?: boolean;
  /** Who only reads is shown whatever is there, unless this says otherwise; who writes, a copy's torn end. */
  readonly tolerance?: Tolerance | undefined;
  /** Told, one line each, what is worth knowing and is no error. */
  readonly onNotice?: (line: string) => void;
}

/** The caller holds the folder's lock. Throws 'lost', 'flushed-data-missing', 'fork', 'newer-format'. */
export async function openVolume(
  environment: Environment,
  folder: string,
  options: OpenOptions,
): Promise<Volume> {
  const { unlocked, readOnly = false, onNotice = () => undefined } = options;
  const { tolerance = readOnly ? 'loss' : 'torn-copy' } = options;
  const context: StoreContext = {
    ...environment,
    folder,
    volumeId: unlocked.keyFile.volumeId,
    keys: unlocked.keys,
  };
  const openFiles = new OpenFiles(context.files);
  try {
    return await openWith(context, openFiles, { unlocked, readOnly, tolerance, onNotice });
  } catch (error) {
    await openFiles.closeAll();
    throw error;
  }
}

async function openWith(
  context: StoreContext,
  openFiles: OpenFiles,
  options: Required<OpenOptions> & { readonly tolerance: Tolerance },
): Promise<Volume> {
  const { unlocked, readOnly, tolerance, onNotice } = options;
  const { folder } = context;
  const slots = new SlotReader(context, openFiles, !readOnly);
  const identity = await folderIdentity(context, folder);
  const isCopy = identity === 'copied';
  if (isCopy && !readOnly) {
    onNotice(`${folder} is a copy made by hand: it goes on as a writer of its own`);
  }
  const recovered = await recover(context, slots, { readOnly, tolerance, identity, onNotice });
  if (unlocked.keyFile.counter < recovered.base.keyCounter) {
    onNotice('the key file is older than the volume: passphrases removed since then still open it');
  }
  if (!readOnly) await settleFolder(context, recovered, { tolerance, onNotice });
  const { volume, cutGroups } = assemble(context, slots, recovered, unlocked, readOnly, onNotice);
  if (readOnly) return volume;
  // What was missing is missed no more when all that is left of it is sealed.
  const isWhole = !(isCopy || tolerance === 'loss') || (await isSealed(cutGroups));
  try {
    if (identity !== 'same' && isWhole) await writeIdentity(context, folder);
  } catch (error) {
    // Groups are being sealed in the background, and the folder's lock is about to go.
    await volume.close().catch(() => undefined);
    throw error;
  }
  return volume;
}

/** Waits for the seals under way; false when one did not come about, which the notices have told. */
function isSealed(cutGroups: CutGroups): Promise<boolean> {
  return cutGroups.finish().then(
    () => true,
    () => false,
  );
}

interface SettleOptions {
  readonly tolerance: Tolerance;
  readonly onNotice: (line: string) => void;
}

/** Makes what was recovered durable, and takes away what does not count. */
async function settleFolder(
  context: StoreContext,
  recovered: Recovered,
  options: SettleOptions,
): Promise<void> {
  let isKept = recovered.astray.length > 0;
  for (const { group } of recovered.cut) {
    const known = recovered.base.groups.find(({ ordinal }) => ordinal === group.ordinal);
    if (recovered.isLossy) isKept = (await keepTail(context, group, options)) || isKept;
    await renewTail(context, group, Math.min(known?.end ?? 0, group.end));
  }
  for (const group of recovered.empty) await disposeGroup(context, group.paths);
  if (recovered.astray.length > 0) await setAside(context, recovered.astray);
  if (isKept) options.onNotice(`what could not be read is kept in ${asideFolder(context)}`);
}

/** Whether anything was to be kept, and is. Who has accepted the loss is not kept from opening for want of room. */
async function keepTail(
  context: StoreContext,
  group: Group,
  { tolerance, onNotice }: SettleOptions,
): Promise<boolean> {
  try {
    return await setTailAside(context, group);
  } catch (error) {
    if (tolerance !== 'loss' || !isChunkvolError(error)) throw error;
    onNotice(`what lies behind the end of ${groupLabel(group)} is not kept: ${error.message}`);
    return false;
  }
}

/**
 * Makes the recovered end of a group durable, from the address that is known to be. The bytes are written
 * again: after an fdatasync that failed, perhaps in an earlier process, the kernel takes what it still
 * shows for written, and another fdatasync alone would say so too.
 *
 * What lies behind the end goes. It may hold commits that count no more, because their group was given up
 * for another one; should that one go too, for want of any commit, the next recovery would find them again.
 */
async function renewTail(context: StoreContext, group: Group, from: number): Promise<void> {
  const { geometry, end } = group;
  await settleAll(
    group.paths.slice(0, geometry.data).map(async (path, member) => {
      // Missing where its loss was accepted: nothing of what is left was in it.
      if (!(await context.files.stat(path))) return;
      const start = from === 0 ? 0 : memberBytes(geometry, from, member);
      const file = await context.files.open(path, 'update');
      try {
        const bytes = memberBytes(geometry, end, member);
        await rewrite(file, start, bytes).catch(unlessFull);
        await cutOff(file, bytes);
        await file.sync();
      } finally {
        await file.close();
      }
    }),
  );
}

/** A file system that copies on write may have no room for it; a full disk must open all the same. */
function unlessFull(error: unknown): void {
  if (!isChunkvolError(error, 'no-space')) throw error;
}

async function rewrite(file: OpenFile, from: number, to: number): Promise<void> {
  for (let at = from; at < to; at += MIB) {
    const bytes = new Uint8Array(Math.min(MIB, to - at));
    const got = await file.read(bytes, at);
    await file.write(bytes.subarray(0, got), at);
  }
}

function assemble(
  context: StoreContext,
  slots: SlotReader,
  recovered: Recovered,
  unlocked: UnlockedVolume,
  readOnly: boolean,
  onNotice: (line: string) => void,
): { volume: Volume; cutGroups: CutGroups } {
  const { base, groups, map, heads } = recovered;
  const facts = { ...base, keyCounter: Math.max(unlocked.keyFile.counter, base.keyCounter) };
  const roots = new Roots(context, facts, heads, recovered.roots, base);
  const stagingBytes = readOnly ? base.blockBytes : STAGING_BYTES;
  const staging = new Staging(base.blockBytes, stagingBytes, context.workers !== undefined);
  const cutGroups = new CutGroups(context, slots.openFiles, onNotice);
  const counters = { writtenBytes: base.writtenBytes, loggedBytes: base.loggedBytes };
  const log = new Log(context, base.blockBytes, {
    ...recovered.end,
    durableUpTo: recovered.end.sequence - 1,
  });
  const space = new Space(context, base.geometry);
  const end = new LogEnd(
    {
      context,
      staging,
      map,
      heads,
      groups,
      warmth: new Warmth(base.blockBytes),
      log,
      roots,
      space,
      cutGroups,
      counters,
      onNotice,
    },
    recovered.nextOrdinal,
  );
  const survivors = new Survivors(end, slots.openFiles);
  const checkpointer = new Checkpointer(end, slots.openFiles, survivors);
  for (const { group, point } of recovered.cut) cutGroups.add(group, point);
  if (!readOnly) cutGroups.sealInBackground();
  const writePath = new WritePath(end, checkpointer);
  const upper = assembleUpper(context, slots, end, survivors, checkpointer, writePath, onNotice);
  if (!readOnly) {
    writePath.pace = upper.collector.pace;
    upper.collector.start();
  }
  return { volume: new Volume({ context, slots, end, writePath, ...upper, readOnly }), cutGroups };
}

/** What stands on the write path: snapshots, and the care for what is dead. */
function assembleUpper(
  context: StoreContext,
  slots: SlotReader,
  end: LogEnd,
  survivors: Survivors,
  checkpointer: Checkpointer,
  writePath: WritePath,
  onNotice: (line: string) => void,
): Pick<VolumeParts, 'epochs' | 'snapshots' | 'devices' | 'measures' | 'retention' | 'collector'> {
  const { groups, roots } = end.parts;
  const readNode = makeNodeReader(slots, groups);
  const epochs = new ReadEpochs();
  const snapshots = new Snapshots(end, checkpointer, writePath);
  const devices = new SnapshotDevices(roots.facts.blockBytes, groups, slots, readNode, epochs);
  const measures = new Measures(end, checkpointer, writePath, snapshots, readNode, epochs);
  const retention = new Retention(context, groups, roots, slots.openFiles, epochs, onNotice);
  const collector = new Collector({
    end,
    survivors,
    checkpointer,
    writePath,
    slots,
    readNode,
    snapshots,
    devices,
    retention,
  });
  return { epochs, snapshots, devices, measures, retention, collector };
}
