/**
 * What is known, while a group is being rebuilt, of each of its units: whether it can be had from its
 * file. Pure bookkeeping; row-source.ts reads and writes down what it finds out.
 */
import { rowCount } from '../erasure/stripe.js';
import type { Group } from '../store/group.js';
import {
  isEmptyUnit,
  isSoundUnit,
  type GroupManifest,
  type MemberCheck,
} from '../store/member-check.js';

export class MemberState {
  /** The MACs that its units must have; null while nothing vouches for a list. */
  macs: readonly Uint8Array[] | null = null;
  /** 1 for each row whose unit is not to be had from the file. */
  readonly bad: Uint8Array;

  constructor(
    readonly check: MemberCheck,
    rows: number,
  ) {
    this.bad = new Uint8Array(rows).fill(1);
    if (check.macs) this.trust(check.macs);
  }

  get place(): number {
    return this.check.place;
  }

  /** Takes a list as right, and compares with it what was found. */
  trust(macs: readonly Uint8Array[]): void {
    this.macs = macs;
    for (let row = 0; row < this.bad.length; row++) {
      this.bad[row] = isSoundUnit(macs, this.check.found, row) ? 0 : 1;
    }
  }
}

export class GroupState {
  readonly members: readonly MemberState[];
  /** Where the data area ends. */
  readonly end: number;
  /** The numbers of all rows. */
  readonly rows: readonly number[];

  constructor(
    readonly group: Group,
    readonly manifest: GroupManifest,
    checks: readonly MemberCheck[],
  ) {
    this.end = manifest.manifest.end;
    const rows = rowCount(group.geometry, this.end);
    this.rows = Array.from({ length: rows }, (_, row) => row);
    this.members = checks.map((check) => new MemberState(check, rows));
  }

  isEmpty(place: number, row: number): boolean {
    return isEmptyUnit(this.group.geometry, this.end, place, row);
  }

  /** Whether the unit can be read and verified, or holds nothing. */
  isSound(place: number, row: number): boolean {
    return this.isEmpty(place, row) || this.members[place]!.bad[row] === 0;
  }

  soundPlaces(row: number): number[] {
    return this.members.map(({ place }) => place).filter((place) => this.isSound(place, row));
  }

  /** Whether enough of a row is sound to compute the rest. */
  isRecoverable(row: number): boolean {
    return this.soundPlaces(row).length >= this.group.geometry.data;
  }

  isWhollyRecoverable(): boolean {
    return this.rows.every((row) => this.isRecoverable(row));
  }
}
