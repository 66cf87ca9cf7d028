/**
 * The scrub: every byte of every sealed group is read and checked; nothing is written.
 *
 * Groups that are open or cut have no footers yet. Their commits are verified slot by slot whenever the
 * log is read, so they are left out here, and the report says so.
 */
import { settleAll } from '../base/async.js';
import { memberBytes } from '../erasure/stripe.js';
import type { StoreContext } from '../store/context.js';
import { groupLabel, type Group } from '../store/group.js';
import {
  checkMember,
  readGroupManifest,
  type Damage,
  type GroupManifest,
  type MemberCheck,
} from '../store/member-check.js';

export interface RepairProgress {
  readonly phase: 'check' | 'rebuild';
  /** A short name of the group that is being worked on. */
  readonly group: string;
  readonly doneBytes: number;
  /** Of all groups while checking, of this group while rebuilding. */
  readonly totalBytes: number;
}

export interface ScrubOptions {
  readonly onProgress?: ((progress: RepairProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** All that one check of a group found out. It lasts as long as nobody writes to the group's files. */
export interface GroupCheck {
  readonly group: Group;
  /** null when no footer of the group can be trusted: then `members` is empty. */
  readonly manifest: GroupManifest | null;
  readonly members: readonly MemberCheck[];
}

export interface Finding {
  readonly group: Group;
  readonly place: number;
  readonly path: string;
  readonly damages: readonly Damage[];
}

export interface ScrubReport {
  readonly checkedGroups: number;
  readonly checkedBytes: number;
  readonly findings: readonly Finding[];
  /** Groups of which no footer is left: only the slots' own tags can tell right from wrong in them. */
  readonly unverifiable: readonly Group[];
  /** Groups that are open or cut. */
  readonly skipped: readonly Group[];
}

/** Checks all sealed groups of `groups`. Throws 'interrupted' when the signal says so. */
export async function scrubGroups(
  context: StoreContext,
  groups: readonly Group[],
  options: ScrubOptions = {},
): Promise<ScrubReport> {
  const sealed = sealedOnly(groups);
  const meter = new CheckMeter(sealed, options);
  const findings: Finding[] = [];
  const unverifiable: Group[] = [];
  for (const group of sealed) {
    const check = await checkGroup(context, group, meter.of(group));
    findings.push(...findingsOf(check));
    if (!check.manifest) unverifiable.push(group);
  }
  return {
    checkedGroups: sealed.length,
    checkedBytes: meter.doneBytes,
    findings,
    unverifiable,
    skipped: groups.filter((group) => group.state !== 'sealed'),
  };
}

/** Checks all members of one sealed group side by side, each a unit at a time. */
export async function checkGroup(
  context: StoreContext,
  group: Group,
  options: Pick<ScrubOptions, 'signal'> & { onBytes?: (bytes: number) => void } = {},
): Promise<GroupCheck> {
  const manifest = await readGroupManifest(context, group);
  if (!manifest) return { group, manifest, members: [] };
  const checks = group.paths.map((_, place) => {
    return checkMember(context, group, place, manifest, options);
  });
  // All must have let go of their files before a failure is passed on.
  await settleAll(checks);
  return { group, manifest, members: await Promise.all(checks) };
}

export function findingsOf(check: GroupCheck): Finding[] {
  return check.members
    .filter((member) => member.damages.length > 0)
    .map(({ place, path, damages }) => ({ group: check.group, place, path, damages }));
}

export function sealedOnly(groups: readonly Group[]): Group[] {
  return groups.filter((group) => group.state === 'sealed');
}

/** One line for each damaged range: file, part, bytes. */
export function describeFinding(finding: Finding): string[] {
  const label = groupLabel(finding.group);
  return finding.damages.map(({ part, from, to }) => {
    if (part === 'file') return `${finding.path}: missing (file ${finding.place} of ${label})`;
    if (part === 'size') return `${finding.path}: wrong size (bytes ${from} to ${to} of ${label})`;
    return `${finding.path}: ${part} damaged (bytes ${from} to ${to}, ${label})`;
  });
}

/** Adds up what all members of all groups report. */
export class CheckMeter {
  doneBytes = 0;
  private readonly totalBytes: number;

  constructor(
    groups: readonly Group[],
    private readonly options: ScrubOptions,
  ) {
    this.totalBytes = groups.reduce((sum, group) => sum + groupBytes(group), 0);
  }

  of(group: Group): { onBytes: (bytes: number) => void; signal: AbortSignal | undefined } {
    const label = groupLabel(group);
    return {
      signal: this.options.signal,
      onBytes: (bytes) => {
        this.doneBytes += bytes;
        this.options.onProgress?.({
          phase: 'check',
          group: label,
          doneBytes: this.doneBytes,
          // A root may name less of a group than was sealed in the end.
          totalBytes: Math.max(this.totalBytes, this.doneBytes),
        });
      },
    };
  }
}

function groupBytes(group: Group): number {
  return group.paths.reduce((sum, _, place) => {
    return sum + memberBytes(group.geometry, group.end, place);
  }, 0);
}
