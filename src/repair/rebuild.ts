/**
 * Rebuilding the damaged members of one sealed group, row by row, from what its other members hold.
 *
 * - A member is rebuilt as a whole when every row that it needs has k units that verify. One that
 *   cannot be is mended as far as it goes where its file is there; otherwise it is left as it is.
 * - A rebuilt file is byte for byte the one that was lost: everything in it is derived.
 * - What no row gives back is returned as ranges of the group's data area.
 */
import { settleAll } from '../base/async.js';
import { RowCodec } from '../erasure/row-codec.js';
import { unitLength } from '../erasure/stripe.js';
import type { StoreContext } from '../store/context.js';
import { groupLabel, type Group } from '../store/group.js';
import { isMacListOf, throwIfStopped } from '../store/member-check.js';
import type { OpenFiles } from '../store/open-files.js';
import { GroupState, type MemberState } from './group-state.js';
import { RowSource } from './row-source.js';
import type { GroupCheck, ScrubOptions } from './scrub.js';
import { Target, type TargetMode, type TargetPlan } from './target.js';

/** Addresses [from, to) of a group's data area that cannot be rebuilt. */
export interface LostRange {
  readonly group: Group;
  readonly from: number;
  readonly to: number;
  /**
   * True when bytes are there, but no MAC list is left that could say whether they are right: a read
   * still returns every slot whose own tag matches.
   */
  readonly unverifiable: boolean;
}

export interface RebuildResult {
  /** Files that were made anew. */
  readonly rebuilt: readonly string[];
  /** Files that were mended in place, with the units written into each. */
  readonly mended: readonly { readonly path: string; readonly units: number }[];
  readonly lost: readonly LostRange[];
  /** Files that are still missing or damaged, and why. */
  readonly unrepaired: readonly { readonly path: string; readonly reason: string }[];
}

export interface RebuildOptions extends ScrubOptions {
  /** The cache of those who read the volume: it must let go of files that are replaced. */
  readonly openFiles: OpenFiles;
}

const TOO_FEW = 'too few healthy files of its group are left';

/** Rebuilds what `check` found damaged. Throws 'interrupted', 'no-space' and 'io'. */
export async function rebuildGroup(
  context: StoreContext,
  check: GroupCheck,
  options: RebuildOptions,
): Promise<RebuildResult> {
  const { group, manifest, members } = check;
  if (!manifest) return allLost(group);
  const state = new GroupState(group, manifest, members);
  const rebuild = await Rebuild.start(context, state, options);
  try {
    return await rebuild.run();
  } finally {
    await rebuild.close();
  }
}

/** Whether `rebuildGroup` could make every member whole with what is there. */
export function isRebuildable(check: GroupCheck): boolean {
  const { group, manifest, members } = check;
  if (!manifest || members.every(({ header }) => header === null)) return false;
  return new GroupState(group, manifest, members).isWhollyRecoverable();
}

class Rebuild {
  private readonly targets: Target[] = [];
  private readonly unrepaired: { path: string; reason: string }[] = [];
  private doneBytes = 0;
  private totalBytes = 0;

  private constructor(
    private readonly plan: TargetPlan,
    private readonly options: RebuildOptions,
    private readonly state: GroupState,
    private readonly source: RowSource,
    /** Two, so that a row can be read while the one before is written. */
    private readonly codecs: readonly [RowCodec, RowCodec],
  ) {}

  static async start(
    context: StoreContext,
    state: GroupState,
    options: RebuildOptions,
  ): Promise<Rebuild> {
    const header = state.members.find(({ check }) => check.header)?.check.header ?? null;
    const plan = { context, state, header, openFiles: options.openFiles };
    const { data, parity, unitBytes } = state.group.geometry;
    const first = await RowCodec.create(data, parity, unitBytes);
    const second = await RowCodec.create(data, parity, unitBytes);
    const source = await RowSource.open(context, state);
    return new Rebuild(plan, options, state, source, [first, second]);
  }

  async run(): Promise<RebuildResult> {
    await this.recoverMacLists();
    await this.openTargets();
    await this.writeRows();
    const endings = this.targets.map((target) => this.finish(target));
    await settleAll(endings);
    const done = await Promise.all(endings);
    const rebuilt = done.filter(({ mode, whole }) => mode === 'build' && whole);
    const mended = done.filter(({ mode }) => mode === 'mend');
    return {
      rebuilt: rebuilt.map(({ path }) => path),
      mended: mended.map(({ path, units }) => ({ path, units })),
      lost: this.lostRanges(),
      unrepaired: this.unrepaired,
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.targets.map((target) => target.abandon()));
    await this.source.close();
  }

  private async finish(
    target: Target,
  ): Promise<{ mode: TargetMode; path: string; units: number; whole: boolean }> {
    const { mode, member, units } = target;
    const { path } = member.check;
    const reason = await target.finish();
    if (reason !== null) this.unrepaired.push({ path, reason });
    return { mode, path, units, whole: reason === null };
  }

