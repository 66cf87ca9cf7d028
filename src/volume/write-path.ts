/**
 * The way of a write: staging buffer, commits, durability. Everything that changes the log or the map
 * runs under one lock, in one order; see log-end.ts and checkpoint.ts for what happens below.
 */
import { Mutex } from '../base/async.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import type { RootFile } from '../store/root-files.js';
import { ChunkvolError } from '../base/errors.js';
import type { Checkpointer } from './checkpoint.js';
import {
  COMMIT_AGE_MS,
  groupShareBytes,
  MAX_COMMIT_TARGET_BYTES,
  MAX_STAGED_HOLES,
  MIN_COMMIT_TARGET_BYTES,
  UNDURABLE_TARGET_BYTES,
  UNWRITTEN_LIMIT_BYTES,
} from './limits.js';
import type { LogEnd } from './log-end.js';
import type { Pace } from './pace.js';
import type { Batch, Staging } from './staging.js';

/** Times that a seal is started again because the disk failed under it. */
const MAX_SEAL_ATTEMPTS = 3;

export class WritePath {
  private readonly lock = new Mutex();
  private readonly staging: Staging;
  private syncing: Promise<void> | null = null;
  private committing = false;
  private cancelTimer: (() => void) | null = null;
  private readonly groupShareBytes: number;
  /** Staged bytes that start a commit. */
  readonly targetBytes: number;

  /** How fast writers may go on; as fast as they like without one. */
  pace: Pace | null = null;

  constructor(
    private readonly end: LogEnd,
    private readonly checkpointer: Checkpointer,
  ) {
    this.staging = end.parts.staging;
    this.groupShareBytes = groupShareBytes(end.parts.roots.facts.geometry);
    const atLeast = Math.max(this.groupShareBytes, MIN_COMMIT_TARGET_BYTES);
    this.targetBytes = Math.min(atLeast, MAX_COMMIT_TARGET_BYTES);
  }

  /** Resolves when `blocks` more blocks may be staged: there is room for them, here and on the disk. */
  async admit(blocks: number): Promise<void> {
    this.end.throwFailure();
    await this.pace?.admit(blocks * this.staging.blockBytes);
    const { space, counters } = this.end.parts;
    await space.require(this.pendingBytes(blocks), counters.loggedBytes);
    while (this.staging.room < blocks) await this.makeRoom();
  }

  /** Whether they may be staged without a wait. */
  admitNow(blocks: number): boolean {
    const { space, counters } = this.end.parts;
    if (this.end.hasFailed || this.staging.room < blocks) return false;
    if (!space.hasRoomNow(this.pendingBytes(blocks), counters.loggedBytes)) return false;
    return this.pace?.admitNow(blocks * this.staging.blockBytes) ?? true;
  }

  /** Resolves when a range of zeros may be staged. It needs no space of its own: a full disk can be trimmed. */
  async admitHole(): Promise<void> {
    this.end.throwFailure();
    while (this.staging.stagedHoles >= 4 * MAX_STAGED_HOLES) await this.flush();
  }

  /** To be called after something was staged: commits when there is enough, or after a while. */
  staged(): void {
    const due =
      this.staging.stagedBytes >= this.targetBytes || this.staging.stagedHoles >= MAX_STAGED_HOLES;
    if (due) this.commitInBackground();
    else this.startTimer();
  }

  /** Makes everything durable that was staged before the call. */
  async flush(): Promise<void> {
    this.end.throwFailure();
    const last = await this.lock.run(async () => {
      await this.commitAll();
      return this.end.lastRetained;
    });
    while (last && !last.durable) await this.syncRound();
  }

  /** Brings everything staged into a closed root; with nothing changed, the newest there is. */
  async seal(): Promise<RootFile> {
    for (let attempt = 1; attempt <= MAX_SEAL_ATTEMPTS; attempt++) {
      this.end.throwFailure();
      await this.end.parts.cutGroups.finish();
      const closed = await this.lock.run(async () => {
        await this.commitAll();
        return this.end.changed ? this.checkpointer.closeGroup(false) : true;
      });
      await this.checkpointer.sealed();
      const root = this.end.parts.roots.newestClosed;
      if (closed && root) return root;
      // A group had to be cut on the way, because the disk failed: no root is closed before its seal.
    }
    throw new ChunkvolError('io', 'the disk failed again and again while the volume was sealed');
  }

