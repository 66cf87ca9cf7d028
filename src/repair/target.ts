/**
 * The file of a member that is being repaired. No byte is written into it that did not verify.
 *
 * build   a whole new file under NAME.new, which takes its name when the MACs of all its units are
 *         those that the manifest vouches for; until then the present file, if any, stays as it is
 * mend    the damaged parts of a file whose MAC list is known are overwritten where they are; a crash
 *         in between leaves damage only where it was. The modification time is kept.
 */
import { equalBytes } from '../base/bytes.js';
import type { OpenFile } from '../base/files.js';
import { unitStart } from '../erasure/stripe.js';
import type { ChunkHeader } from '../format/chunk-header.js';
import { sealHeader } from '../store/chunk-meta.js';
import type { StoreContext } from '../store/context.js';
import { NEW_SUFFIX } from '../store/group.js';
import { isMacListOf, type DamagedPart } from '../store/member-check.js';
import { statMember } from '../store/member-stat.js';
import type { OpenFiles } from '../store/open-files.js';
import { takeName } from '../store/set-aside.js';
import { writeEnd } from '../store/seal.js';
import type { GroupState, MemberState } from './group-state.js';

export type TargetMode = 'build' | 'mend';

export interface TargetPlan {
  readonly context: StoreContext;
  readonly state: GroupState;
  /** Of any member; null when the group has none left. */
  readonly header: ChunkHeader | null;
  readonly openFiles: OpenFiles;
}

export class Target {
  readonly macs: (Uint8Array | null)[];
  /** Units that were written. */
  units = 0;
  private done = false;
  /** 1 for each row still to be written: in a mended file those that were bad at the start. */
  private readonly wanted: Uint8Array;

  private constructor(
    private readonly plan: TargetPlan,
    readonly member: MemberState,
    readonly mode: TargetMode,
    private readonly file: OpenFile,
    /** The time of the present file, which the repaired one keeps; null where none is. */
    private readonly modifiedMs: number | null,
  ) {
    this.macs = plan.state.rows.map((row) => member.macs?.[row] ?? null);
    this.wanted = member.bad.slice();
    if (mode === 'build') this.wanted.fill(1);
  }

  static async open(plan: TargetPlan, member: MemberState, mode: TargetMode): Promise<Target> {
    const { files } = plan.context;
    const { path } = member.check;
    const modifiedMs = (await statMember(files, path))?.modifiedMs ?? null;
    const where = mode === 'mend' ? path : path + NEW_SUFFIX;
    if (mode === 'build') await files.remove(where);
    const file = await files.open(where, mode === 'mend' ? 'update' : 'create');
    return new Target(plan, member, mode, file, modifiedMs);
  }

  wants(row: number): boolean {
    return this.wanted[row] === 1;
  }

  /** Writes a unit, given from its start, unless its MAC is known to be another. */
  async writeUnit(row: number, bytes: Uint8Array, mac: Uint8Array): Promise<void> {
    const known = this.macs[row];
    if (known && !equalBytes(known, mac)) return;
    this.macs[row] = mac;
    this.wanted[row] = 0;
    const start = unitStart(row);
    if (bytes.length <= start) return;
    const position = row * this.plan.state.group.geometry.unitBytes + start;
    await this.file.write(bytes.subarray(start), position);
    this.units++;
  }

  /** Completes the file; null when it is whole now, else why it is not. */
  async finish(): Promise<string | null> {
    return this.mode === 'build' ? this.publish() : this.endMending();
  }

  /** Gives up what is not finished. */
  async abandon(): Promise<void> {
    if (this.done) return;
    await this.file.close().catch(() => undefined);
    if (this.mode === 'build') {
      await this.plan.context.files.remove(this.file.path).catch(() => undefined);
    }
  }

  private async publish(): Promise<string | null> {
    const { context, header, openFiles } = this.plan;
    const { path } = this.member.check;
    const macs = this.vouchedMacs();
    if (!header) return 'no header of the group is left to rebuild it with';
    if (this.unitsLeft() > 0) {
      return 'more damage came up while it was being rebuilt; run chunkvol repair again';
    }
    if (!macs) return 'what its group gives back is not what the manifest vouches for';
    await this.writeHeader(header);
    // After a crash a footer must not vouch for units that never reached the disk.
    await this.file.sync();
    await this.writeEnd(macs);
    await this.settleFile();
    await takeName(context, this.file.path, path);
    this.done = true;
    openFiles.forget(path);
    return null;
  }

  private async endMending(): Promise<string | null> {
    const { header } = this.plan;
    const { check } = this.member;
    if (this.isDamaged('header') && header) await this.writeHeader(header);
    if (this.isDamaged('size') && (await this.file.size()) > check.expectedBytes) {
      await this.file.truncate(check.expectedBytes);
    }
    const macs = this.vouchedMacs();
    if (macs && this.isDamaged('size', 'fill', 'footer')) await this.writeEnd(macs);
    await this.settleFile();
    this.done = true;
    if (this.unitsLeft() > 0) return `${this.unitsLeft()} of its units cannot be rebuilt`;
    if (this.isDamaged('header') && !header) return 'no header of the group is left for it';
    return null;
  }

  private unitsLeft(): number {
    return this.wanted.reduce((sum, row) => sum + row, 0);
  }

  private isDamaged(...parts: readonly DamagedPart[]): boolean {
    return this.member.check.damages.some(({ part }) => parts.includes(part));
  }

  /** The complete list of MACs, when the manifest agrees with it. */
  private vouchedMacs(): readonly Uint8Array[] | null {
    const macs = this.macs.filter((mac) => mac !== null);
    return isMacListOf(this.plan.state.manifest.manifest, this.member.place, macs) ? macs : null;
  }

  private async writeHeader(header: ChunkHeader): Promise<void> {
    const { place } = this.member;
    await this.file.write(sealHeader(this.plan.context.keys.maintenance, { ...header, place }), 0);
  }

  private async writeEnd(macs: readonly Uint8Array[]): Promise<void> {
    const { context, state } = this.plan;
    const { group, manifest } = state;
    const { place } = this.member;
    await writeEnd(context, group, this.file, place, manifest.bytes, macs, manifest.manifest);
  }

  private async settleFile(): Promise<void> {
    await this.file.sync();
    await this.file.close();
    if (this.modifiedMs !== null) {
      await this.plan.context.files.touch(this.file.path, this.modifiedMs);
    }
  }
}
