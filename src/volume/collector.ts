/**
 * The collector: keeps dead data within bounds.
 *
 *   walk all maps -> retire groups in which nothing is alive -> move what is alive of others -> again
 *
 * A round walks the maps as they stand in the log, or stood there not long ago, and counts exactly what is
 * alive in each group; between rounds the counts are kept up to date by what is written. A group is retired
 * when a walk has found nothing alive in it, or when all that a walk has found has left it; never on the
 * strength of a count that was kept up. Retired groups are deleted by retention.ts, when no root that has to
 * stay needs them.
 *
 * In the background it works while garbage is near its bounds, part of the time; just below them it works
 * all of it, and writers have to keep to its pace (pace.ts).
 */
import { Mutex } from '../base/async.js';
import { toHex } from '../base/bytes.js';
import { ChunkvolError, errorMessage } from '../base/errors.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import type { Group } from '../store/group.js';
import type { MapPointer, Snapshot } from '../format/snapshot.js';
import type { SlotReader } from '../store/slot-reader.js';
import type { ReadNode } from './block-map.js';
import type { Checkpointer } from './checkpoint.js';
import type { Frozen } from './frozen.js';
import {
  allowedBytes,
  chooseVictims,
  excessBytes,
  OVERHEAD_BYTES,
  measureGarbage,
  type Effort,
  type Garbage,
} from './garbage.js';
import { gather, type Gathered } from './gather.js';
import {
  COLLECT_INTERVAL_MS,
  COLLECT_TIME_SHARE,
  FROZEN_SHARE,
  MAX_GATHERED_SLOTS,
  MIN_ROUND_BYTES,
  ROUND_SHARE,
  SEAL_FROM_SHARE,
} from './limits.js';
import type { Liveness } from './liveness.js';
import type { LogEnd } from './log-end.js';
import { Pace, type Excess } from './pace.js';
import { memoryForMoves, Relocation } from './relocation.js';
import type { Deleted, Retention } from './retention.js';
import { MapRewriter } from './rewrite.js';
import type { SnapshotDevices } from './snapshot-devices.js';
import type { Snapshots } from './snapshots.js';
import type { Survivors } from './survivors.js';
import type { WritePath } from './write-path.js';

/** Closed roots that a collection by hand makes, for older ones to be given up. */
const ROOTS_BY_HAND = 2;

/** Rounds of a collection in the background; then it is looked what they have gained. */
const MAX_ROUNDS = 8;

/** How far below the bound writers begin to be paced, in shares of what may be dead: see `heldBy`. */
const PACED_SHARES = { least: 0.1, most: 0.15 };

/** Collections that gain nothing, one after the other, that tell nothing yet. */
const BAD_LUCK = 1;

/** Doublings of the time between collections in the background that gain nothing. */
const MAX_FRUITLESS = 6;

const NOTHING: Deleted = { groups: 0, bytes: 0 };

/** In the place of the disk's own map, where only snapshots are walked. */
const NO_MAP: MapPointer = { depth: 0, ordinal: 0, position: 0 };

export interface CollectReport {
  readonly movedBytes: number;
  readonly removedGroups: number;
  /** Of files. */
  readonly freedBytes: number;
  /** What is left in the log. */
  readonly garbageBytes: number;
  readonly liveBytes: number;
}

