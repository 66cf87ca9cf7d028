/**
 * Repair of a volume's files: every sealed group is checked, what is damaged is rebuilt from parity, or
 * fetched where parity does not reach, and roots come back from their replicas.
 *
 * The volume may be in use meanwhile: sealed files are immutable, a replaced file has the same bytes,
 * and a reader that heals a slot writes what stood there anyway. Whoever calls keeps groups from being
 * deleted as long as this runs; otherwise a file that has just been removed would be taken for lost.
 */
import type { StoreContext } from '../store/context.js';
import type { Group } from '../store/group.js';
import type { SlotReader } from '../store/slot-reader.js';
import { fetchMembers, type FetchMember } from './fetch.js';
import { rebuildGroup, type RebuildResult } from './rebuild.js';
import { repairRoots, type RootRepair } from './roots.js';
import {
  checkGroup,
  CheckMeter,
  findingsOf,
  sealedOnly,
  type ScrubOptions,
  type ScrubReport,
} from './scrub.js';

export interface RepairOptions extends ScrubOptions {
  /** How the volume is read; its cache of open files learns of replaced ones. */
  readonly slots: SlotReader;
  readonly fetchMember?: FetchMember | undefined;
}

export interface RepairReport extends ScrubReport, RebuildResult {
  /** Names of members that came from elsewhere. */
  readonly fetched: readonly string[];
  readonly roots: RootRepair;
}

/**
 * Checks and repairs all sealed groups, one after another. Throws 'interrupted' when the signal says
 * so, 'no-space' and 'io' when files cannot be written; what was repaired before that stays.
 */
export async function repairVolume(
  context: StoreContext,
  groups: readonly Group[],
  options: RepairOptions,
): Promise<RepairReport> {
  const sealed = sealedOnly(groups);
  const meter = new CheckMeter(sealed, options);
  const tasks = { ...options, openFiles: options.slots.openFiles };
  const sum = new ReportSum();
  for (const group of sealed) {
    const found = await checkGroup(context, group, meter.of(group));
    sum.findings.push(...findingsOf(found));
    const whole = found.members.every(({ damages }) => damages.length === 0);
    if (found.manifest && whole) continue;
    const { check, fetched } = await fetchMembers(context, found, tasks);
    sum.fetched.push(...fetched);
    if (!check.manifest) sum.unverifiable.push(group);
    sum.add(await rebuildGroup(context, check, tasks));
  }
  const roots = await repairRoots(context, groups, options.slots);
  return {
    checkedGroups: sealed.length,
    checkedBytes: meter.doneBytes,
    skipped: groups.filter((group) => group.state !== 'sealed'),
    findings: sum.findings,
    unverifiable: sum.unverifiable,
    rebuilt: sum.rebuilt,
    mended: sum.mended,
    fetched: sum.fetched,
    lost: sum.lost,
    unrepaired: sum.unrepaired,
    roots,
  };
}

/** The report as it grows. */
class ReportSum {
  readonly findings: ScrubReport['findings'][number][] = [];
  readonly unverifiable: Group[] = [];
  readonly rebuilt: string[] = [];
  readonly mended: RebuildResult['mended'][number][] = [];
  readonly fetched: string[] = [];
  readonly lost: RebuildResult['lost'][number][] = [];
  readonly unrepaired: RebuildResult['unrepaired'][number][] = [];

  add(result: RebuildResult): void {
    this.rebuilt.push(...result.rebuilt);
    this.mended.push(...result.mended);
    this.lost.push(...result.lost);
    this.unrepaired.push(...result.unrepaired);
  }
}
