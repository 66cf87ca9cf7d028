/**
 * Groups for what collections move: apart from what is being written, and by how many collections it has
 * come through. So what is overwritten often and what is not do not share groups, and groups empty as a
 * whole instead of all being half full.
 *
 * They are none of the log, and hold no commits: blocks are made durable in them first, then a commit in the
 * log says where they are. What no commit tells of does not count. All is called under the write path's lock.
 */
import { errorMessage, isChunkvolError } from '../base/errors.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import type { MoveEntry } from '../format/commit.js';
import { disposeGroup } from '../store/birth.js';
import type { GroupWriter } from '../store/group-writer.js';
import { groupLabel } from '../store/group.js';
import type { OpenFiles } from '../store/open-files.js';
import type { LogEnd } from './log-end.js';
import { sealOrCut } from './seal-group.js';

/** Blocks on their way from one place to another, in order of their numbers. */
export interface Moves {
  readonly blocks: Float64Array;
  /** Ordinal and position of each, in turn. */
  readonly old: Uint32Array;
  /** Where the plaintext of each stands in `plain`, in blocks. */
  readonly slots: Uint32Array;
  readonly plain: Uint8Array;
}

/** Times that blocks are placed again because the disk failed under them. */
const MAX_ATTEMPTS = 3;

interface Open {
  readonly writer: GroupWriter;
  /** As far as it is durable. */
  end: number;
}

export class Survivors {
  /** By the number of collections. */
  private readonly open = new Map<number, Open>();
  private sealing: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly end: LogEnd,
    private readonly openFiles: OpenFiles,
  ) {}

  /** Makes blocks durable in groups of their kind; the entries tell the log of it. */
  async place(moves: Moves, survived: number): Promise<MoveEntry[]> {
    const entries: MoveEntry[] = [];
    const count = moves.blocks.length;
    await this.requireRoom(count);
    for (let at = 0, failures = 0; at < count;) {
      const open = await this.openFor(survived);
      try {
        await this.makeDurable(open);
        const fitting = this.fitting(open.writer, count - at);
        if (fitting === 0) {
          await this.protect(open);
          this.seal(survived, open, true);
          continue;
        }
        entries.push(await this.placeIn(open, part(moves, at, at + fitting)));
        at += fitting;
      } catch (error) {
        await this.noteFailure(survived, open, error);
        if (isChunkvolError(error, 'no-space') || ++failures === MAX_ATTEMPTS) throw error;
      }
    }
    return entries;
  }

  /**
   * Seals all groups, as they are. One that cannot be sealed waits among those that were cut, and one for
   * whose last bytes the disk has no room stays open. Returns why, should that be so.
   */
  async sealAll(): Promise<unknown> {
    let failure: unknown = null;
    for (const [survived, open] of [...this.open]) {
      try {
        await this.makeDurable(open);
        await this.protect(open);
        this.seal(survived, open, false);
      } catch (error) {
        await this.noteFailure(survived, open, error);
        if (isChunkvolError(error, 'no-space')) failure = error;
      }
    }
    await this.sealing;
    return failure;
  }

  /** Lets go of what is open; the next recovery seals it. */
  async close(): Promise<void> {
    await this.sealing;
    for (const { writer } of this.open.values()) await writer.close();
    this.open.clear();
  }

  private async openFor(survived: number): Promise<Open> {
    const known = this.open.get(survived);
    if (known) return known;
    const created = { writer: await this.end.createSurvivors(survived), end: 0 };
    this.open.set(survived, created);
    return created;
  }

  /** How many blocks still fit, of so many. */
  private fitting(writer: GroupWriter, wanted: number): number {
    const bytes = this.end.parts.staging.blockBytes + SLOT_OVERHEAD_BYTES;
    let low = 0;
    for (let high = wanted; low < high;) {
      const middle = Math.ceil((low + high) / 2);
      if (writer.fits([{ bytes, count: middle }])) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Nothing is laid out that there is no room for beside what is acknowledged. */
  private async requireRoom(blocks: number): Promise<void> {
    const { space, staging, counters } = this.end.parts;
    let waiting = staging.stagedBytes + (this.end.writer?.unwrittenBytes ?? 0);
    for (const { writer } of this.open.values()) waiting += writer.unwrittenBytes;
    await space.require(waiting + blocks * staging.blockBytes, counters.loggedBytes);
  }

  private async placeIn(open: Open, { blocks, old, slots, plain }: Moves): Promise<MoveEntry> {
    const { writer } = open;
    const { group } = writer;
    const before = writer.address;
    const positions = this.end.parts.log.placeBlocks(writer, { blocks, slots }, plain);
    this.end.noteLogged(writer.address - before);
    await this.makeDurable(open);
    const { id, ordinal, end } = group;
    return { kind: 'move', group: { id, ordinal, end }, blocks, old, positions };
  }

  /** Also what an earlier time has left, for want of room: nobody needs it, but positions are not given back. */
  private async makeDurable(open: Open): Promise<void> {
    const { writer } = open;
    if (open.end === writer.address) return;
    await this.end.withReserve(() => writer.write());
    await writer.sync();
    open.end = writer.address;
    writer.group.end = open.end;
  }

  /** Parity of complete rows that found no room: the seal would have to give the group up for it. */
  private async protect({ writer }: Open): Promise<void> {
    await this.end.withReserve(() => writer.writeAll());
  }

  private seal(survived: number, { writer, end }: Open, full: boolean): void {
    this.open.delete(survived);
    const plan = {
      end,
      firstSequence: 0,
      endSequence: 0,
      chain: new Uint8Array(32),
      root: null,
      full,
    };
    this.sealing = this.sealing.then(() =>
      sealOrCut(this.end.parts, this.openFiles, writer, plan, null),
    );
  }

  /**
   * Nothing is tried again on a group that failed: it is cut where it was durable. Without room nothing has
   * failed: the same bytes can be written when there is some.
   */
  private async noteFailure(
    survived: number,
    { writer, end }: Open,
    reason: unknown,
  ): Promise<void> {
    const { group } = writer;
    // Roots that are made meanwhile name what is durable.
    group.end = end;
    if (writer.failure === null) return;
    const { groups, cutGroups, context, onNotice } = this.end.parts;
    this.open.delete(survived);
    onNotice(`writing to ${groupLabel(group)} failed (${errorMessage(reason)})`);
    await writer.close();
    if (end > 0) {
      group.state = 'cut';
      cutGroups.add(group, null);
      return;
    }
    groups.remove(group.ordinal);
    // What is left of it is removed when the volume is opened again.
    await disposeGroup(context, group.paths).catch(() => undefined);
  }
}

function part({ blocks, old, slots, plain }: Moves, from: number, to: number): Moves {
  return {
    blocks: blocks.subarray(from, to),
    old: old.subarray(from * 2, to * 2),
    slots: slots.subarray(from, to),
    plain,
  };
}