  /** A new closed root and a new end of the log, even if nothing has changed. */
  async renewRoot(): Promise<RootFile> {
    // One that is being made ends by saying that nothing has changed since.
    await this.lock.run(() => Promise.resolve((this.end.changed = true)));
    return this.seal();
  }

  /** Stops what runs by itself; nothing may be staged after. */
  async stop(): Promise<void> {
    this.cancelTimer?.();
    await this.lock.run(() => Promise.resolve());
    await this.checkpointer.stop();
    await this.end.close();
  }

  /** Runs work between two commits. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    this.end.throwFailure();
    return this.lock.run(work);
  }

  /** Runs work between two commits, when everything that was staged before is in the log and durable. */
  settled<T>(work: () => Promise<T>): Promise<T> {
    return this.exclusively(async () => {
      await this.commitAll();
      await this.end.makeDurable();
      return work();
    });
  }

  /** What is being made durable gives its room back as it becomes so: nobody waits for all of it. */
  private async makeRoom(): Promise<void> {
    if (this.end.lastRetained) await this.syncRound();
    else await this.flush();
  }

  /** What is not in the files yet, with that many blocks more. */
  private pendingBytes(blocks: number): number {
    const { blockBytes, stagedBytes } = this.staging;
    return stagedBytes + (this.end.writer?.unwrittenBytes ?? 0) + blocks * blockBytes;
  }

  private startTimer(): void {
    this.cancelTimer ??= this.end.parts.context.clock.after(COMMIT_AGE_MS, () => {
      this.cancelTimer = null;
      this.commitInBackground();
    });
  }

  private commitInBackground(): void {
    if (this.committing) return;
    this.committing = true;
    void this.lock
      .run(() => this.commitLarge())
      // What could not be committed is still staged: the next flush tries again, and tells.
      .catch(() => undefined)
      .finally(() => {
        this.committing = false;
      });
  }

  private async commitLarge(): Promise<void> {
    do await this.commitOne();
    while (this.staging.stagedBytes >= this.targetBytes);
    if (this.end.retainedBytes >= UNDURABLE_TARGET_BYTES) this.syncRound().catch(() => undefined);
  }

  private async commitAll(): Promise<void> {
    while (await this.commitOne());
  }

  private async commitOne(): Promise<boolean> {
    this.end.throwFailure();
    await this.end.drain(UNWRITTEN_LIMIT_BYTES);
    // All that is not durable must fit into one new group, should the present one fail.
    if (this.end.retainedBytes > this.groupShareBytes * 4) await this.end.makeDurable();
    const batch = this.staging.cut(this.maxBatchBlocks(), MAX_STAGED_HOLES);
    if (!batch) return false;
    await this.commitBatch(batch);
    this.staging.applied();
    await this.checkpointer.whenDue();
    return true;
  }

  private async commitBatch(batch: Batch): Promise<void> {
    const { map } = this.end.parts;
    try {
      const leaves = await map.prepare(batch.blocks, batch.holes);
      const pieces = this.end.parts.log.batchPieces(batch);
      const writer = await this.checkpointer.writerFor(pieces, leaves);
      // A checkpoint on the way may have let nodes go.
      await map.prepare(batch.blocks, batch.holes);
      this.end.append(writer, batch);
    } finally {
      map.settle();
    }
  }

  private maxBatchBlocks(): number {
    const { blockBytes } = this.staging;
    const share = this.groupShareBytes / (blockBytes + SLOT_OVERHEAD_BYTES);
    return Math.max(1, Math.floor(Math.min(share, this.targetBytes / blockBytes)));
  }

  /** One fdatasync for everybody who waits: whoever comes while one runs waits for the next. */
  private async syncRound(): Promise<void> {
    if (this.syncing) {
      await this.syncing.catch(() => undefined);
      return;
    }
    this.syncing = this.syncOnce();
    try {
      await this.syncing;
    } finally {
      this.syncing = null;
    }
  }

  private async syncOnce(): Promise<void> {
    const { writer } = this.end;
    try {
      if (await this.end.sync()) return;
    } catch (error) {
      if (writer?.failure == null) throw error;
    }
    // The way out of a failed group changes log and map: under the lock.
    await this.lock.run(() => this.end.makeDurable());
    this.end.throwFailure();
  }
}
