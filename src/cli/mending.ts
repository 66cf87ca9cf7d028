/** The operations `scrub` and `repair` on an open volume, their reports in JSON. */
import { errorMessage, isChunkvolError } from '../base/errors.js';
import { FOLDERS, type StoreContext } from '../store/context.js';
import { groupLabel, NEW_SUFFIX, type Group } from '../store/group.js';
import type { UnlockedVolume } from '../store/key-files.js';
import type { SlotReader } from '../store/slot-reader.js';
import type { LostRange } from '../repair/rebuild.js';
import { repairVolume, type RepairReport } from '../repair/repair.js';
import type { FetchMember } from '../repair/fetch.js';
import {
  describeFinding,
  scrubGroups,
  type Finding,
  type RepairProgress,
  type ScrubReport,
} from '../repair/scrub.js';
import { openRemote } from '../sync/open-remote.js';
import type { Remote } from '../sync/remote.js';
import { RangeSet } from '../volume/ranges.js';
import type { Volume } from '../volume/volume.js';
import type { OperationContext } from './control-server.js';
import { restoreKeyFile } from './key-rescue.js';
import { unreadableIn, type DiskRange } from './verify.js';
import type { RepairArguments } from './operations.js';

/** Named lines of a report; beyond them the number has to do. */
const MAX_LISTED = 10_000;

/** The files of a volume, open or not. */
export interface MendingHost {
  readonly context: StoreContext;
  /** With what the volume was opened. */
  readonly unlocked: UnlockedVolume;
  readonly slots: SlotReader;
  groups(): readonly Group[];
  /**
   * From ranges of a group's data that have lost more units than parity replaces, to the ranges of the
   * disk that cannot be read: a slot may be sound where its unit is not. null where there is no map.
   */
  readonly lostRanges: ((ranges: readonly LostRange[]) => Promise<DiskRange[]>) | null;
}

export interface ScrubOutcome {
  readonly checkedGroups: number;
  readonly checkedBytes: number;
  /** One line for each damaged range: file, part, bytes. */
  readonly damages: readonly string[];
  readonly damagedFiles: number;
  /** Groups (by label) of which more is damaged at one place than parity can replace. */
  readonly hopeless: readonly string[];
  /** Groups that are not sealed yet; reading them verifies them. */
  readonly skippedGroups: number;
  /** Why the newest state does not open, for something else than the damages; null when it does. */
  readonly shut: string | null;
}

export interface RepairOutcome extends ScrubOutcome {
  readonly rebuiltFiles: readonly string[];
  readonly mendedFiles: readonly string[];
  readonly fetchedFiles: readonly string[];
  readonly restoredRoots: readonly string[];
  readonly restoredKeyFile: boolean;
  /** Files still missing or damaged: "PATH: why". */
  readonly unrepaired: readonly string[];
  /** Ranges of the disk whose contents are gone, in bytes. */
  readonly lost: readonly DiskRange[];
  /** Why the remote could not help, and what else was not done; one line each. */
  readonly notes: readonly string[];
}

/** The same for an open volume. */
export function mendingHost(volume: Volume, unlocked: UnlockedVolume): MendingHost {
  return {
    context: volume.context,
    unlocked,
    slots: volume.slots,
    groups: () => volume.groups(),
    lostRanges: (ranges) => lostOnDisk(volume, ranges),
  };
}

export async function runScrub(
  host: MendingHost,
  context: OperationContext,
): Promise<ScrubOutcome> {
  return scrubOutcome(await scrubGroups(host.context, host.groups(), hooks(context)));
}

export async function runRepair(
  host: MendingHost,
  { from }: RepairArguments,
  context: OperationContext,
): Promise<RepairOutcome> {
  const notes: string[] = [];
  const fetchMember =
    from === null ? undefined : memberFetcher(host, openRemote(from), context, notes);
  const repairOnce = (): Promise<RepairReport> =>
    repairVolume(host.context, host.groups(), {
      ...hooks(context),
      slots: host.slots,
      fetchMember,
    });
  const first = await repairOnce();
  const lost = (await host.lostRanges?.(first.lost)) ?? [];
  // Reading has healed what could be read: units that were beyond parity may be within it now.
  const report = first.lost.length > 0 && lost.length === 0 ? await repairOnce() : first;
  const both = report === first ? [first] : [first, report];
  return {
    ...scrubOutcome(report),
    rebuiltFiles: both.flatMap(({ rebuilt }) => rebuilt),
    mendedFiles: [...new Set(both.flatMap(({ mended }) => mended.map(({ path }) => path)))],
    fetchedFiles: both.flatMap(({ fetched }) => fetched),
    restoredRoots: both.flatMap(({ roots }) => roots.restored),
    restoredKeyFile: await putKeyFileBack(host, notes),
    unrepaired: report.unrepaired.map(({ path, reason }) => `${path}: ${reason}`),
    lost,
    notes,
  };
}

