/**
 * What `chunkvol status --json` prints: a stable schema, documented in docs/cli.md. Fields are added
 * without notice; a change of any other kind comes with another number in `schema`.
 */
import { toHex } from '../base/bytes.js';
import type { Files } from '../base/files.js';
import type { Group } from '../store/group.js';
import { statMember } from '../store/member-stat.js';
import { readRoots } from '../store/root-files.js';
import { readRemoteBook, receiptOf, type SyncReceipt } from '../sync/remotes.js';
import type { VolumeStatus } from '../volume/status.js';
import type { Volume } from '../volume/volume.js';
import type { SnapshotInfo } from '../volume/snapshots.js';
import type { Attachment } from './attachment.js';
import type { OperationHost } from './operations.js';

export const STATUS_SCHEMA = 1;

export interface ServerStatus {
  readonly pid: number;
  /** Where NBD clients connect. */
  readonly uri: string;
}

export interface StatusReport extends Omit<VolumeStatus, 'snapshots'> {
  readonly schema: typeof STATUS_SCHEMA;
  readonly folder: string;
  /** The oldest first. */
  readonly snapshots: readonly SnapshotStatus[];
  /** Bytes logged for each byte that clients have written, since creation; null before the first. */
  readonly writeAmplification: number | null;
  readonly server: ServerStatus | null;
  readonly attached: readonly Pick<Attachment, 'kind' | 'target' | 'snapshot'>[];
  readonly remotes: readonly RemoteStatus[];
}

export interface SnapshotStatus extends Omit<SnapshotInfo, 'timeMs'> {
  /** ISO 8601, UTC. */
  readonly time: string;
}

export interface RemoteStatus {
  readonly name: string;
  readonly url: string;
  /** null when nothing has been synced there from here. */
  readonly lastSync: {
    /** ISO 8601, UTC. */
    readonly time: string;
    readonly generation: number;
    readonly copiedBytes: number;
    readonly neededBytes: number;
  } | null;
  /** Files of groups, parity included, that were made since then; what is staged comes on top. */
  readonly unsyncedBytes: number;
}

export async function makeStatus(host: OperationHost): Promise<StatusReport> {
  const { volume, folder, server, attachments } = host;
  const status = await volume.status();
  const { writtenBytes, loggedBytes } = status;
  return {
    schema: STATUS_SCHEMA,
    folder,
    ...status,
    snapshots: status.snapshots.map(snapshotStatus),
    writeAmplification: writtenBytes === 0 ? null : loggedBytes / writtenBytes,
    server,
    attached: attachments.map(({ kind, target, snapshot }) => ({ kind, target, snapshot })),
    remotes: await remoteStatuses(volume),
  };
}

/** A snapshot as JSON output shows it, whatever else is known of it. */
export function snapshotStatus<T extends SnapshotInfo>({
  timeMs,
  ...rest
}: T): Omit<T, 'timeMs'> & { readonly time: string } {
  return { ...rest, time: new Date(timeMs).toISOString() };
}

async function remoteStatuses(volume: Volume): Promise<RemoteStatus[]> {
  const { context } = volume;
  const book = await readRemoteBook(context);
  if (book.remotes.length === 0) return [];
  const files = await groupFiles(context.files, volume.groups());
  const groupsOfRoot = await knownRoots(volume);
  return book.remotes.map(({ name, url }) => {
    const receipt = receiptOf(book, url);
    const unsynced = files.filter((file) => !isSynced(file, receipt, groupsOfRoot));
    const unsyncedBytes = unsynced.reduce((sum, file) => sum + file.bytes, 0);
    return { name, url, lastSync: receipt && lastSync(receipt), unsyncedBytes };
  });
}

function lastSync(receipt: SyncReceipt): RemoteStatus['lastSync'] {
  const { timeMs, generation, copiedBytes, neededBytes } = receipt;
  return { time: new Date(timeMs).toISOString(), generation, copiedBytes, neededBytes };
}

interface GroupFiles {
  readonly key: string;
  readonly bytes: number;
  readonly modifiedMs: number;
}

async function groupFiles(files: Files, groups: readonly Group[]): Promise<GroupFiles[]> {
  const found: GroupFiles[] = [];
  for (const group of groups) {
    const stats = await Promise.all(group.paths.map((path) => statMember(files, path)));
    const bytes = stats.reduce((sum, stat) => sum + (stat?.bytes ?? 0), 0);
    const modifiedMs = Math.max(0, ...stats.map((stat) => stat?.modifiedMs ?? 0));
    found.push({ key: groupKey(group.id, group.sealId), bytes, modifiedMs });
  }
  return found;
}

/** The groups of each root that is still in the folder, by the root's name. */
async function knownRoots(volume: Volume): Promise<Map<string, Set<string>>> {
  const { roots } = await readRoots(volume.context);
  return new Map(
    roots.map(({ name, root }) => [
      name,
      new Set(root.groups.map(({ groupId, sealId }) => groupKey(groupId, sealId))),
    ]),
  );
}

/** Sealing in another's stead makes other files of the same group. */
function groupKey(groupId: Uint8Array, sealId: Uint8Array): string {
  return toHex(groupId) + toHex(sealId);
}

/** By the root that was synced; when that has been pruned here, by when the files were last written. */
function isSynced(
  file: GroupFiles,
  receipt: SyncReceipt | null,
  groupsOfRoot: ReadonlyMap<string, ReadonlySet<string>>,
): boolean {
  if (!receipt) return false;
  const groups = groupsOfRoot.get(receipt.root);
  return groups ? groups.has(file.key) : file.modifiedMs <= receipt.timeMs;
}