export interface CollectOptions {
  readonly aggressive?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

export interface CollectorParts {
  readonly end: LogEnd;
  readonly survivors: Survivors;
  readonly checkpointer: Checkpointer;
  readonly writePath: WritePath;
  readonly slots: SlotReader;
  readonly readNode: ReadNode;
  readonly snapshots: Snapshots;
  readonly devices: SnapshotDevices;
  readonly retention: Retention;
}

export class Collector {
  private readonly lock = new Mutex();
  private readonly groupBytes: number;
  private readonly blockSlotBytes: number;
  /** Groups that cannot be emptied, because something in them cannot be read. */
  private readonly stuck = new Set<number>();
  /** The groups' counts are good enough to choose by. */
  private counted = true;
  /** What had been put into the log at the last walk. */
  private walkedAtBytes = 0;
  private last: Liveness | null = null;
  /** Memory of this kind is not given back soon: it is taken once. */
  private moving: [Uint8Array, Uint8Array] | null = null;
  private cancelTimer: (() => void) | null = null;
  private stopping = new AbortController();
  private idle: Promise<void> = Promise.resolve();
  /** How fast writers may go on. */
  readonly pace: Pace;
  /** A collection in the background is under way. */
  private running = false;
  /** Of this collection: bytes in groups that were retired, but for their overhead, less what was moved for it. */
  private gainedBytes = 0;
  private waitingByHand = 0;
  /** Collections in the background, one after the other, that left as much garbage as they found. */
  private fruitless = 0;
  private endPause: () => void = () => undefined;
  /** Why the last collection in the background that failed did. */
  private failure = '';

  constructor(private readonly parts: CollectorParts) {
    const { geometry, blockBytes } = parts.end.parts.roots.facts;
    this.groupBytes = geometry.data * geometry.chunkBytes;
    this.blockSlotBytes = blockBytes + SLOT_OVERHEAD_BYTES;
    this.walkedAtBytes = parts.end.parts.counters.loggedBytes;
    this.pace = new Pace(
      parts.end.parts.context.clock,
      () => this.excess(),
      () => {
        this.hurry();
      },
    );
  }

  /** Bytes that are alive only because of snapshots, at the last walk; null when there was none. */
  get snapshotBytes(): number | null {
    return this.last?.snapshotBytes ?? null;
  }

  /** Collects in the background from now on, when there is reason to. */
  start(): void {
    this.schedule();
  }

  /** Ends what is under way; the collector cannot be used after. */
  async stop(): Promise<void> {
    this.cancelTimer?.();
    this.stopping.abort();
    this.endPause();
    this.pace.wake();
    await this.idle;
    await this.lock.run(() => Promise.resolve());
  }

  /** What is alive must be counted anew: a snapshot is gone, or the disk is another. */
  recount(): void {
    this.counted = false;
  }

  /** A collection by hand. Throws 'interrupted', and what the disk throws. */
  collect(options: CollectOptions = {}): Promise<CollectReport> {
    const effort: Effort = options.aggressive === true ? 'thorough' : 'by-hand';
    const signal = options.signal
      ? AbortSignal.any([options.signal, this.stopping.signal])
      : this.stopping.signal;
    // One in the background that is under way must not be waited for longer than it works.
    this.waitingByHand++;
    this.endPause();
    return this.lock.run(() => {
      this.waitingByHand--;
      return this.collectNow(effort, signal, options.onProgress);
    });
  }

  private async collectNow(
    effort: Effort,
    signal: AbortSignal,
    onProgress: CollectOptions['onProgress'],
  ): Promise<CollectReport> {
    const { writePath, retention, end } = this.parts;
    await writePath.seal();
    // The group that the log ends in cannot be emptied: another one takes its place.
    await writePath.renewRoot();
    const newest = end.durable.ordinal;
    const before = this.garbage().garbageBytes;
    let movedBytes = 0;
    this.counted = false;
    await this.round(effort, newest, signal);
    // What is wholly dead makes room, where there is none, for what has to be moved; else the reserve does.
    const isShort = retention.retiredBytes > 0 && (await end.parts.space.isShort());
    const first = isShort ? await this.deleteRetired(0, ROOTS_BY_HAND) : NOTHING;
    for (;;) {
      const moved = await end.withReserve(() => this.round(effort, newest, signal));
      if (moved === null) break;
      movedBytes += moved;
      onProgress?.(Math.max(0, before - this.garbage().garbageBytes), before);
    }
    const last = await this.deleteRetired(0, ROOTS_BY_HAND);
    const { garbageBytes, liveBytes } = this.garbage();
    const removedGroups = first.groups + last.groups;
    const freedBytes = first.bytes + last.bytes;
    if (retention.retiredBytes === 0) this.walkedAtBytes = end.parts.counters.loggedBytes;
    return { movedBytes, removedGroups, freedBytes, garbageBytes, liveBytes };
  }

