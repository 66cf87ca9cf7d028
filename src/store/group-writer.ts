/**
 * The group that is being written: appends at its end, and nothing else.
 *
 * - A position is consumed when it is handed out; it is never handed out twice, whatever fails after.
 * - Bytes are laid out in row buffers (one stripe row each, in wasm memory) by synchronous calls;
 *   `write` brings what is laid out to the files. A write that failed for want of space can be tried
 *   again with the very same bytes; after any other failure the group must be given up.
 * - When a row is complete its parity is computed, encrypted and written too: no unit is read back.
 * - What lies between pieces is keystream of the group's pad key: a function of the address alone.
 * - While the group is flushed after little each time, its data files run ahead of the log: they are
 *   written in advance, with that same keystream. An fdatasync of bytes that were there before needs no
 *   journal commit of the file system, which costs several times what the bytes cost.
 */
import { settleAll } from '../base/async.js';
import { KIB, MIB } from '../base/bytes.js';
import { isChunkvolError } from '../base/errors.js';
import type { OpenFile } from '../base/files.js';
import { memberCount } from '../base/geometry.js';
import { RowCodec } from '../erasure/row-codec.js';
import { commitEnd, piecesInUnit, place, rowBytes, unitStart } from '../erasure/stripe.js';
import { maxRows } from '../format/footer.js';
import type { StoreContext } from './context.js';
import type { Group } from './group.js';
import { finishRow } from './parity.js';

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

interface Row {
  readonly row: number;
  readonly codec: RowCodec;
  /** Per member: bytes laid out, and bytes handed to the file, from the unit's start. */
  readonly filled: number[];
  readonly written: number[];
  complete: boolean;
}

export class GroupWriter {
  /** Address behind everything handed out. */
  private next = 0;
  /** Rows with bytes that are not in the files yet, the current one last. */
  private rows: Row[] = [];
  private readonly spare: RowCodec[] = [];
  private readonly unsynced = new Set<number>();
  /** Bytes handed to the data files since the last fdatasync began. */
  private roundBytes = 0;
  private runsAhead = false;
  /** Per data member: the end of its file, as far as it was written in advance. */
  private readonly aheadEnds: number[];
  private finished = false;
  private writing: Promise<void> = Promise.resolve();
  private syncing: Promise<void> = Promise.resolve();
  /** The failure that ended this group's life, if any: nothing is written to it after. */
  failure: unknown = null;
  readonly capacity: number;
  /** MACs of every unit of every complete row, by place. */
  readonly macs: Uint8Array[][];

  private constructor(
    private readonly context: StoreContext,
    readonly group: Group,
    /** In order of places, open for update; each holds its header. */
    readonly files: readonly OpenFile[],
    /** Serves the first row, and as the pattern of the others. */
    private readonly template: RowCodec,
  ) {
    this.capacity = maxRows(group.geometry) * rowBytes(group.geometry);
    this.macs = files.map(() => []);
    this.aheadEnds = files.map(() => 0);
    this.spare.push(template);
    this.startRow(0);
  }

  static async create(
    context: StoreContext,
    group: Group,
    files: readonly OpenFile[],
  ): Promise<GroupWriter> {
    const { data, parity, unitBytes } = group.geometry;
    const codec = await RowCodec.create(data, parity, unitBytes);
    return new GroupWriter(context, group, files, codec);
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

  /** Ends a commit: padding up to the next sector, where the next one starts. */
  endCommit(): void {
    this.pad(commitEnd(this.next));
    this.group.end = this.next;
    this.completeRow();
  }

  /** Resolves when everything laid out before the call is in the files (not yet durable). */
  write(): Promise<void> {
    const result = this.writing.then(() => this.writeRows());
    this.writing = result.catch(() => undefined);
    return result;
  }

  /** Makes durable what `write` has brought to the data files. Parity waits for the seal. */
  sync(): Promise<void> {
    // One after the other: who comes second must not pass while the first is still under way.
    const result = this.syncing.then(() => this.syncData());
    this.syncing = result.catch(() => undefined);
    return result;
  }

  /** Bytes laid out and not handed to the files yet. */
  get unwrittenBytes(): number {
    return this.rows.reduce((sum, row) => sum + pendingBytes(row), 0);
  }

  /** Ends the last row: its parity reaches as far as its longest unit. Call `write` after. */
  finish(): void {
    if (this.finished) throw new RangeError('a group is finished once');
    this.finished = true;
    const row = this.currentRow;
    if (this.next > row.row * rowBytes(this.group.geometry)) this.finishParity(row, this.next);
  }

  async close(): Promise<void> {
    await this.writing;
    await Promise.all(this.files.map((file) => file.close().catch(() => undefined)));
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
    const macs = finishRow(this.context.engine, group, row.codec, row.row, end);
    macs.forEach((mac, member) => this.macs[member]!.push(mac));
    for (let member = group.geometry.data; member < this.files.length; member++) {
      row.filled[member] = row.filled[0]!;
    }
    row.complete = true;
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
    const codec = this.spare.pop() ?? this.template.another();
    // The header zone of row 0 is in the files already, and is no part of any address.
    const start = unitStart(row);
    const members = memberCount(geometry);
    this.rows.push({
      row,
      codec,
      filled: Array.from({ length: members }, () => start),
      written: Array.from({ length: members }, () => start),
      complete: false,
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

  private async writeRows(): Promise<void> {
    this.throwFailure();
    const rows = [...this.rows];
    await settleAll(rows.flatMap((row) => this.writeRow(row)));
    if (this.runsAhead) await this.runAhead(rows.at(-1)!);
    for (const row of rows) if (row.complete && isWritten(row)) this.retire(row);
  }

  /** One write for each member that has new bytes in this row. */
  private writeRow(row: Row): Promise<void>[] {
    const { unitBytes } = this.group.geometry;
    return this.files.flatMap((file, member) => {
      const from = row.written[member]!;
      const to = row.filled[member]!;
      if (from >= to) return [];
      row.written[member] = to;
      const isData = member < this.group.geometry.data;
      if (isData) this.roundBytes += to - from;
      const bytes = row.codec.unit(member).subarray(from, to);
      // Parity is read when something is lost, and not before.
      const cache = isData ? undefined : 'bypass';
      const written = file.write(bytes, row.row * unitBytes + from, cache).then(
        () => void this.unsynced.add(member),
        (error: unknown) => {
          // The same bytes can be written again once there is room: nothing is encrypted twice.
          if (isChunkvolError(error, 'no-space')) row.written[member] = from;
          else this.failure ??= error;
          throw error;
        },
      );
      return [written];
    });
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

  /** The padding of a member from byte `from` of its file on, as far as the file runs ahead. */
  private padding(member: number, from: number): Uint8Array {
    const { geometry, keys } = this.group;
    const { data, unitBytes } = geometry;
    const wanted = Math.min(AHEAD_UNITS * unitBytes, MAX_AHEAD_BYTES);
    const end = Math.min(from + wanted, maxRows(geometry) * unitBytes);
    const bytes = new Uint8Array(end - from);
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

  private retire(row: Row): void {
    this.group.parityRows = Math.max(this.group.parityRows, row.row + 1);
    this.rows = this.rows.filter((other) => other !== row);
    if (this.rows.length > 0) this.spare.push(row.codec);
  }
}

function isWritten(row: Row): boolean {
  return pendingBytes(row) === 0;
}

function pendingBytes(row: Row): number {
  return row.filled.reduce((sum, filled, member) => sum + filled - row.written[member]!, 0);
}
