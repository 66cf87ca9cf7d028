/** The groups of a volume by ordinal, and how much of each is alive. */
import { ChunkvolError } from '../base/errors.js';
import type { Group } from '../store/group.js';

export class GroupTable {
  private readonly groups = new Map<number, Group>();

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
    const group = this.groups.get(ordinal);
    if (!group) {
      throw new ChunkvolError('damaged', `the map names group ${ordinal}, which does not exist`);
    }
    return group;
  }

  /** In order of ordinals. */
  all(): Group[] {
    return [...this.groups.values()].sort((a, b) => a.ordinal - b.ordinal);
  }

  /** A slot of `bytes` in the group became alive, or, with negative bytes, dead. */
  account(ordinal: number, bytes: number): void {
    const group = this.groups.get(ordinal);
    if (group) group.liveBytes = Math.max(0, group.liveBytes + bytes);
  }
}
