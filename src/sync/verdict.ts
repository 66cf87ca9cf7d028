/**
 * When a sync is refused: before anything on the remote has been changed, and with the one thing to do
 * about it in the message.
 */
import { ChunkvolError } from '../base/errors.js';
import type { Origin } from '../format/root.js';
import { ancestry, lineOf } from './lineage.js';
import type { SyncPlan } from './plan.js';
import { nameOf, type KnownRoot } from './survey.js';

/**
 * Roots there that `head` did not come out of: another copy's, or a later state than ours. An open root
 * of the head's own session is neither: somebody copied the folder there by hand while it was in use.
 */
export function strangersTo(roots: readonly KnownRoot[], head: Origin): KnownRoot[] {
  const line = lineOf(head);
  return roots.filter(({ point, closed }) => {
    return ancestry(point, line) === 'stranger' && (closed || point.digest !== line.digest);
  });
}

/** 0 when there is none. */
export function newestGeneration(roots: readonly KnownRoot[]): number {
  return roots.reduce((newest, root) => Math.max(newest, root.point.generation), 0);
}

/** Throws 'fork' when roots there, other than the accepted ones, are not behind `head`. */
export function refuseFork(
  url: string,
  roots: readonly KnownRoot[],
  head: Origin,
  acceptedNames: readonly string[],
): void {
  const strangers = strangersTo(roots, head).filter(
    (root) => !acceptedNames.includes(nameOf(root)),
  );
  if (strangers.length === 0) return;
  throw new ChunkvolError(
    'fork',
    `${url} holds generation ${newestGeneration(strangers)} of this volume, written by another copy and not contained in this one; restore that state, sync to another place, or use --accept-fork`,
  );
}

/** Throws 'rollback' when the newest state there is older than it should be, with what to do about it. */
export function refuseRollback(
  url: string,
  roots: readonly KnownRoot[],
  expectedGeneration: number,
  advice: (newest: number) => string,
): void {
  const newest = newestGeneration(roots);
  if (newest >= expectedGeneration) return;
  const now = newest === 0 ? 'no state of this volume' : `generation ${newest} at most`;
  throw new ChunkvolError(
    'rollback',
    `${url} went back in time: it holds ${now} where generation ${expectedGeneration} was; ${advice(newest)}`,
  );
}

/** Throws 'lost' when a group has fewer members than it needs, here and there taken together. */
export function refuseLoss(url: string, { lost }: SyncPlan): void {
  const [first] = lost;
  if (!first) return;
  const { label, members, geometry } = first.group;
  throw new ChunkvolError(
    'lost',
    `${first.missing.length} of the ${members.length} files of ${label} are missing or damaged here and not on ${url}, and parity replaces ${geometry.parity}; run chunkvol repair --from another remote`,
  );
}