  /**
   * Where rows lack units, those of members without a trusted MAC list are needed too. Their list is put
   * together from the rows that can be computed and, in the others, from their units as they are: the
   * manifest tells whether that is right.
   */
  private async recoverMacLists(): Promise<void> {
    if (this.state.isWhollyRecoverable()) return;
    for (let progress = true; progress;) {
      progress = false;
      for (const member of this.state.members) {
        if (member.macs || !member.check.exists) continue;
        const macs = await this.likelyMacs(member);
        if (!isMacListOf(this.state.manifest.manifest, member.place, macs)) continue;
        member.trust(macs);
        progress = true;
      }
    }
  }

  private async likelyMacs(member: MemberState): Promise<Uint8Array[]> {
    const macs: Uint8Array[] = [];
    const [codec] = this.codecs;
    for (const row of this.state.rows) {
      throwIfStopped(this.options.signal);
      if (await this.source.load(row, codec)) {
        macs.push(this.source.take(member.place, row, codec).mac);
        continue;
      }
      const asItIs = member.check.found[row];
      if (!asItIs) return [];
      macs.push(asItIs);
    }
    return macs;
  }

  private async openTargets(): Promise<void> {
    for (const member of this.state.members) {
      if (member.check.damages.length === 0) continue;
      const mode = this.modeOf(member);
      if (!mode) {
        this.unrepaired.push({ path: member.check.path, reason: TOO_FEW });
        continue;
      }
      const target = await Target.open(this.plan, member, mode);
      this.targets.push(target);
      await this.settleEmptyUnits(target);
    }
  }

  /** A file whose own MAC list is sound is mended; others are built, when all they need can be had. */
  private modeOf(member: MemberState): TargetMode | null {
    if (member.check.macs) return 'mend';
    const { place } = member;
    const whole = this.state.rows.every((row) => {
      return this.state.isEmpty(place, row) || this.state.isRecoverable(row);
    });
    if (whole && this.plan.header) return 'build';
    return member.macs ? 'mend' : null;
  }

  private async settleEmptyUnits(target: Target): Promise<void> {
    const { place } = target.member;
    for (const row of this.state.rows) {
      if (!target.wants(row) || !this.state.isEmpty(place, row)) continue;
      await target.writeUnit(row, new Uint8Array(0), this.source.emptyMac(place, row));
    }
  }

  /** Every row that a target needs, the next one being read while the last is written. */
  private async writeRows(): Promise<void> {
    const rows = this.state.rows.filter((row) => {
      return this.state.isRecoverable(row) && this.targets.some((target) => target.wants(row));
    });
    this.totalBytes = rows.reduce((sum, row) => sum + this.bytesWanted(row), 0);
    let loading = this.load(rows, 0);
    try {
      for (const [index, row] of rows.entries()) {
        throwIfStopped(this.options.signal);
        const loaded = await loading;
        loading = this.load(rows, index + 1);
        if (loaded) await this.writeRow(row, this.codecs[index % 2]!);
      }
    } finally {
      await loading.catch(() => undefined);
    }
  }

  private load(rows: readonly number[], index: number): Promise<boolean> {
    const row = rows[index];
    if (row === undefined) return Promise.resolve(false);
    const loading = this.source.load(row, this.codecs[index % 2]!);
    // Whoever awaits it sees the failure; until then it must not count as unhandled.
    loading.catch(() => undefined);
    return loading;
  }

  private async writeRow(row: number, codec: RowCodec): Promise<void> {
    const bytes = this.bytesWanted(row);
    const writes = this.targets
      .filter((target) => target.wants(row))
      .map((target) => {
        const unit = this.source.take(target.member.place, row, codec);
        return target.writeUnit(row, unit.bytes, unit.mac);
      });
    await settleAll(writes);
    this.doneBytes += bytes;
    this.options.onProgress?.({
      phase: 'rebuild',
      group: groupLabel(this.state.group),
      doneBytes: this.doneBytes,
      totalBytes: this.totalBytes,
    });
  }

  private bytesWanted(row: number): number {
    const { geometry } = this.state.group;
    const wanting = this.targets.filter((target) => target.wants(row));
    return wanting.reduce((sum, { member }) => {
      return sum + unitLength(geometry, this.state.end, member.place, row);
    }, 0);
  }

  /** Data units that are not sound, in rows that do not have k sound ones. */
  private lostRanges(): LostRange[] {
    const { group, end } = this.state;
    const { data, unitBytes } = group.geometry;
    const ranges: { group: Group; from: number; to: number; unverifiable: boolean }[] = [];
    for (const row of this.state.rows) {
      if (this.state.isRecoverable(row)) continue;
      for (let place = 0; place < data; place++) {
        if (this.state.isSound(place, row)) continue;
        const from = (row * data + place) * unitBytes;
        const to = from + unitLength(group.geometry, end, place, row);
        const { macs, check } = this.state.members[place]!;
        const unverifiable = macs === null && check.found[row] !== null;
        const last = ranges.at(-1);
        if (last?.to === from && last.unverifiable === unverifiable) last.to = to;
        else ranges.push({ group, from, to, unverifiable });
      }
    }
    return ranges;
  }
}

/** A group without a footer: nothing of it can be verified by MAC. */
function allLost(group: Group): RebuildResult {
  const reason = 'no footer of its group is left';
  const unrepaired = group.paths.map((path) => ({ path, reason }));
  const lost = [{ group, from: 0, to: group.end, unverifiable: true }];
  return { rebuilt: [], mended: [], lost, unrepaired };
}
