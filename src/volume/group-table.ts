/**
 * The groups of a volume by ordinal, and how much of each is alive. A retired group is one that nothing
 * in the present state needs; older roots may, and so may readers that have found an address in it.
 */
import { ChunkvolError } from '../base/errors.js';
import type { Group } from '../store/group.js';
import type { Account } from './block-map.js';
import type { Heads } from './heads.js';

export class GroupTable {
  private readonly groups = new Map<number, Group>();
  private readonly retiredGroups = new Map<number, Group>();

  get size(): number {
    return this.groups.size;
  }

  add(group: Group): void {
    this.groups.set(group.ordinal, group);
  }

  remove(ordinal: number): void {
    this.groups.delete(ordinal);
  }

  find(ordinal: number): Group | undefined {
    return this.groups.get(ordinal);
  }

  /** The group that a map entry names. */
  get(ordinal: number): Group {
    const group = this.groups.get(ordinal) ?? this.retiredGroups.get(ordinal);
    if (!group) {
      throw new ChunkvolError('damaged', `the map names group ${ordinal}, which does not exist`);
    }
    return group;
  }

  /** In order of ordinals. */
  all(): Group[] {
    return inOrder(this.groups);
  }

  /** Sealed groups that lie wholly before the group in which the log ends, in order of ordinals. */
  sealedBefore(ordinal: number): Group[] {
    return this.all().filter((group) => group.state === 'sealed' && group.ordinal < ordinal);
  }

  /** The present state needs the group no more, for good. */
  retire(group: Group): void {
    this.groups.delete(group.ordinal);
    this.retiredGroups.set(group.ordinal, group);
  }

  /** In order of ordinals. */
  retired(): Group[] {
    return inOrder(this.retiredGroups);
  }

  /** The files of a retired group are gone, or about to be. */
  forget(ordinal: number): void {
    this.retiredGroups.delete(ordinal);
  }

  /** A slot of `bytes` in the group became alive, or, with negative bytes, dead. */
  account(ordinal: number, bytes: number): void {
    const group = this.groups.get(ordinal);
    if (group) group.liveBytes = Math.max(0, group.liveBytes + bytes);
  }
}

function inOrder(groups: ReadonlyMap<number, Group>): Group[] {
  return [...groups.values()].sort((a, b) => a.ordinal - b.ordinal);
}

/** Keeps the groups' live bytes up to date with what the disk's own map refers to. */
export function liveAccount(groups: GroupTable, heads: Heads): Account {
  const mayBeHeld = (ordinal: number, position: number): boolean => {
    const group = groups.find(ordinal);
    // The log was there already when the group was made that it stands in.
    if (group && group.survived > 0) return heads.mayHold(group.bornAfter, 0);
    return heads.mayHold(ordinal, position);
  };
  return (ordinal, position, bytes) => {
    if (bytes > 0 || !mayBeHeld(ordinal, position)) groups.account(ordinal, bytes);
  };
}
