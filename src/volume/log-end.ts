/**
 * The end of the log: the open group, what of it is durable, and how it goes on when a disk fails.
 *
 * Every method that changes anything is called under the write path's lock, but for `sync`. Invariants:
 * - A new group is created only when everything before it is durable: its header proves that.
 * - A batch stays retained, its plaintext in the staging buffer, until an fdatasync covers it; so do
 *   entries that change the disk as a whole, which name only maps that are durable already.
 * - After a failed write or fdatasync nothing is tried again on that group. It is cut at the last
 *   durable commit, and all that is retained is encrypted anew into a new group that continues there.
 * - Blocks that a collector moves are not retained: they stand durably in groups beside the log
 *   (survivors.ts) before the log says so, and are where they were until that is durable too.
 */
import { ChunkvolError, errorMessage, isChunkvolError } from '../base/errors.js';
import type { StateEntry } from '../format/commit.js';
import type { LogPoint } from '../format/root.js';
import { createGroup, disposeGroup, type BirthPlan } from '../store/birth.js';
import type { StoreContext } from '../store/context.js';
import type { GroupWriter } from '../store/group-writer.js';
import { groupLabel } from '../store/group.js';
import { RowCodecs } from '../store/row-codecs.js';
import type { BlockMap } from './block-map.js';
import type { CutGroups } from './cut-groups.js';
import type { GroupTable } from './group-table.js';
import type { Heads } from './heads.js';
import type { Log } from './log.js';
import type { Roots, VolumeCounters } from './roots.js';
import type { Space } from './space.js';
import type { Batch, Staging } from './staging.js';
import type { Warmth } from './warmth.js';

export interface LogEndParts {
  readonly context: StoreContext;
  readonly staging: Staging;
  readonly map: BlockMap;
  readonly heads: Heads;
  readonly groups: GroupTable;
  readonly warmth: Warmth;
  readonly log: Log;
  readonly roots: Roots;
  readonly space: Space;
  readonly cutGroups: CutGroups;
  readonly counters: VolumeCounters;
  readonly onNotice: (line: string) => void;
}

/** Work in the log, from its commit on: a batch, or what changes the disk as a whole. */
export interface Committed {
  readonly work: Batch | readonly StateEntry[];
  /** Changes when it has to be written anew. */
  sequence: number;
  durable: boolean;
}

export class LogEnd {
  /** Null until the first commit after a seal. */
  private open: GroupWriter | null = null;
  private firstSequence = 0;
  /** Committed and not durable, in order. */
  private retained: Committed[] = [];
  private durablePoint: LogPoint;
  private failed: ChunkvolError | null = null;
  private codecs: RowCodecs | null = null;
  /** Log since the last root: what recovery would have to read. */
  tailBytes = 0;
  /** Whether the newest closed root is not the present state. */
  changed: boolean;
  /** How often the open group failed and was replaced: what was placed in it before is void. */
  replacements = 0;

  constructor(
    readonly parts: LogEndParts,
    private ordinal: number,
  ) {
    this.durablePoint = parts.log.point;
    this.changed = !parts.roots.coverAllBefore(parts.log.point.sequence);
  }

  get writer(): GroupWriter | null {
    return this.open;
  }

  get point(): LogPoint {
    return this.parts.log.point;
  }

  get durable(): LogPoint {
    return this.durablePoint;
  }

  get nextOrdinal(): number {
    return this.ordinal;
  }

  /** Sequence number of the first commit of the open group. */
  get writerFirstSequence(): number {
    return this.firstSequence;
  }

  /** The last batch that is not durable; null when all are. */
  get lastRetained(): Committed | null {
    return this.retained.at(-1) ?? null;
  }

  get retainedBytes(): number {
    const { blockBytes } = this.parts.staging;
    return this.retained.reduce((sum, { work }) => {
      return sum + (isBatch(work) ? work.slots.length * blockBytes : 0);
    }, 0);
  }

