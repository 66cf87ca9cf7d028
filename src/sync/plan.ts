/**
 * What has to be copied, worked out from names and sizes alone.
 *
 * Files are compared by name and size: a published name never has two contents. What size a file must
 * have follows from its group, but for one thing that the root does not tell: whether the group's
 * files were brought to the full chunk size. That is taken from the sizes found.
 */
import { memberCount, type Geometry } from '../base/geometry.js';
import type { RootOuter } from '../format/root.js';
import { FOLDERS, type StoreContext } from '../store/context.js';
import { groupLabel, memberName } from '../store/group.js';
import { sealedBytes } from '../store/seal.js';
import type { RemoteFile } from './remote.js';

/** Bytes of each file found, by its path relative to the volume's folder. */
export type Sizes = ReadonlyMap<string, number>;

/** A group that a root needs, in names and sizes. */
export interface NeededGroup {
  /** For messages. */
  readonly label: string;
  readonly ordinal: number;
  readonly geometry: Geometry;
  /** In order of places. */
  readonly members: readonly NeededMember[];
}

export interface NeededMember {
  /** 'chunks/<32 hex>' */
  readonly path: string;
  /** Its size unless the group was brought to the full chunk size. */
  readonly shortBytes: number;
}

/** A member that is not to be had. */
export interface MissingMember {
  readonly path: string;
  readonly group: string;
  readonly ordinal: number;
  readonly place: number;
}

/** A group of which more members are missing than parity can replace. */
export interface LostGroup {
  readonly group: NeededGroup;
  readonly missing: readonly MissingMember[];
}

export interface SyncPlan {
  /** What the remote lacks and we have. */
  readonly uploads: readonly RemoteFile[];
  /** Those of them that the remote has with a wrong size: leftovers of a broken transfer. */
  readonly replaced: readonly string[];
  /** What the remote has already. */
  readonly present: readonly RemoteFile[];
  /** Missing, or of a wrong size, in the local folder; wherever else they may be. */
  readonly localFaults: readonly MissingMember[];
  /** Neither here nor there. */
  readonly missing: readonly MissingMember[];
  readonly lost: readonly LostGroup[];
}

export interface RestorePlan {
  readonly downloads: readonly RemoteFile[];
  readonly missing: readonly MissingMember[];
  readonly lost: readonly LostGroup[];
}

/** The groups of a closed root; every one is sealed, so that its files have their final names. */
export function neededGroups(
  context: Pick<StoreContext, 'keys'>,
  root: Pick<RootOuter, 'groups'>,
): NeededGroup[] {
  return root.groups.map((group) => {
    const { geometry, groupId, sealId, ordinal, end } = group;
    const members = Array.from({ length: memberCount(geometry) }, (_, place) => ({
      path: `${FOLDERS.chunks}/${memberName(context, groupId, sealId, place)}`,
      shortBytes: sealedBytes({ geometry }, { end, full: false }, place),
    }));
    return { label: groupLabel({ ordinal, id: groupId }), ordinal, geometry, members };
  });
}

export function planSync(groups: readonly NeededGroup[], local: Sizes, remote: Sizes): SyncPlan {
  const plan = {
    uploads: [] as RemoteFile[],
    replaced: [] as string[],
    present: [] as RemoteFile[],
    localFaults: [] as MissingMember[],
    missing: [] as MissingMember[],
    lost: [] as LostGroup[],
  };
  for (const group of groups) {
    const missing: MissingMember[] = [];
    for (const [place, file] of memberFiles(group, local, remote).entries()) {
      const here = local.get(file.path) === file.bytes;
      const there = remote.get(file.path) === file.bytes;
      const named = { path: file.path, group: group.label, ordinal: group.ordinal, place };
      if (!here) plan.localFaults.push(named);
      if (there) plan.present.push(file);
      else if (here) plan.uploads.push(file);
      else missing.push(named);
      if (here && !there && remote.has(file.path)) plan.replaced.push(file.path);
    }
    plan.missing.push(...missing);
    if (missing.length > group.geometry.parity) plan.lost.push({ group, missing });
  }
  return plan;
}

export function planRestore(groups: readonly NeededGroup[], remote: Sizes): RestorePlan {
  const { present, missing, lost } = planSync(groups, new Map(), remote);
  return { downloads: present, missing, lost };
}

/**
 * The members with the sizes that they must have. Full or short: whichever more of the files found are,
 * those of the first listing counting first.
 */
function memberFiles(group: NeededGroup, ...listings: readonly Sizes[]): RemoteFile[] {
  const { chunkBytes } = group.geometry;
  const full = isFull(group, listings);
  return group.members.map(({ path, shortBytes }) => ({
    path,
    bytes: full ? chunkBytes : shortBytes,
  }));
}

function isFull(group: NeededGroup, listings: readonly Sizes[]): boolean {
  for (const sizes of listings) {
    let fullCount = 0;
    let shortCount = 0;
    for (const { path, shortBytes } of group.members) {
      if (sizes.get(path) === group.geometry.chunkBytes) fullCount++;
      if (sizes.get(path) === shortBytes) shortCount++;
    }
    if (fullCount !== shortCount) return fullCount > shortCount;
  }
  return false;
}

export function sizesOf(files: readonly RemoteFile[]): Sizes {
  return new Map(files.map((file) => [file.path, file.bytes]));
}

export function totalBytes(files: readonly RemoteFile[]): number {
  return files.reduce((sum, file) => sum + file.bytes, 0);
}