  /** Deletes retired groups until they are within the budget; new roots let go what only the newest hold. */
  private async deleteRetired(budgetBytes: number | undefined, newRoots: number): Promise<Deleted> {
    const { writePath, retention } = this.parts;
    let { groups, bytes } = await retention.settle(budgetBytes);
    for (let i = 0; i < newRoots; i++) {
      if (retention.retiredBytes <= (budgetBytes ?? retention.budgetBytes)) break;
      await writePath.renewRoot();
      const more = await retention.settle(budgetBytes);
      groups += more.groups;
      bytes += more.bytes;
    }
    return { groups, bytes };
  }

  /**
   * Walks, retires, and moves what the chosen groups hold, of those before group `newest`. Returns the
   * bytes moved; null when there was nothing to do but to count.
   */
  private async round(effort: Effort, newest: number, signal: AbortSignal): Promise<number | null> {
    const wasCounted = this.counted;
    const victims = wasCounted ? this.victims(effort, newest) : [];
    const frozen = (effort === 'background' && this.reusable(victims)) || (await this.freeze());
    const ordinals = new Set(victims.map(({ ordinal }) => ordinal));
    const { gathered, retired } = await this.walk(frozen, ordinals, signal);
    if (victims.length > 0) return this.move(frozen, ordinals, gathered, signal);
    return wasCounted && retired === 0 ? null : 0;
  }

  /** Counts, retires what is dead, and gathers what the victims hold. */
  private async walk(
    frozen: Frozen,
    victims: ReadonlySet<number>,
    signal: AbortSignal,
  ): Promise<{ gathered: Gathered; retired: number }> {
    const { readNode, checkpointer } = this.parts;
    const work = gather(frozen.trees, victims, this.blockSlotBytes, readNode, signal);
    const gathered = await work.catch((error: unknown) => {
      // Whatever it was, the next collection goes by the maps as they are then.
      checkpointer.forgetAllBut(null);
      throw error;
    });
    return { gathered, retired: this.settleCounts(frozen, gathered.liveness) };
  }

  /** Groups to empty, beside those that are thought to be dead: the walk itself sees to them. */
  private victims(effort: Effort, newest: number): Group[] {
    const candidates = this.candidates(newest);
    const dead = new Set(candidates.filter(isDead));
    const garbage = measureGarbage(
      this.parts.end.parts.groups.all().filter((each) => !dead.has(each)),
    );
    const share = Math.max(garbage.liveBytes * ROUND_SHARE, MIN_ROUND_BYTES);
    const limit = Math.min(share, MAX_GATHERED_SLOTS * this.blockSlotBytes);
    const excess = this.excessOf(garbage, effort);
    const others = candidates.filter((each) => !dead.has(each));
    return chooseVictims(others, excess, this.groupBytes, limit);
  }

  private candidates(newest: number): Group[] {
    return this.sealed().filter(({ ordinal }) => ordinal < newest && !this.stuck.has(ordinal));
  }

  private garbage(): Garbage {
    return measureGarbage(this.parts.end.parts.groups.all());
  }

  /** Sealed groups that lie wholly before the end of the log. */
  private sealed(): Group[] {
    const { end } = this.parts;
    return end.parts.groups.sealedBefore(end.durable.ordinal);
  }

  /** Brings the map to the log, and takes all trees as they are then. */
  private freeze(): Promise<Frozen> {
    return this.parts.writePath.exclusively(() => this.parts.checkpointer.freeze());
  }

  /**
   * The maps as they stood in the log before, where that will do to empty these groups: what was
   * overwritten since is not moved, and map nodes are written for the collector alone more rarely.
   */
  private reusable(victims: readonly Group[]): Frozen | null {
    const { frozen } = this.parts.checkpointer;
    const { heads, counters, groups } = this.parts.end.parts;
    if (!frozen || frozen.headsVersion !== heads.version || frozen.snapshots.length > 0)
      return null;
    const loggedBytes = counters.loggedBytes - frozen.loggedBytes;
    if (loggedBytes > this.garbage().liveBytes * FROZEN_SHARE) return null;
    const areThere = victims.length > 0 && victims.every((group) => frozen.sealed.has(group));
    // Groups that are thought to be dead are retired by what a newer walk finds.
    return areThere && !groups.all().some(isDead) ? frozen : null;
  }

