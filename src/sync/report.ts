/** What a sync has found, what it copies, and what it says about both. */
import { memberCount } from '../base/geometry.js';
import type { Group } from '../store/group.js';
import type { RootFile } from '../store/root-files.js';
import { sealedBytes } from '../store/seal.js';
import { totalBytes, type MissingMember, type SyncPlan } from './plan.js';
import type { RemoteFile } from './remote.js';

export interface SyncReport {
  readonly url: string;
  readonly dryRun: boolean;
  /** Of the root that is there now; of a dry run: the newest closed one here. */
  readonly generation: number;
  readonly root: string;
  /** Files copied (of a dry run: to be copied) and their bytes: chunk files, key files and root. */
  readonly copiedFiles: number;
  readonly copiedBytes: number;
  /** Of those, leftovers of a broken transfer that were replaced. */
  readonly replacedFiles: number;
  /** Bytes of all chunk files that the root needs and that are to be had. */
  readonly neededBytes: number;
  /** Chunk files missing or of a wrong size in the volume's folder. */
  readonly localFaults: readonly MissingMember[];
  /** Chunk files missing here and there; parity makes up for them. */
  readonly missing: readonly MissingMember[];
  /** Of a dry run: about what would be sealed and copied on top, parity included. */
  readonly unsealedBytes: number;
  readonly removedKeyFiles: number;
  /** What the user should know; one line each. */
  readonly notes: readonly string[];
}

/** What one sync has to do. */
export interface SyncWork {
  readonly head: RootFile;
  readonly plan: SyncPlan;
  readonly keyUploads: readonly RemoteFile[];
  readonly rootUploads: readonly RemoteFile[];
}

export function copiedFiles({ plan, keyUploads, rootUploads }: SyncWork): RemoteFile[] {
  return [...plan.uploads, ...keyUploads, ...rootUploads];
}

export function neededBytes({ plan }: SyncWork): number {
  return totalBytes(plan.present) + totalBytes(plan.uploads);
}

export function reportOn(
  work: SyncWork,
  rest: Pick<SyncReport, 'url' | 'dryRun' | 'unsealedBytes' | 'removedKeyFiles' | 'notes'>,
): SyncReport {
  const { head, plan } = work;
  const copied = copiedFiles(work);
  return {
    ...rest,
    generation: head.root.generation,
    root: head.name,
    copiedFiles: copied.length,
    copiedBytes: totalBytes(copied),
    replacedFiles: plan.replaced.length,
    neededBytes: neededBytes(work),
    localFaults: plan.localFaults,
    missing: plan.missing,
    notes: [...rest.notes, ...notesOn(work, rest.unsealedBytes)],
  };
}

function notesOn({ head, plan }: SyncWork, unsealedBytes: number): string[] {
  const notes: string[] = [];
  if (unsealedBytes > 0) {
    const since = `generation ${head.root.generation}`;
    notes.push(`about ${unsealedBytes} bytes of later writes than ${since} would be copied too`);
  }
  const [first] = plan.localFaults;
  if (first) {
    const elsewhere =
      plan.missing.length === 0
        ? 'the remote has them all'
        : `the remote lacks ${plan.missing.length} of them, and parity makes up for these`;
    notes.push(
      `${plan.localFaults.length} chunk files are missing or damaged here, the first ${first.path}; ${elsewhere}; run chunkvol repair`,
    );
  }
  return notes;
}

/** What the groups that `head` does not name would take when sealed now. */
export function unsealedBytes(groups: readonly Group[], head: RootFile): number {
  const newest = head.root.groups.reduce((ordinal, group) => Math.max(ordinal, group.ordinal), 0);
  let bytes = 0;
  for (const group of groups) {
    if (group.ordinal <= newest || group.end === 0) continue;
    const plan = { end: group.end, full: false };
    for (let place = 0; place < memberCount(group.geometry); place++) {
      bytes += sealedBytes(group, plan, place);
    }
  }
  return bytes;
}
