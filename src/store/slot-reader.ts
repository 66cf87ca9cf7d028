/**
 * Reading slots: right bytes or an error, never others.
 *
 * A run of slots is one read of one file and one call of the crypto engine. Slots whose tag does not
 * match, or whose file is not there, are reconstructed from the other members; what verifies is handed
 * out, put back into the file it belongs to, and counted.
 */
import { isZero } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import { SLOT_OVERHEAD_BYTES, type SlotBatch, type SlotKey } from '../crypto/engine.js';
import { locate } from '../erasure/stripe.js';
import { isHeaderOf, readHeader } from './chunk-meta.js';
import type { StoreContext } from './context.js';
import { groupLabel, type Group } from './group.js';
import { MemberReader } from './member-reader.js';
import type { OpenFiles } from './open-files.js';
import { Reconstructor } from './reconstruct.js';
import { ScratchBuffers } from './scratch.js';

/** Slots of equal size in one stripe unit. */
export interface SlotRun {
  readonly group: Group;
  readonly key: SlotKey;
  readonly address: number;
  readonly count: number;
  readonly plainBytes: number;
  readonly kind: number;
  /** The number bound to slot i is numbers[i]; its plaintext goes to plain[plainAt[i]]. */
  readonly numbers: Float64Array;
  readonly plain: Uint8Array;
  readonly plainAt: Uint32Array;
  /**
   * Where slot i begins, in bytes behind `address`; without it they lie one behind the other. What is between
   * them is read as well. Not for what is read at once.
   */
  readonly starts?: Uint32Array;
}

export interface HealCounters {
  /** Slots that were reconstructed for a reader. */
  reconstructedSlots: number;
  /** Slots of those that were put back into their file. */
  healedSlots: number;
}

/** The most slots of a run that is read at once. */
export const MAX_RUN_NOW = 256;

/** Runs that other threads may be busy with: the collector knows nothing of memory that is shared. */
const MAX_RUNS_SOON = 64;

/** Buffers of each size that are kept. */
const MAX_KEPT = 16;

export class SlotReader {
  readonly counters: HealCounters = { reconstructedSlots: 0, healedSlots: 0 };
  readonly members: MemberReader;
  private readonly scratch = new ScratchBuffers(MAX_KEPT);
  private readonly shared = new ScratchBuffers(MAX_RUNS_SOON, 'shared');
  private runsSoon = 0;
  private readonly reconstructor: Reconstructor;
  /** For runs that are read at once: one at a time, and nothing is allocated for them. */
  private readonly batchNow = emptyBatch(MAX_RUN_NOW);
  private readonly failedNow = new Uint8Array(MAX_RUN_NOW);

  constructor(
    private readonly context: StoreContext,
    readonly openFiles: OpenFiles,
    /** Whether found damage may be mended in place. */
    private readonly mayHeal: boolean,
  ) {
    this.members = new MemberReader(context, openFiles);
    this.reconstructor = new Reconstructor(context, this.members);
  }

  /** Reads and opens a run. Throws 'lost' when a slot can be had neither from its file nor from the others. */
  async read(run: SlotRun): Promise<void> {
    const failed = await this.readOrFail(run);
    for (let index = 0; index < run.count; index++) {
      if (failed[index] !== 0) await this.recover(run, index);
    }
  }

  /**
   * Reads and opens a run without a wait, if its file is open and has the bytes in memory, and all of it is
   * as it should be. False tells nothing: `read` has the answer.
   */
  readNow(run: SlotRun): boolean {
    if (run.count > MAX_RUN_NOW) return false;
    const buffer = this.scratch.acquire(run.count * (run.plainBytes + SLOT_OVERHEAD_BYTES));
    try {
      if (!this.fetchNow(run, buffer)) return false;
      return this.context.engine.openSlots(run.key, this.batchNow, this.failedNow) === 0;
    } finally {
      this.scratch.release(buffer);
    }
  }

  /**
   * The same for a long run, of which other threads take the decryption: false in the promise tells nothing, as
   * above. null when it is not to be had that way.
   */
  readSoon(run: SlotRun): Promise<boolean> | null {
    const { workers } = this.context;
    if (!workers || this.runsSoon === MAX_RUNS_SOON) return null;
    if (run.count * run.plainBytes < workers.worthBytes.open || run.count > MAX_RUN_NOW)
      return null;
    const buffer = this.shared.acquire(run.count * (run.plainBytes + SLOT_OVERHEAD_BYTES));
    const opened = this.fetchNow(run, buffer) ? workers.open(run.key, this.batchNow) : null;
    if (!opened) {
      this.shared.release(buffer);
      return null;
    }
    return this.finishSoon(opened, buffer);
  }

  private async finishSoon(opened: Promise<Uint8Array>, buffer: Uint8Array): Promise<boolean> {
    this.runsSoon++;
    try {
      return isZero(await opened);
    } catch {
      return false;
    } finally {
      this.runsSoon--;
      this.shared.release(buffer);
    }
  }

  /** Brings the slots of a run into `buffer`, and describes them in `batchNow`. */
  private fetchNow(run: SlotRun, buffer: Uint8Array): boolean {
    const { member, offset } = locate(run.group.geometry, run.address);
    const file = this.openFiles.opened(run.group.paths[member]!);
    if (!file?.readNow) return false;
    const slots = buffer.subarray(0, run.count * (run.plainBytes + SLOT_OVERHEAD_BYTES));
    if (!file.readNow(slots, offset)) return false;
    describeRun(this.batchNow, run, slots);
    return true;
  }