  /** Takes over what was counted, and retires the groups in which nothing is alive. Returns their number. */
  private settleCounts(frozen: Frozen, liveness: Liveness): number {
    const { end, checkpointer } = this.parts;
    let isNew = liveness.mappedBlocks !== frozen.mappedBlocks;
    for (const [group, known] of frozen.groups) {
      const live = liveness.live.get(group.ordinal) ?? 0;
      group.liveBytes = Math.max(0, live + group.liveBytes - known);
      frozen.groups.set(group, live);
      isNew ||= live !== known;
    }
    if (isNew) checkpointer.forgetAllBut(frozen);
    const { groups, map } = end.parts;
    const dead = [...frozen.sealed].filter(({ ordinal }) => {
      return !liveness.live.has(ordinal) && groups.find(ordinal);
    });
    for (const group of dead) this.retire(group);
    this.pace.wake();
    map.mappedBlocks += liveness.mappedBlocks - frozen.mappedBlocks;
    frozen.mappedBlocks = liveness.mappedBlocks;
    this.walkedAtBytes = frozen.loggedBytes;
    this.last = liveness;
    this.counted = true;
    return dead.length;
  }

  /**
   * Retires what the walk found to hold blocks of the disk alone, once all of them have left: without a
   * snapshot, then or since, nothing else can come to need it.
   */
  private retireLeft({ liveness }: Gathered, { left }: Relocation): void {
    const { groups } = this.parts.end.parts;
    for (const [ordinal, slots] of left) {
      const group = groups.find(ordinal);
      if (group && slots * this.blockSlotBytes === liveness.live.get(ordinal)) this.retire(group);
    }
  }

  private retire(group: Group): void {
    const { end } = this.parts;
    end.parts.groups.retire(group);
    end.changed = true;
    this.gainedBytes += group.end - OVERHEAD_BYTES;
  }

  /** What was moved by then is followed also when the collection is interrupted. */
  private async move(
    frozen: Frozen,
    victims: ReadonlySet<number>,
    gathered: Gathered,
    signal: AbortSignal,
  ): Promise<number> {
    const { end } = this.parts;
    this.moving ??= memoryForMoves(end.parts.roots.facts);
    const aloneAt = frozen.snapshots.length === 0 ? frozen.headsVersion : null;
    const relocation = new Relocation(this.parts, gathered.slots, this.moving, aloneAt);
    const gain = this.gainOf(victims, gathered);
    let moved = 0;
    try {
      while (!relocation.isDone && !signal.aborted) {
        const start = end.parts.context.clock.monotonic();
        const before = relocation.doneShare;
        moved += await relocation.step();
        this.pace.noteGained(gain * (relocation.doneShare - before));
        if (relocation.isAlone) this.retireLeft(gathered, relocation);
        await this.parts.retention.settle();
        await this.pause(end.parts.context.clock.monotonic() - start);
      }
    } finally {
      await relocation.stop();
    }
    for (const ordinal of relocation.stuck) this.stuck.add(ordinal);
    if (!signal.aborted) await relocation.touch(gathered.headNodes);
    await this.follow(frozen.snapshots, victims, gathered, relocation, signal);
    if (signal.aborted) throw new ChunkvolError('interrupted', 'the collection was interrupted');
    // What is left of the groups are nodes of the map, which newer maps will have elsewhere.
    if (moved === 0) this.parts.checkpointer.forgetAllBut(null);
    this.gainedBytes -= moved;
    return moved;
  }

  /** Bytes that are in these groups beside what has to be moved. */
  private gainOf(victims: ReadonlySet<number>, { slots }: Gathered): number {
    const { groups } = this.parts.end.parts;
    const stored = [...victims].reduce((sum, each) => sum + (groups.find(each)?.end ?? 0), 0);
    return Math.max(0, stored - slots.count * this.blockSlotBytes);
  }

