/**
 * The group that is being written: appends at its end, and nothing else.
 *
 * - A position is consumed when it is handed out; it is never handed out twice, whatever fails after.
 * - Bytes are laid out in row buffers (one stripe row each, in wasm memory) by synchronous calls;
 *   `write` brings what is laid out to the files, row after row, without waiting for what is on its way
 *   there already. A write that failed for want of space can be tried again with the very same bytes;
 *   after any other failure the group must be given up.
 * - When a row is complete its parity is computed, encrypted and written too: no unit is read back. Nobody
 *   who flushes waits for that.
 * - Both that and the encryption of blocks may be done by another thread. What is not done yet is not
 *   written; a group whose work failed has failed.
 * - What lies between pieces is keystream of the group's pad key: a function of the address alone.
 * - While the group is flushed after little each time, its data files run ahead of the log: they are
 *   written in advance, with that same keystream. An fdatasync of bytes that were there before needs no
 *   journal commit of the file system, which costs several times what the bytes cost.
 */
import { settleAll } from '../base/async.js';
import { KIB, MIB } from '../base/bytes.js';
import { isChunkvolError, type ChunkvolError } from '../base/errors.js';
import type { OpenFile } from '../base/files.js';
import { memberCount } from '../base/geometry.js';
import type { RowCodec } from '../erasure/row-codec.js';
import { commitEnd, piecesInUnit, place, rowBytes, unitStart } from '../erasure/stripe.js';
import type { SlotBatch } from '../crypto/engine.js';
import { maxRows } from '../format/footer.js';
import type { StoreContext } from './context.js';
import type { Group } from './group.js';
import { finishRow } from './parity.js';
import type { RowCodecs } from './row-codecs.js';
import type { RowWork } from './work.js';

/** A run of equal pieces in one unit: the first at `offset` of `buffer`, the others right behind. */
export interface Run {
  readonly address: number;
  readonly count: number;
  readonly buffer: Uint8Array;
  readonly offset: number;
}

/** Bytes between two flushes up to which the files run ahead. */
const SMALL_ROUND_BYTES: number = 256 * KIB;

/** How far a data file runs ahead, in stripe units and at most in bytes. */
const AHEAD_UNITS = 4;
const MAX_AHEAD_BYTES: number = MIB;

/** Rows that may be on their way to the files: beyond a few it is quicker to use the same memory again. */
const MAX_ROWS_UNDER_WAY = 8;

interface Row {
  readonly row: number;
  readonly codec: RowCodec;
  /** Per member: bytes laid out, and bytes handed to the file, from the unit's start. */
  readonly filled: number[];
  readonly written: number[];
  /** Writes of data under way. */
  readonly writes: Set<Promise<void>>;
  complete: boolean;
  /** Encryption into the data units by another thread; null when there is none, or it is done. */
  sealing: Promise<unknown> | null;
  /** The parity of a complete row on its way into the files; null before, and when it has to be tried again. */
  parity: Promise<void> | null;
  hasParity: boolean;
  /** Why the last try to write it found no room. */
  refusal: ChunkvolError | null;
  /** The MACs of a complete row's units, when its parity is computed. */
  macs: Uint8Array[] | Promise<Uint8Array[]>;
}

/** What a call of `write` brings to the files of a row: per member, all up to an end in its unit. */
interface Goal {
  readonly row: Row;
  readonly ends: readonly number[];
  /** What was under way then to encrypt it. */
  readonly sealing: Promise<unknown> | null;
}

/** What it waits for. */
interface DataWrites {
  /** Under way when it came. */
  readonly before: readonly Promise<void>[];
  readonly own: readonly Promise<void>[];
}