  get hasFailed(): boolean {
    return this.failed !== null;
  }

  throwFailure(): void {
    if (this.failed) throw this.failed;
  }

  /** The open group; a new one is created when there is none. Everything before must be durable. */
  async writerOrNew(): Promise<GroupWriter> {
    if (this.open) return this.open;
    const { groups, log } = this.parts;
    const { sequence, chain, address, ordinal } = this.durablePoint;
    const groupId = groups.find(ordinal)?.id ?? new Uint8Array(16);
    const predecessor = { groupId, ordinal, cut: address, chain };
    this.open = await this.createGroup({ predecessor, firstSequence: sequence, survived: 0 });
    this.firstSequence = sequence;
    log.enter(this.open.group.ordinal);
    return this.open;
  }

  /** A group beside the log, for blocks that have come through so many collections. */
  createSurvivors(survived: number): Promise<GroupWriter> {
    const nothing = { groupId: new Uint8Array(16), ordinal: 0, cut: 0, chain: new Uint8Array(32) };
    const bornAfter = this.point.ordinal;
    return this.createGroup({ predecessor: nothing, firstSequence: 0, survived, bornAfter });
  }

  /** Hands the open group over to be sealed; the next commit starts a new one. */
  release(): void {
    this.open = null;
  }

  /**
   * Appends a batch whose part of the map is prepared, or state entries, gives them effect, and starts the
   * write.
   */
  append(writer: GroupWriter, work: Committed['work']): void {
    const sequence = this.point.sequence;
    this.layOut(writer, work);
    if (!isBatch(work)) this.parts.heads.apply(work, this.parts.map);
    this.retained.push({ work, sequence, durable: false });
    // What fails here is met again by whoever makes the batch durable.
    writer.write().catch(() => undefined);
  }

  /** Counts what was appended since the log stood at `before`. */
  noteLogged(bytes: number): void {
    this.tailBytes += bytes;
    this.parts.counters.loggedBytes += bytes;
    this.changed = true;
  }

  /** Waits until at most `limitBytes` of what is laid out wait for their write. False: the group was replaced. */
  async drain(limitBytes: number): Promise<boolean> {
    const writer = this.open;
    if (!writer || writer.unwrittenBytes <= limitBytes) return true;
    return this.attempt(writer, () => writer.drain(limitBytes));
  }

  /** Makes everything appended durable. False: it is, but in another group than before. */
  async makeDurable(): Promise<boolean> {
    const writer = this.open;
    if (!writer) return true;
    const point = this.point;
    return this.attempt(writer, async () => {
      await writer.write();
      await writer.sync();
      this.advance(point);
    });
  }

  /**
   * The same from outside the lock, without the way out: throws when the group fails. False: the group
   * is not there, or was replaced meanwhile. Then the caller comes back with the lock and `makeDurable`.
   */
  async sync(): Promise<boolean> {
    const { open: writer, point, replacements } = this;
    if (!writer) return false;
    await this.withReserve(() => writer.write());
    await writer.sync();
    // What was given up with its group is written anew: that it was durable there counts no more.
    if (this.replacements !== replacements) return false;
    this.advance(point);
    return true;
  }

  async close(): Promise<void> {
    await this.open?.close();
    this.open = null;
  }

  private async createGroup(
    plan: Pick<BirthPlan, 'predecessor' | 'firstSequence' | 'survived' | 'bornAfter'>,
  ): Promise<GroupWriter> {
    const { context, roots, groups } = this.parts;
    const { geometry } = roots.facts;
    const durableUpTo = this.durablePoint.sequence - 1;
    const common = { ordinal: this.ordinal++, geometry, session: roots.session, durableUpTo };
    const codecs = (this.codecs ??= await RowCodecs.create(geometry));
    const writer = await this.withReserve(() =>
      createGroup(context, { ...plan, ...common }, codecs),
    );
    groups.add(writer.group);
    return writer;
  }