  /** Gives the snapshots maps that lead to where their blocks are now: those made meanwhile as well. */
  private async follow(
    frozen: readonly Snapshot[],
    victims: ReadonlySet<number>,
    gathered: Gathered,
    { places }: Relocation,
    signal: AbortSignal,
  ): Promise<void> {
    const { end, checkpointer, writePath, readNode } = this.parts;
    const { slots } = gathered;
    const rewriter = new MapRewriter(end, checkpointer, writePath, readNode, slots, places);
    const followed = new Set<string>();
    let { tainted } = gathered;
    for (let snapshots = frozen; snapshots.length > 0;) {
      for (const snapshot of snapshots) {
        followed.add(toHex(snapshot.id));
        await this.followOne(snapshot, await rewriter.rewrite(snapshot, tainted));
      }
      snapshots = end.parts.heads.snapshots.filter(({ id }) => !followed.has(toHex(id)));
      if (snapshots.length === 0) break;
      const trees = [NO_MAP, ...snapshots.map(({ map }) => map)];
      ({ tainted } = await gather(trees, victims, this.blockSlotBytes, readNode, signal));
    }
  }

  private async followOne(snapshot: Snapshot, moved: Snapshot): Promise<void> {
    if (moved === snapshot) return;
    const { heads } = this.parts.end.parts;
    await this.parts.writePath.exclusively(async () => {
      // It may have been deleted meanwhile.
      if (heads.find(snapshot.id) !== snapshot) return;
      await this.parts.snapshots.append([{ kind: 'snapshot', snapshot: moved }]);
      this.parts.devices.follow(moved);
    });
  }

  /** None where waiting gains nothing. */
  private excess(): Excess {
    const garbage = this.garbage();
    const { bytes, ...rest } = this.heldBy(garbage);
    return { bytes: bytes > 0 && this.isHopeless() ? 0 : bytes, ...rest };
  }

  /**
   * What writers are held by. What is staged will leave as much dead where it overwrites, which is the more
   * likely the more is dead already; but for what may always be waiting for its commit. A group that is being
   * emptied is there until it is empty: writers are held so early that it finds room within the bound.
   */
  private heldBy(garbage: Garbage): Excess {
    const allowed = allowedBytes(garbage, this.groupBytes, 'background');
    const overwriting = Math.min(1, garbage.garbageBytes / allowed);
    const { end, writePath } = this.parts;
    const { stagedBytes } = end.parts.staging;
    const coming = Math.max(0, stagedBytes - writePath.targetBytes) * overwriting;
    const { least, most } = PACED_SHARES;
    const marginBytes = Math.max(allowed * least, Math.min(allowed * most, this.groupBytes));
    const bytes = garbage.garbageBytes + coming - (allowed - marginBytes);
    return { bytes, marginBytes, burstBytes: allowed };
  }

  /** What a collection is to leave less of: in the background that is also what writers are held by. */
  private excessOf(garbage: Garbage, effort: Effort): number {
    const excess = excessBytes(garbage, this.groupBytes, effort);
    return effort === 'background' ? Math.max(excess, this.heldBy(garbage).bytes) : excess;
  }

  /** Whether writers would wait for nothing: collections gain nothing, or none would begin. */
  private isHopeless(): boolean {
    if (this.fruitless > BAD_LUCK || this.stopping.signal.aborted) return true;
    return !this.running && !this.isDue(this.parts.end.durable.ordinal) && !this.isTailBad();
  }

  /** In the background: leaves the disk to others for as long as the last step took, or longer. */
  private async pause(workedMs: number): Promise<void> {
    const pauseMs = workedMs * (1 / COLLECT_TIME_SHARE - 1);
    const isUrgent =
      this.waitingByHand > 0 || this.stopping.signal.aborted || this.excess().bytes > 0;
    if (!this.running || isUrgent || pauseMs < 1) return;
    await new Promise<void>((resolve) => {
      const cancel = this.parts.end.parts.context.clock.after(pauseMs, resolve);
      this.endPause = () => {
        cancel();
        resolve();
      };
    });
  }