export class GroupWriter {
  /** Address behind everything handed out. */
  private next = 0;
  /** Rows with bytes that are not in the files yet, the current one last. */
  private rows: Row[] = [];
  private readonly unsynced = new Set<number>();
  /** Bytes handed to the data files since the last fdatasync began. */
  private roundBytes = 0;
  private runsAhead = false;
  /** Per data member: the end of its file, as far as it was written in advance. */
  private readonly aheadEnds: number[];
  private ahead: Uint8Array | null = null;
  private finished = false;
  private readonly work: RowWork | null;
  /** Rows are handed to the files by one `write` at a time. */
  private handing: Promise<unknown> = Promise.resolve();
  /** What `write` has returned and is under way, the oldest first. */
  private readonly writing = new Set<Promise<void>>();
  private syncing: Promise<void> = Promise.resolve();
  /** The failure that ended this group's life, if any: nothing is written to it after. */
  failure: unknown = null;
  readonly capacity: number;
  /** MACs of every unit of every complete row, by place. */
  readonly macs: Uint8Array[][];

  constructor(
    private readonly context: StoreContext,
    readonly group: Group,
    /** In order of places, open for update; each holds its header. */
    readonly files: readonly OpenFile[],
    private readonly codecs: RowCodecs,
  ) {
    this.capacity = maxRows(group.geometry) * rowBytes(group.geometry);
    this.macs = files.map(() => []);
    this.aheadEnds = files.map(() => 0);
    this.work = context.workers?.rows(group) ?? null;
    this.startRow(0);
  }

  get address(): number {
    return this.next;
  }

  /** Whether pieces of these sizes, in this order, still fit as one commit. */
  fits(pieces: readonly { readonly bytes: number; readonly count: number }[]): boolean {
    return this.endAfter(pieces) <= this.capacity;
  }

  /** Where the group would end after a commit of these pieces. */
  endAfter(pieces: readonly { readonly bytes: number; readonly count: number }[]): number {
    const { geometry } = this.group;
    let at = this.next;
    for (const { bytes, count } of pieces) {
      for (let left = count; left > 0;) {
        at = place(geometry, at, bytes);
        const run = Math.min(left, piecesInUnit(geometry, at, bytes));
        at += run * bytes;
        left -= run;
      }
    }
    return commitEnd(at);
  }

  /**
   * Hands out up to `count` pieces of `bytes` that lie in one unit. They must be filled before the next
   * call: that may complete the row and compute its parity.
   */
  allocate(bytes: number, count: number): Run {
    const address = place(this.group.geometry, this.next, bytes);
    if (address + bytes > this.capacity) throw new RangeError('piece beyond the end of its group');
    this.pad(address);
    const fitting = Math.min(count, piecesInUnit(this.group.geometry, address, bytes));
    const rowStart = this.currentRow.row * rowBytes(this.group.geometry);
    this.advance(address + fitting * bytes);
    return {
      address,
      count: fitting,
      buffer: this.rowOf(address).codec.data,
      offset: address - rowStart,
    };
  }

  /**
   * Encrypts blocks into a run: at once, or by the time that `write` resolves. Until then their plaintext
   * must stay as it is.
   */
  seal(run: Run, batch: SlotBatch, salt: Uint8Array): void {
    const row = this.rowOf(run.address);
    const { slot } = this.group.keys;
    const work = this.work?.seal(row.codec, slot, batch, salt) ?? null;
    if (work) this.follow(row, work);
    else this.context.engine.sealSlots(slot, batch, salt);
  }

  /** Ends a commit: padding up to the next sector, where the next one starts. */
  endCommit(): void {
    this.pad(commitEnd(this.next));
    this.group.end = this.next;
    this.completeRow();
  }

  /** Resolves when everything laid out before the call is in the data files (not yet durable). */
  write(): Promise<void> {
    // What is laid out while others are waited for is the next write's.
    const goals = this.rows.map((row) => ({ row, ends: [...row.filled], sealing: row.sealing }));
    const handed = this.handing.then(() => this.handOut(goals));
    this.handing = handed.catch(() => undefined);
    const result = handed.then((writes) => this.settled(writes));
    this.writing.add(result);
    const forget = (): boolean => this.writing.delete(result);
    result.then(forget, forget);
    return result;
  }

  private async settled({ before, own }: DataWrites): Promise<void> {
    const earlier = await Promise.allSettled(before);
    await settleAll(own);
    // There may be room again for what earlier writes could not bring to the files.
    if (earlier.some(({ status }) => status === 'rejected')) await this.write();
  }

  /** The same, and the parity of all complete rows. */
  async writeAll(): Promise<void> {
    await this.write();
    await this.parityWritten();
  }