  /** Reads a run without help from parity; 1 in the result marks what could not be opened. */
  async readOrFail(run: SlotRun): Promise<Uint8Array> {
    const failed = new Uint8Array(run.count);
    const bytes = startOf(run, run.count - 1) + run.plainBytes + SLOT_OVERHEAD_BYTES;
    const { member, offset } = locate(run.group.geometry, run.address);
    const buffer = this.scratch.acquire(bytes);
    const slots = buffer.subarray(0, bytes);
    try {
      if (await this.members.read(run.group, member, offset, slots)) {
        this.context.engine.openSlots(run.key, batchOf(run, slots, 0, run.count), failed);
      } else {
        failed.fill(1);
      }
    } finally {
      this.scratch.release(buffer);
    }
    return failed;
  }

  /**
   * One record: its plaintext, and its bytes as stored. null when it does not open, and, in a group that
   * has parity there, cannot be reconstructed either.
   */
  async readRecord(
    group: Group,
    key: SlotKey,
    address: number,
    plainBytes: number,
    kind: number,
    number: number,
  ): Promise<{ plain: Uint8Array; sealed: Uint8Array } | null> {
    const run: SlotRun = {
      group,
      key,
      address,
      count: 1,
      plainBytes,
      kind,
      numbers: Float64Array.of(number),
      plain: new Uint8Array(plainBytes),
      plainAt: Uint32Array.of(0),
    };
    const opens = (sealed: Uint8Array): boolean =>
      this.context.engine.openSlots(key, batchOf(run, sealed, 0, 1), new Uint8Array(1)) === 0;
    const stored = new Uint8Array(plainBytes + SLOT_OVERHEAD_BYTES);
    const { member, offset } = locate(group.geometry, address);
    if ((await this.members.read(group, member, offset, stored)) && opens(stored)) {
      return { plain: run.plain, sealed: stored };
    }
    const rebuilt = await this.reconstructor.range(group, address, stored.length, opens);
    return rebuilt && { plain: run.plain, sealed: rebuilt };
  }

  private async recover(run: SlotRun, index: number): Promise<void> {
    const slotBytes = run.plainBytes + SLOT_OVERHEAD_BYTES;
    const address = run.address + startOf(run, index);
    const slot = await this.reconstructor.range(run.group, address, slotBytes, (candidate) => {
      const failed = new Uint8Array(1);
      return (
        this.context.engine.openSlots(run.key, batchOf(run, candidate, index, 1), failed) === 0
      );
    });
    const { member, offset } = locate(run.group.geometry, address);
    const path = run.group.paths[member]!;
    if (!slot) {
      throw new ChunkvolError(
        'lost',
        `${path} is damaged or missing at byte ${offset}, and ${groupLabel(run.group)} has too few healthy files to rebuild it; run chunkvol repair --from a remote`,
      );
    }
    this.counters.reconstructedSlots++;
    if (this.mayHeal && (await this.putBack(run.group, member, offset, slot)))
      this.counters.healedSlots++;
  }

  /**
   * Writes verified bytes where they belong, keeping the time of the file. A missing file stays missing,
   * and one that is another member's under this name stays as it is.
   */
  private async putBack(
    group: Group,
    member: number,
    offset: number,
    bytes: Uint8Array,
  ): Promise<boolean> {
    const { files, keys } = this.context;
    const path = group.paths[member]!;
    try {
      const stat = await files.stat(path);
      if (!stat || stat.bytes < offset + bytes.length) return false;
      const file = await files.open(path, 'update');
      try {
        const header = await readHeader(keys.maintenance, file);
        if (!isHeaderOf(header, group, member)) return false;
        await file.write(bytes, offset);
        await file.sync();
      } finally {
        await file.close();
      }
      await files.touch(path, stat.modifiedMs);
      return true;
    } catch {
      // The reader has its bytes; that the file could not be mended is found again by a scrub.
      return false;
    }
  }
}

/** Bytes from the address of a run to its slot `index`. */
function startOf({ starts, plainBytes }: SlotRun, index: number): number {
  return starts ? starts[index]! : index * (plainBytes + SLOT_OVERHEAD_BYTES);
}

function emptyBatch(capacity: number): SlotBatch {
  const nothing = new Uint8Array(0);
  return {
    count: 0,
    plainBytes: 0,
    plain: nothing,
    plainAt: new Uint32Array(capacity),
    slots: nothing,
    slotAt: new Uint32Array(capacity),
    positions: new Uint32Array(capacity),
    numbers: new Float64Array(capacity),
    kind: 0,
  };
}

/** Makes `batch` describe a run whose slots are all of `slots`. */
function describeRun(batch: SlotBatch, run: SlotRun, slots: Uint8Array): void {
  const slotBytes = run.plainBytes + SLOT_OVERHEAD_BYTES;
  batch.count = run.count;
  batch.plainBytes = run.plainBytes;
  batch.plain = run.plain;
  batch.slots = slots;
  batch.kind = run.kind;
  batch.plainAt = run.plainAt;
  batch.numbers = run.numbers;
  for (let i = 0; i < run.count; i++) {
    batch.slotAt[i] = i * slotBytes;
    batch.positions[i] = (run.address + i * slotBytes) / 8;
  }
}

/** The part [first, first + count) of a run as a batch over `slots`, which holds just that part. */
function batchOf(run: SlotRun, slots: Uint8Array, first: number, count: number): SlotBatch {
  const slotAt = new Uint32Array(count);
  const positions = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const start = startOf(run, first + i);
    slotAt[i] = start - startOf(run, first);
    positions[i] = (run.address + start) / 8;
  }
  return {
    count,
    plainBytes: run.plainBytes,
    plain: run.plain,
    plainAt: run.plainAt.subarray(first, first + count),
    slots,
    slotAt,
    positions,
    numbers: run.numbers.subarray(first, first + count),
    kind: run.kind,
  };
}