  /** Batches point the map to their slots; what changes the disk as a whole stays in effect as it is. */
  private layOut(writer: GroupWriter, work: Committed['work']): void {
    const before = writer.address;
    if (isBatch(work)) this.applyBatch(writer, work);
    else this.parts.log.appendRecords(writer, work);
    this.noteLogged(writer.address - before);
  }

  private applyBatch(writer: GroupWriter, batch: Batch): void {
    const { log, map, groups, staging, warmth } = this.parts;
    const { group } = writer;
    const positions = log.appendBatch(writer, batch, staging.arena);
    for (const hole of batch.holes) map.clear(hole);
    for (let i = 0; i < positions.length; i++) {
      const before = map.set(batch.blocks[i]!, group.ordinal, positions[i]!);
      warmth.note(group, positions[i]!, groups.find(before));
    }
  }

  private advance(point: LogPoint): void {
    if (point.sequence <= this.durablePoint.sequence) return;
    this.durablePoint = point;
    this.parts.log.setDurable(point.sequence - 1);
    while (this.retained.length > 0 && this.retained[0]!.sequence < point.sequence) {
      const entry = this.retained.shift()!;
      entry.durable = true;
      if (isBatch(entry.work)) this.parts.staging.release(entry.work);
    }
  }

  /** Runs work on the open group; when the group fails, replaces it and returns false. */
  private async attempt(writer: GroupWriter, work: () => Promise<void>): Promise<boolean> {
    try {
      await this.withReserve(work);
      return true;
    } catch (error) {
      if (writer.failure === null) throw error;
      await this.replace(writer);
      return false;
    }
  }

  /** Gives the reserve of disk space up, once, when the work finds the disk full. */
  async withReserve<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isChunkvolError(error, 'no-space') || !(await this.parts.space.giveUpReserve())) {
        throw error;
      }
      return work();
    }
  }

  /** The open group has failed: continue at the last durable commit in a new one. */
  private async replace(broken: GroupWriter): Promise<void> {
    const { onNotice } = this.parts;
    onNotice(
      `writing to ${groupLabel(broken.group)} failed (${errorMessage(broken.failure)}); ` +
        'what was not yet durable is written again to new files',
    );
    this.open = null;
    this.replacements++;
    await broken.close();
    await this.abandon(broken);
    try {
      await this.rewrite();
    } catch (error) {
      this.failed = new ChunkvolError(
        isChunkvolError(error) ? error.code : 'io',
        `the volume takes no more writes until it is opened again: ${errorMessage(error)}`,
        { cause: error },
      );
      throw this.failed;
    }
  }

  /** Cuts the group behind its last durable commit, or does away with it when it has none. */
  private async abandon(broken: GroupWriter): Promise<void> {
    const { groups, cutGroups, context } = this.parts;
    const { group } = broken;
    if (this.durablePoint.ordinal === group.ordinal) {
      group.state = 'cut';
      group.end = this.durablePoint.address;
      cutGroups.add(group, this.durablePoint);
      return;
    }
    groups.remove(group.ordinal);
    // Should this fail too, recovery prefers the later of two successors that one session made.
    await disposeGroup(context, group.paths).catch(() => undefined);
  }

  private async rewrite(): Promise<void> {
    const { log, map } = this.parts;
    log.reset(this.durablePoint);
    const writer = await this.writerOrNew();
    try {
      for (const { work } of this.retained) {
        if (isBatch(work)) await map.prepare(work.blocks, work.holes);
      }
      // All at once: no reader may see a state between two batches.
      for (const entry of this.retained) {
        entry.sequence = log.point.sequence;
        this.layOut(writer, entry.work);
      }
    } finally {
      map.settle();
    }
    const point = log.point;
    await writer.write();
    await writer.sync();
    this.advance(point);
  }
}

function isBatch(work: Committed['work']): work is Batch {
  return 'slots' in work;
}
