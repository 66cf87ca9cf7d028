/**
 * What can be done with an open volume, whoever has it open: a server asked over its control socket,
 * or the command itself. Arguments and results are JSON, so that both ways are one.
 *
 * Long operations exclude one another where two at once would get into each other's way: a repair must
 * not change files under a sync, nor a collection take away what a scrub is about to read. Those of
 * snapshots take a moment only, and go on beside all others.
 */
import { errorMessage, exitStatus, isChunkvolError } from '../base/errors.js';
import type { Environment } from '../store/context.js';
import type { UnlockedVolume } from '../store/key-files.js';
import { openRemote } from '../sync/open-remote.js';
import type { SyncReport } from '../sync/report.js';
import { runSync } from '../sync/run.js';
import type { Volume } from '../volume/volume.js';
import type { Attachment } from './attachment.js';
import type { Operation, OperationContext } from './control-server.js';
import { mendingHost, runRepair, runScrub } from './mending.js';
import type { ServedExports } from './served-exports.js';
import { snapshotOperations } from './snapshot-operations.js';
import { LongWork } from './long-work.js';
import { makeStatus, type ServerStatus } from './status-report.js';
import { volumeOperations } from './volume-operations.js';

/** Whoever has the volume open. */
export interface OperationHost {
  readonly environment: Environment;
  readonly folder: string;
  readonly volume: Volume;
  /** With what it was opened. */
  readonly unlocked: UnlockedVolume;
  /** null when the volume is open for one command only. */
  readonly server: ServerStatus | null;
  readonly attachments: readonly Attachment[];
  /** null when nothing is served. */
  readonly served: ServedExports | null;
}

export interface SyncArguments {
  readonly urls: readonly string[];
  readonly bandwidthLimit: string | null;
  readonly dryRun: boolean;
  readonly acceptFork: boolean;
  readonly acceptRollback: boolean;
}

/** Of each remote, in the order asked for: one that fails does not keep the others from their copy. */
export type SyncOutcome =
  | { readonly url: string; readonly report: SyncReport }
  | { readonly url: string; readonly failure: string; readonly status: number };

export interface RepairArguments {
  /** Canonical URL of a remote to take from what cannot be rebuilt. */
  readonly from: string | null;
}

export type OperationName =
  | 'status'
  | 'sync'
  | 'scrub'
  | 'repair'
  | keyof ReturnType<typeof snapshotOperations>
  | keyof ReturnType<typeof volumeOperations>;

/** The operations on one open volume. Callers know the argument and result types of each. */
export function operationsOf(host: OperationHost): Record<OperationName, Operation> {
  const long = new LongWork();
  const mending = mendingHost(host.volume, host.unlocked);
  return {
    status: () => makeStatus(host),
    sync: long.exclusive('sync', (args, context) => syncAll(host, args as SyncArguments, context)),
    scrub: long.exclusive('scrub', (_, context) =>
      holding(host.volume, () => runScrub(mending, context)),
    ),
    repair: long.exclusive('repair', (args, context) =>
      holding(host.volume, () => runRepair(mending, args as RepairArguments, context)),
    ),
    ...snapshotOperations(host),
    ...volumeOperations(host, long),
  };
}

/** Has no file deleted while it works. */
async function holding<T>(volume: Volume, work: () => Promise<T>): Promise<T> {
  const release = volume.holdDeletion();
  try {
    return await work();
  } finally {
    release();
  }
}

async function syncAll(
  host: OperationHost,
  args: SyncArguments,
  context: OperationContext,
): Promise<SyncOutcome[]> {
  const outcomes: SyncOutcome[] = [];
  for (const url of args.urls) {
    try {
      outcomes.push({ url, report: await syncOne(host, url, args, context) });
    } catch (error) {
      if (!isChunkvolError(error) || error.code === 'interrupted') throw error;
      outcomes.push({ url, failure: errorMessage(error), status: exitStatus(error) });
    }
  }
  return outcomes;
}

function syncOne(
  host: OperationHost,
  url: string,
  args: SyncArguments,
  { onProgress, signal }: OperationContext,
): Promise<SyncReport> {
  const { dryRun, acceptFork, acceptRollback, bandwidthLimit } = args;
  return runSync(host.volume, openRemote(url), {
    dryRun,
    acceptFork,
    acceptRollback,
    bandwidthLimit: bandwidthLimit ?? undefined,
    signal,
    onProgress: ({ phase, doneBytes, totalBytes }) => {
      onProgress({ phase, doneBytes, totalBytes });
    },
  });
}