  /** Makes durable what `write` has brought to the data files. Parity waits for the seal. */
  sync(): Promise<void> {
    // One after the other: who comes second must not pass while the first is still under way.
    const result = this.syncing.then(() => this.syncData());
    this.syncing = result.catch(() => undefined);
    return result;
  }

  /** Resolves when at most `limitBytes` of what is laid out have not been handed to the files. */
  async drain(limitBytes: number): Promise<void> {
    for (const write of this.writing) {
      if (this.unwrittenBytes <= limitBytes) break;
      // What fails here is tried again, and then it counts.
      await write.catch(() => undefined);
    }
    this.throwFailure();
    if (this.unwrittenBytes > limitBytes) await this.writeAll();
  }

  /** Bytes laid out and not handed to the files yet. */
  get unwrittenBytes(): number {
    let bytes = 0;
    for (const row of this.rows) bytes += pendingBytes(row);
    return bytes;
  }

  /** Ends the last row: its parity reaches as far as its longest unit. Call `writeAll` after. */
  finish(): void {
    if (this.finished) throw new RangeError('a group is finished once');
    this.finished = true;
    const row = this.currentRow;
    if (this.next > row.row * rowBytes(this.group.geometry)) this.finishParity(row, this.next);
  }

  async close(): Promise<void> {
    await this.handing;
    await Promise.allSettled(this.writesUnderWay());
    await this.parityWritten().catch(() => undefined);
    this.giveUnusedBack();
    this.work?.close();
    await Promise.all(this.files.map((file) => file.close().catch(() => undefined)));
  }

  /** A row that was started behind a full one, and that nothing has come to. */
  private giveUnusedBack(): void {
    const last = this.rows.at(-1);
    if (!last || this.next !== last.row * rowBytes(this.group.geometry)) return;
    this.rows.pop();
    this.codecs.giveBack(last.codec);
  }

  private get currentRow(): Row {
    return this.rows[this.rows.length - 1]!;
  }

  private rowOf(address: number): Row {
    const row = Math.floor(address / rowBytes(this.group.geometry));
    return this.rows.find((candidate) => candidate.row === row)!;
  }

  /** Fills the gap up to `address` with keystream. */
  private pad(address: number): void {
    const { geometry } = this.group;
    while (this.next < address) {
      this.completeRow();
      const row = this.currentRow;
      const rowStart = row.row * rowBytes(geometry);
      const unitEnd = (Math.floor(this.next / geometry.unitBytes) + 1) * geometry.unitBytes;
      const to = Math.min(address, unitEnd);
      const gap = row.codec.data.subarray(this.next - rowStart, to - rowStart);
      // The buffer may have served an earlier row.
      gap.fill(0);
      this.context.engine.ctr(this.group.keys.pad, new Uint8Array(16), gap, this.next);
      this.advance(to);
    }
    this.completeRow();
  }

  private advance(address: number): void {
    const { geometry } = this.group;
    const row = this.currentRow;
    const member = Math.floor(this.next / geometry.unitBytes) % geometry.data;
    const rowStart = row.row * rowBytes(geometry);
    row.filled[member] = address - rowStart - member * geometry.unitBytes;
    this.next = address;
  }

  /** Starts a new row when the current one is full. */
  private completeRow(): void {
    const row = this.currentRow;
    if (this.next < (row.row + 1) * rowBytes(this.group.geometry)) return;
    this.finishParity(row, this.next);
    this.startRow(row.row + 1);
  }

  private finishParity(row: Row, end: number): void {
    const { group } = this;
    this.zeroRest(row);
    const work = this.work?.finish(row.codec, row.row, end) ?? null;
    work?.catch((error: unknown) => {
      this.failure ??= error;
    });
    row.macs = work ?? finishRow(this.context.engine, group, row.codec, row.row, end);
    for (let member = group.geometry.data; member < this.files.length; member++) {
      row.filled[member] = row.filled[0]!;
    }
    row.complete = true;
  }

