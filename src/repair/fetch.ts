/**
 * Members from elsewhere, for groups that have too little left to rebuild them.
 *
 * Whoever calls knows where copies are and how to get them; here a copy is checked to the last byte
 * before it takes a member's name.
 */
import type { StoreContext } from '../store/context.js';
import { memberName, NEW_SUFFIX, type Group } from '../store/group.js';
import {
  checkMember,
  readManifestAt,
  type GroupManifest,
  type MemberCheck,
} from '../store/member-check.js';
import type { OpenFiles } from '../store/open-files.js';
import { takeName } from '../store/set-aside.js';
import { isRebuildable } from './rebuild.js';
import { checkGroup, type GroupCheck, type ScrubOptions } from './scrub.js';

/**
 * Tries to bring the chunk file of this final name to chunks/NAME.new, and tells whether it is there.
 */
export type FetchMember = (name: string) => Promise<boolean>;

export interface FetchOptions extends ScrubOptions {
  readonly openFiles: OpenFiles;
  readonly fetchMember?: FetchMember | undefined;
}

/**
 * Fetches damaged members, one after another, until the rest can be rebuilt; returns what is known of
 * the group then, and the names that were fetched.
 */
export async function fetchMembers(
  context: StoreContext,
  check: GroupCheck,
  options: FetchOptions,
): Promise<{ check: GroupCheck; fetched: string[] }> {
  const { fetchMember } = options;
  const fetched: string[] = [];
  if (!fetchMember) return { check, fetched };
  let present = check;
  for (const place of check.group.paths.keys()) {
    if (isRebuildable(present)) break;
    if (present.members[place]?.damages.length === 0) continue;
    const name = memberName(context, check.group.id, check.group.sealId, place);
    if (!(await fetchMember(name))) continue;
    const taken = await takeFetched(context, present, place, options);
    if (!taken) continue;
    fetched.push(name);
    present = await withMember(context, present, taken, options.signal);
  }
  return { check: present, fetched };
}

/** Gives a fetched file its name when every byte of it is right; removes it when not. */
async function takeFetched(
  context: StoreContext,
  known: GroupCheck,
  place: number,
  options: FetchOptions,
): Promise<MemberCheck | null> {
  const { group } = known;
  const path = group.paths[place]!;
  const arrived = path + NEW_SUFFIX;
  const manifest = known.manifest ?? (await readManifestAt(context, group, place, arrived));
  const check = manifest && (await checkArrived(context, group, place, manifest, options));
  if (check?.damages.length !== 0) {
    await context.files.remove(arrived);
    return null;
  }
  const file = await context.files.open(arrived, 'update');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
  await takeName(context, arrived, path);
  options.openFiles.forget(path);
  return { ...check, path };
}

function checkArrived(
  context: StoreContext,
  group: Group,
  place: number,
  manifest: GroupManifest,
  options: FetchOptions,
): Promise<MemberCheck> {
  const path = group.paths[place]! + NEW_SUFFIX;
  return checkMember(context, group, place, manifest, { path, signal: options.signal });
}

/** With its first footer a group can be checked as a whole; after that only the new file is news. */
async function withMember(
  context: StoreContext,
  known: GroupCheck,
  taken: MemberCheck,
  signal: AbortSignal | undefined,
): Promise<GroupCheck> {
  if (!known.manifest) return checkGroup(context, known.group, { signal });
  const members = known.members.map((member) => (member.place === taken.place ? taken : member));
  return { ...known, members };
}
