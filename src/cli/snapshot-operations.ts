/** The operations on the snapshots of an open volume. */
import { isChunkvolError } from '../base/errors.js';
import type { SnapshotUse } from '../volume/measures.js';
import type { SnapshotInfo } from '../volume/snapshots.js';
import type { Operation } from './control-server.js';
import type { OperationHost } from './operations.js';
import { timeName } from './time-name.js';
import type { DiskRange } from './verify.js';

/** `freedBytes` is null where the volume is open read-only: counting starts with a map that is written. */
export type MeasuredSnapshot = SnapshotInfo & {
  readonly freedBytes: SnapshotUse['freedBytes'] | null;
};

export interface CreateArguments {
  /** null: a name made of the time. */
  readonly name: string | null;
}

export interface NamesArguments {
  readonly names: readonly string[];
}

export interface RollbackArguments {
  readonly name: string;
}

export interface RollbackOutcome {
  /** Holds the state of before. */
  readonly kept: SnapshotInfo;
  readonly sizeBytes: number;
  readonly oldSizeBytes: number;
}

export interface DiffArguments {
  readonly from: string;
  /** null: the disk as it is now. */
  readonly to: string | null;
}

export interface DiffOutcome {
  readonly ranges: number;
  readonly changedBytes: number;
}

/** Ranges that `diff` sends at a time. */
const RANGES_PER_PART = 1024;
/** Names that are tried when one made of the time is taken: some snapshots within one second. */
const MAX_NAME_TRIES = 100;

/** `diff` sends parts, lists of DiskRange, before its outcome. */
export function snapshotOperations(
  host: OperationHost,
): Record<
  | 'list-snapshots'
  | 'measure-snapshots'
  | 'create-snapshot'
  | 'delete-snapshots'
  | 'measure-deletion'
  | 'rollback'
  | 'diff',
  Operation
> {
  const { volume } = host;
  return {
    'list-snapshots': () => Promise.resolve(volume.snapshots()),
    'measure-snapshots': (_, { signal }) => measureSnapshots(host, signal),
    'create-snapshot': (args) => createSnapshot(host, args as CreateArguments),
    'delete-snapshots': (args) => deleteSnapshots(host, args as NamesArguments),
    'measure-deletion': (args, { signal }) => {
      const { names } = args as NamesArguments;
      return volume.readOnly ? Promise.resolve(null) : volume.measureDeletion(names, signal);
    },
    rollback: (args) => rollBack(host, args as RollbackArguments),
    diff: (args, context) => sendDiff(host, args as DiffArguments, context),
  };
}

function measureSnapshots(
  { volume }: OperationHost,
  signal: AbortSignal,
): Promise<readonly MeasuredSnapshot[]> {
  if (!volume.readOnly) return volume.measureSnapshots(signal);
  return Promise.resolve(volume.snapshots().map((info) => ({ ...info, freedBytes: null })));
}

function createSnapshot(
  { volume }: OperationHost,
  { name }: CreateArguments,
): Promise<SnapshotInfo> {
  if (name !== null) return volume.createSnapshot(name);
  const wanted = timeName(volume.context.clock.now());
  return underFreeName(wanted, (free) => volume.createSnapshot(free));
}

async function deleteSnapshots(
  { volume, served }: OperationHost,
  { names }: NamesArguments,
): Promise<void> {
  const offer = await served?.withdraw(names);
  try {
    await volume.deleteSnapshots(names);
  } finally {
    offer?.();
  }
}

async function rollBack(
  { volume, served }: OperationHost,
  { name }: RollbackArguments,
): Promise<RollbackOutcome> {
  const offer = await served?.withdraw([null]);
  try {
    const oldSizeBytes = volume.sizeBytes;
    const wanted = timeName(volume.context.clock.now(), 'before-rollback');
    const kept = await underFreeName(wanted, (free) => volume.rollback(name, free));
    return { kept, sizeBytes: volume.sizeBytes, oldSizeBytes };
  } finally {
    offer?.();
  }
}

async function sendDiff(
  { volume }: OperationHost,
  { from, to }: DiffArguments,
  { signal, send }: Parameters<Operation>[1],
): Promise<DiffOutcome> {
  let part: DiskRange[] = [];
  let ranges = 0;
  let changedBytes = 0;
  const visit = async ({ offset, bytes }: DiskRange): Promise<void> => {
    ranges += 1;
    changedBytes += bytes;
    part.push({ offset, bytes });
    if (part.length < RANGES_PER_PART) return;
    await send(part);
    part = [];
  };
  await volume.changes(from, to, visit, signal);
  if (part.length > 0) await send(part);
  return { ranges, changedBytes };
}

/** Calls `work` with the name or, while that exists, with the name and a number behind it. */
async function underFreeName<T>(wanted: string, work: (name: string) => Promise<T>): Promise<T> {
  for (let number = 1; ; number++) {
    try {
      return await work(number === 1 ? wanted : `${wanted}-${number}`);
    } catch (error) {
      if (!isChunkvolError(error, 'exists') || number === MAX_NAME_TRIES) throw error;
    }
  }
}