  /** The row's data are not written before this is done as well. */
  private follow(row: Row, work: Promise<unknown>): void {
    const all = row.sealing ? settleAll([row.sealing, work]) : work;
    row.sealing = all;
    all.then(
      () => {
        if (row.sealing === all) row.sealing = null;
      },
      (error: unknown) => {
        this.failure ??= error;
      },
    );
  }

  /** A row's buffer has served before: what parity takes as zeros must be so. */
  private zeroRest(row: Row): void {
    const { data, unitBytes } = this.group.geometry;
    for (let member = 0; member < data; member++) {
      const filled = row.filled[member]!;
      if (filled < unitBytes) row.codec.unit(member).fill(0, filled);
    }
  }

  private startRow(row: number): void {
    const { geometry } = this.group;
    const codec = this.codecs.take();
    // The header zone of row 0 is in the files already, and is no part of any address.
    const start = unitStart(row);
    const members = memberCount(geometry);
    this.rows.push({
      row,
      codec,
      filled: Array.from({ length: members }, () => start),
      written: Array.from({ length: members }, () => start),
      writes: new Set(),
      complete: false,
      sealing: null,
      parity: null,
      hasParity: false,
      refusal: null,
      macs: [],
    });
  }

  private async syncData(): Promise<void> {
    this.throwFailure();
    const members = [...this.unsynced].filter((member) => member < this.group.geometry.data);
    for (const member of members) this.unsynced.delete(member);
    // A round without data says nothing of how much is flushed at a time.
    if (this.roundBytes > 0) this.runsAhead = this.roundBytes <= SMALL_ROUND_BYTES;
    this.roundBytes = 0;
    try {
      await settleAll(members.map((member) => this.files[member]!.sync()));
    } catch (error) {
      this.failure ??= error;
      throw error;
    }
  }

  private throwFailure(): void {
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- the error is handed on as it came
    if (this.failure !== null) throw this.failure;
  }

  /** Hands what is laid out to the files, each row as soon as it is encrypted. */
  private async handOut(goals: readonly Goal[]): Promise<DataWrites> {
    this.throwFailure();
    const before = this.writesUnderWay();
    const own: Promise<void>[] = [];
    for (const { row, ends, sealing } of goals) {
      if (sealing) await sealing;
      if (!row.parity) await this.untilFewUnderWay();
      own.push(...this.writeData(row, ends));
      if (row.complete && !row.parity) this.startParity(row);
    }
    if (this.runsAhead) {
      await settleAll(own);
      await this.runAhead(goals.at(-1)!.row);
    }
    return { before, own };
  }

  private writesUnderWay(): Promise<void>[] {
    return this.rows.flatMap(({ writes }) => [...writes]);
  }

  private async untilFewUnderWay(): Promise<void> {
    const isUnderWay = ({ parity, hasParity, writes }: Row): boolean =>
      parity !== null && (!hasParity || writes.size > 0);
    for (;;) {
      const underWay = this.rows.filter(isUnderWay);
      if (underWay.length < MAX_ROWS_UNDER_WAY) return;
      const [{ parity, writes }] = underWay as [Row];
      await settleAll([parity!, ...writes]);
    }
  }

  /** One write for each data member that has new bytes in this row. */
  private writeData(row: Row, ends: readonly number[]): Promise<void>[] {
    const { data } = this.group.geometry;
    return ends.slice(0, data).flatMap((end, member) => {
      this.roundBytes += Math.max(0, end - row.written[member]!);
      const written = this.writeMember(row, member, end);
      for (const write of written) this.watch(row, write);
      return written;
    });
  }

  private watch(row: Row, write: Promise<void>): void {
    row.writes.add(write);
    const over = (): void => {
      row.writes.delete(write);
      this.retireIfOver(row);
    };
    write.then(over, over);
  }

  private async parityWritten(): Promise<void> {
    // What failed before anybody waited for it must not be missed.
    const refused = this.rows.find(({ refusal }) => refusal)?.refusal;
    await settleAll(this.rows.flatMap(({ parity }) => (parity ? [parity] : [])));
    this.throwFailure();
    if (refused) throw refused;
  }