  private schedule(delayMs = COLLECT_INTERVAL_MS * 2 ** this.fruitless): void {
    const { clock } = this.parts.end.parts.context;
    this.cancelTimer = clock.after(delayMs, () => {
      this.cancelTimer = null;
      this.idle = this.tick();
    });
  }

  /** Writers wait: the next collection begins at once. */
  private hurry(): void {
    this.endPause();
    if (!this.cancelTimer) return;
    this.cancelTimer();
    this.schedule(0);
  }

  private async tick(): Promise<void> {
    try {
      await this.lock.run(() => this.collectInBackground());
    } catch (error) {
      if (!this.stopping.signal.aborted) this.noteFailure(errorMessage(error));
    } finally {
      this.running = false;
      this.pace.wake();
    }
    if (!this.stopping.signal.aborted) this.schedule();
  }

  /** What goes on failing is told once, and tried again ever more rarely. */
  private noteFailure(reason: string): void {
    this.fruitless = Math.min(this.fruitless + 1, MAX_FRUITLESS);
    if (reason === this.failure) return;
    this.failure = reason;
    this.parts.end.parts.onNotice(`a collection in the background failed: ${reason}`);
  }

  private async collectInBackground(): Promise<void> {
    const { signal } = this.stopping;
    // While one waits no root is closed, and nothing that is retired can go.
    this.parts.end.parts.cutGroups.retry();
    const before = this.garbage().garbageBytes;
    let rounds = 0;
    this.running = true;
    this.gainedBytes = 0;
    while (!signal.aborted && this.waitingByHand === 0 && rounds < MAX_ROUNDS) {
      // What was written a moment ago may be what is dead first.
      const newest = this.parts.end.durable.ordinal;
      if (!this.isDue(newest)) break;
      rounds++;
      if ((await this.round('background', newest, signal)) === null) break;
    }
    // Groups that held map nodes are emptied by the next checkpoint, and retired by a walk after it.
    if (this.gainedBytes < 0 && !signal.aborted) {
      await this.walk(await this.freeze(), new Set(), signal);
    }
    const isFruitless =
      rounds > 0 && this.gainedBytes <= 0 && this.garbage().garbageBytes >= before;
    this.fruitless = isFruitless ? Math.min(this.fruitless + 1, MAX_FRUITLESS) : 0;
    if (signal.aborted) return;
    if (this.isTailBad()) {
      await this.parts.writePath.seal();
      await this.parts.writePath.renewRoot();
    }
    // A log that grows fast makes roots by itself.
    await this.deleteRetired(undefined, this.excess().bytes > 0 ? 0 : 1);
  }

  private isDue(newest: number): boolean {
    if (!this.counted || this.isStale()) return true;
    const excess = this.excessOf(this.garbage(), 'background');
    const canRetire = excess > 0 && this.candidates(newest).some(isDead);
    return canRetire || this.victims('background', newest).length > 0;
  }

  /** With snapshots, what is written over may be dead or not: that is counted now and then. */
  private isStale(): boolean {
    const { heads, counters } = this.parts.end.parts;
    const since = counters.loggedBytes - this.walkedAtBytes;
    const allowed = allowedBytes(this.garbage(), this.groupBytes, 'background');
    return heads.snapshots.length > 0 && since > allowed;
  }

  /**
   * Whether much of what is dead is where no collection comes to: in the group that the log ends in, in those
   * that collections fill, and in full ones of theirs that are younger than the log's.
   */
  private isTailBad(): boolean {
    const { end } = this.parts;
    const garbage = this.garbage();
    if (!end.writer || this.excessOf(garbage, 'background') <= 0) return false;
    const { garbageBytes } = measureGarbage(this.sealed());
    const allowed = allowedBytes(garbage, this.groupBytes, 'background');
    return garbage.garbageBytes - garbageBytes > allowed * SEAL_FROM_SHARE;
  }
}

/** As far as is known: only a walk can tell. */
function isDead({ state, liveBytes }: Group): boolean {
  return state === 'sealed' && liveBytes === 0;
}
