/**
 * How long files stay that the present state needs no more: roots, and retired groups.
 *
 * - Never deleted: what the newest root, the newest two closed ones (whose replicas the newest groups
 *   carry) and pinned ones name, and every group that recovery from one of them would come through.
 * - Other roots, and what they alone need, stay as long as all retired groups together are within a
 *   budget: a copy that somebody is making by hand still finds what its root needs. Then the oldest
 *   roots go first, and after them the groups that no root names any more.
 * - A group goes as a whole, after every read that may have found an address in it is over.
 */
import { memberCount } from '../base/geometry.js';
import { errorMessage } from '../base/errors.js';
import { chunkFolder, type StoreContext } from '../store/context.js';
import { groupLabel, type Group } from '../store/group.js';
import type { OpenFiles } from '../store/open-files.js';
import type { RootFile } from '../store/root-files.js';
import type { GroupTable } from './group-table.js';
import { RETIRED_SHARE } from './limits.js';
import type { ReadEpochs } from './read-epochs.js';
import type { Roots } from './roots.js';

export interface Deleted {
  readonly groups: number;
  /** Bytes of files. */
  readonly bytes: number;
}

export class Retention {
  private running: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly context: StoreContext,
    private readonly groups: GroupTable,
    private readonly roots: Roots,
    private readonly openFiles: OpenFiles,
    private readonly epochs: ReadEpochs,
    private readonly onNotice: (line: string) => void,
  ) {}

  /** Bytes of the files of retired groups, nearly. */
  get retiredBytes(): number {
    return sum(this.groups.retired().map(fileBytes));
  }

  /** The bytes of retired groups that may stay. */
  get budgetBytes(): number {
    return sum(this.groups.all().map(fileBytes)) * RETIRED_SHARE;
  }

  /** Deletes what has to go for retired groups to be within `budgetBytes`, as far as that is possible. */
  settle(budgetBytes: number = this.budgetBytes): Promise<Deleted> {
    const result = this.running.then(() => this.settleNow(budgetBytes));
    this.running = result.catch(() => undefined);
    return result;
  }

  private async settleNow(budgetBytes: number): Promise<Deleted> {
    const done = { groups: 0, bytes: 0 };
    for (;;) {
      if (this.roots.held || this.retiredBytes <= budgetBytes) return done;
      // Where only replicas of roots are left, one of those is what a crash would lead back to.
      if (!this.roots.newestClosed) return done;
      const [free] = this.groups.retired().filter((group) => !this.isNeeded(group));
      if (free) {
        if (!(await this.delete(free))) return done;
        done.groups++;
        done.bytes += fileBytes(free);
      } else if (!(await this.dropOldestRoot())) {
        return done;
      }
    }
  }

  /** Whether any root that is there needs the group, or leads to the present state by way of it. */
  private isNeeded(group: Group): boolean {
    return this.roots.all.some(({ root }) => {
      const listed = root.groups.some(({ ordinal }) => ordinal === group.ordinal);
      return listed || root.tail.ordinal <= group.ordinal;
    });
  }

  /** Of the roots that need not stay, the oldest one. False when there is none. */
  private async dropOldestRoot(): Promise<boolean> {
    const stays = new Set<RootFile>(this.roots.lasting());
    const oldest = this.roots.all.findLast((file) => !stays.has(file));
    return oldest !== undefined && this.roots.remove(oldest);
  }

  /** False when it failed: the group stays retired, and is tried again later. */
  private async delete(group: Group): Promise<boolean> {
    await this.epochs.passed();
    // A hold may have begun meanwhile.
    if (this.roots.held) return false;
    try {
      for (const path of group.paths) {
        this.openFiles.forget(path);
        await this.context.files.remove(path);
      }
      await this.context.files.syncFolder(chunkFolder(this.context));
    } catch (error) {
      this.onNotice(`${groupLabel(group)} could not be deleted: ${errorMessage(error)}`);
      return false;
    }
    this.groups.forget(group.ordinal);
    return true;
  }
}

/** What the files of a group take, but for headers and footers. */
export function fileBytes({ end, geometry }: Group): number {
  return (end / geometry.data) * memberCount(geometry);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