  /** Who waits for the parity is told of a failure; else it is tried again, or the group has failed. */
  private startParity(row: Row): void {
    row.refusal = null;
    row.parity = this.writeParity(row);
    row.parity.then(
      () => {
        row.hasParity = true;
        this.retireIfOver(row);
      },
      (error: unknown) => {
        row.parity = null;
        if (isChunkvolError(error, 'no-space')) row.refusal = error;
        else this.failure ??= error;
      },
    );
  }

  private async writeParity(row: Row): Promise<void> {
    const { data } = this.group.geometry;
    const macs = await row.macs;
    macs.forEach((mac, member) => (this.macs[member]![row.row] = mac));
    const parity = row.filled.slice(data);
    await settleAll(parity.flatMap((end, index) => this.writeMember(row, data + index, end)));
  }

  /** Brings what a row has for a member, up to `end`, to its file, if that is anything. */
  private writeMember(row: Row, member: number, end: number): Promise<void>[] {
    const { data, unitBytes } = this.group.geometry;
    const from = row.written[member]!;
    if (from >= end) return [];
    row.written[member] = end;
    const bytes = row.codec.unit(member).subarray(from, end);
    // Parity is read when something is lost, and not before.
    const cache = member < data ? undefined : 'bypass';
    const written = this.files[member]!.write(bytes, row.row * unitBytes + from, cache).then(
      () => {
        this.unsynced.add(member);
      },
      (error: unknown) => {
        // The same bytes can be written again once there is room: nothing is encrypted twice. With them are
        // those behind, which may have got through.
        if (isChunkvolError(error, 'no-space')) {
          row.written[member] = Math.min(from, row.written[member]!);
        } else this.failure ??= error;
        throw error;
      },
    );
    return [written];
  }

  /**
   * Writes what lies ahead in the file that was just written, once its end is reached. Only what keeps
   * later writes cheap: a failure is not one of the group, and ends this until the next small round.
   */
  private async runAhead({ row, written }: Row): Promise<void> {
    const { data, unitBytes } = this.group.geometry;
    const member = written.findLastIndex((end, at) => at < data && end > unitStart(row));
    if (member < 0) return;
    const from = row * unitBytes + written[member]!;
    if (this.aheadEnds[member]! >= from) return;
    const bytes = this.padding(member, from);
    try {
      await this.files[member]!.write(bytes, from);
      this.aheadEnds[member] = from + bytes.length;
      this.unsynced.add(member);
    } catch {
      this.runsAhead = false;
    }
  }

  /**
   * The padding of a member from byte `from` of its file on, as far as the file runs ahead; in memory that
   * serves for the next one too: fresh memory of this size stays until the collector comes by.
   */
  private padding(member: number, from: number): Uint8Array {
    const { geometry, keys } = this.group;
    const { data, unitBytes } = geometry;
    this.ahead ??= new Uint8Array(Math.min(AHEAD_UNITS * unitBytes, MAX_AHEAD_BYTES));
    const end = Math.min(from + this.ahead.length, maxRows(geometry) * unitBytes);
    const bytes = this.ahead.subarray(0, end - from).fill(0);
    for (let at = from; at < end;) {
      const row = Math.floor(at / unitBytes);
      const next = Math.min(end, (row + 1) * unitBytes);
      const address = (row * data + member) * unitBytes + (at % unitBytes);
      const unit = bytes.subarray(at - from, next - from);
      this.context.engine.ctr(keys.pad, new Uint8Array(16), unit, address);
      at = next;
    }
    return bytes;
  }

  /** Its buffer can serve another row when all of it is in the files, and none on its way there. */
  private retireIfOver(row: Row): void {
    if (!row.hasParity || row.writes.size > 0 || pendingBytes(row) > 0) return;
    if (!this.rows.includes(row)) return;
    this.rows = this.rows.filter((other) => other !== row);
    // Rows are over in any order: parity counts as far as there is no gap.
    this.group.parityRows = Math.max(this.group.parityRows, this.rows[0]?.row ?? row.row + 1);
    this.codecs.giveBack(row.codec);
  }
}

function pendingBytes({ filled, written }: Row): number {
  let bytes = 0;
  for (let member = 0; member < filled.length; member++)
    bytes += filled[member]! - written[member]!;
  return bytes;
}
