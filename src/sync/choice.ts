/**
 * Which of a remote's roots a restore takes: the newest closed one that has what it needs there; and
 * which older ones may come along.
 *
 * Only summaries of roots are kept in memory; the files themselves, fetched before, are read again as
 * they are looked at, the newest first.
 */
import { toHex } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import { MAX_ROOT_FILE_BYTES, type Root, type RootGroup } from '../format/root.js';
import type { StoreContext } from '../store/context.js';
import { readWhole } from '../store/publish.js';
import { fetchFolder } from './fetch.js';
import { ancestry, lineOf } from './lineage.js';
import {
  neededGroups,
  planRestore,
  type LostGroup,
  type NeededGroup,
  type RestorePlan,
  type Sizes,
} from './plan.js';
import { ownRoot, type KnownRoot } from './survey.js';

/** Older roots beyond this number stay behind. */
const MAX_KEPT_ROOTS = 16;

/** Roots passed over beyond this number are counted, not named. */
const MAX_NOTES = 5;

export interface Choice {
  readonly known: KnownRoot;
  readonly root: Root;
  readonly groups: readonly NeededGroup[];
  readonly plan: RestorePlan;
  /** What was passed over, and why; other lines of the volume's history. */
  readonly notes: readonly string[];
}

/** Throws ChunkvolError 'lost' when there is none. */
export async function chooseRoot(
  context: StoreContext,
  url: string,
  roots: readonly KnownRoot[],
  chunks: Sizes,
): Promise<Choice> {
  const skipped: string[] = [];
  for (const known of newestFirst(roots)) {
    const root = await reopen(context, url, known);
    if (!root) continue;
    const groups = neededGroups(context, root);
    const plan = planRestore(groups, chunks);
    const [lost] = plan.lost;
    if (lost) {
      skipped.push(`generation ${root.generation} of ${timeText(root)} ${lossText(lost)}`);
      continue;
    }
    const notes = [...skippedNotes(skipped, root), ...forkNotes(roots, root)];
    return { known, root, groups, plan, notes };
  }
  const why = skipped[0] ?? 'it has no closed root';
  throw new ChunkvolError('lost', `nothing on ${url} can be restored: ${why}; try another remote`);
}

/**
 * Roots that open with the files of the chosen one, and that it came out of; the oldest first. Others
 * would leave it open which state the folder holds.
 */
export async function keptRoots(
  context: StoreContext,
  url: string,
  choice: Choice,
  roots: readonly KnownRoot[],
): Promise<KnownRoot[]> {
  const line = lineOf(choice.root);
  const here = new Set(choice.root.groups.map(sealOf));
  const kept: KnownRoot[] = [];
  for (const known of newestFirst(roots)) {
    if (kept.length === MAX_KEPT_ROOTS) break;
    if (known.path === choice.known.path || ancestry(known.point, line) !== 'ancestor') continue;
    const root = await reopen(context, url, known);
    if (root?.groups.every((group) => here.has(sealOf(group))) === true) kept.unshift(known);
  }
  return kept;
}

/** Closed roots only: others need files that are never copied. */
function newestFirst(roots: readonly KnownRoot[]): KnownRoot[] {
  return roots
    .filter((root) => root.closed)
    .sort((a, b) => b.point.generation - a.point.generation || (a.path < b.path ? -1 : 1));
}

async function reopen(context: StoreContext, url: string, known: KnownRoot): Promise<Root | null> {
  const path = `${fetchFolder(context, url)}/${known.path}`;
  const bytes = await readWhole(context.files, path, MAX_ROOT_FILE_BYTES);
  return bytes && ownRoot(context, known, bytes);
}

function sealOf(group: RootGroup): string {
  return `${toHex(group.groupId)}/${toHex(group.sealId)}`;
}

function skippedNotes(skipped: readonly string[], taken: Root): string[] {
  if (skipped.length === 0) return [];
  const more = skipped.length - MAX_NOTES;
  return [
    ...skipped.slice(0, MAX_NOTES),
    ...(more > 0 ? [`so do ${more} older states`] : []),
    `generation ${taken.generation} of ${timeText(taken)} is the newest that is whole`,
  ];
}

/** Later states on the same line are no fork: only what is not newer can be told to be one. */
function forkNotes(roots: readonly KnownRoot[], taken: Root): string[] {
  const line = lineOf(taken);
  const others = roots.filter(
    ({ point }) => point.generation <= taken.generation && ancestry(point, line) === 'stranger',
  );
  if (others.length === 0) return [];
  return [
    `the volume has been written in two copies: ${others.length} states there are not contained in the restored one`,
  ];
}

function lossText({ group, missing }: LostGroup): string {
  const { members, label } = group;
  return `lacks ${missing.length} of the ${members.length} files of ${label}`;
}

function timeText(root: Root): string {
  return new Date(root.timeMs).toISOString();
}