/** What was repaired before is told whatever comes of this. */
async function putKeyFileBack(
  { context: { files, folder }, unlocked }: MendingHost,
  notes: string[],
): Promise<boolean> {
  try {
    return await restoreKeyFile(files, folder, unlocked);
  } catch (error) {
    if (!isChunkvolError(error)) throw error;
    notes.push(`the key files were not looked after: ${error.message}`);
    return false;
  }
}

function hooks({ onProgress, signal }: OperationContext): {
  signal: AbortSignal;
  onProgress: (progress: RepairProgress) => void;
} {
  return {
    signal,
    onProgress: ({ phase, group, doneBytes, totalBytes }) => {
      const words = phase === 'check' ? 'checking' : `rebuilding ${group}`;
      onProgress({ phase: words, doneBytes, totalBytes });
    },
  };
}

function scrubOutcome(report: ScrubReport): ScrubOutcome {
  return {
    checkedGroups: report.checkedGroups,
    checkedBytes: report.checkedBytes,
    damages: [
      ...report.findings.flatMap(describeFinding),
      ...report.unverifiable.map((group) => `${groupLabel(group)}: no footer of it is left`),
    ].slice(0, MAX_LISTED),
    damagedFiles: report.findings.length,
    hopeless: [...report.unverifiable.map(groupLabel), ...beyondParity(report.findings)],
    skippedGroups: report.skipped.length,
    shut: null,
  };
}

/** Groups in which, somewhere, more units of one row are damaged than there are parity members. */
export function beyondParity(findings: readonly Finding[]): string[] {
  const groups = [...new Set(findings.map(({ group }) => group))];
  return groups
    .filter((group) => {
      const own = findings.filter((finding) => finding.group === group);
      return maxOverlap(own) > group.geometry.parity;
    })
    .map(groupLabel);
}

/**
 * The most members of one group that are damaged at the same offset. A size is left out: what a short
 * file lacks are damaged units as well.
 */
function maxOverlap(findings: readonly Finding[]): number {
  const edges = findings.flatMap(({ damages }) =>
    damages
      .filter(({ part }) => part === 'file' || part === 'units')
      .flatMap(({ from, to }) => [
        { at: from, step: 1 },
        { at: to, step: -1 },
      ]),
  );
  edges.sort((a, b) => a.at - b.at || a.step - b.step);
  let depth = 0;
  let most = 0;
  for (const { step } of edges) {
    depth += step;
    most = Math.max(most, depth);
  }
  return most;
}

/** What of the disk cannot be read: of what merely cannot be verified, each block is read by its own tag. */
async function lostOnDisk(volume: Volume, ranges: readonly LostRange[]): Promise<DiskRange[]> {
  const { blockBytes } = volume;
  const lost = new RangeSet();
  const doubtful: DiskRange[] = [];
  for (const { group, from, to } of ranges) {
    const found = await volume.blocksIn(group, from, to, (block, count) => {
      lost.add(block * blockBytes, (block + count) * blockBytes);
    });
    for (const { block, count } of found) {
      doubtful.push({ offset: block * blockBytes, bytes: count * blockBytes });
    }
  }
  for (const { offset, bytes } of await unreadableIn(volume, doubtful)) {
    lost.add(offset, offset + bytes);
  }
  return lost.take(lost.size).map(({ start, end }) => ({ offset: start, bytes: end - start }));
}

/** Fetches chunk files from a remote into the folder of half-done ones. */
function memberFetcher(
  { context: { files, folder } }: MendingHost,
  remote: Remote,
  { signal }: OperationContext,
  notes: string[],
): FetchMember {
  const staging = `${folder}/${FOLDERS.local}/fetched-repair`;
  let listing: Promise<Set<string>> | undefined;
  return async (name) => {
    const path = `${FOLDERS.chunks}/${name}`;
    try {
      listing ??= remote
        .list(FOLDERS.chunks, signal)
        .then((found) => new Set(found.map((file) => file.path)));
      if (!(await listing).has(path)) return false;
      await remote.download(staging, [path], { signal });
      await files.makeFolder(`${folder}/${FOLDERS.chunks}`);
    } catch (error) {
      if (!isChunkvolError(error, 'remote')) throw error;
      notes.push(errorMessage(error));
      return false;
    }
    await files.rename(`${staging}/${path}`, `${folder}/${path}${NEW_SUFFIX}`);
    return true;
  };
}
