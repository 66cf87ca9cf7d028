/**
 * The way of a read: staging buffer, map, slots. Blocks that lie behind one another in one stripe unit
 * are one read of the file and one call of the crypto engine.
 *
 * What is in memory, map node and slot alike, is read at once, without a promise. Where that ends, at a
 * node or a slot that has to be fetched, or that is damaged, the rest of the request takes its time.
 */
import { settleAll } from '../base/async.js';
import { alignDown, alignUp } from '../base/bytes.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { piecesInUnit } from '../erasure/stripe.js';
import { SLOT_KIND } from '../format/commit.js';
import { NODE_FANOUT } from '../format/map-node.js';
import type { Group } from '../store/group.js';
import { MAX_RUN_NOW, type SlotReader } from '../store/slot-reader.js';
import { entryOf, type BlockMap, type CachedNode } from './block-map.js';
import type { GroupTable } from './group-table.js';
import { MAX_PIECE_BYTES, MAX_READ_NOW_BYTES } from './limits.js';
import type { Staging } from './staging.js';

interface Placed {
  readonly ordinal: number;
  readonly position: number;
}

/** A run that is read at once, in the making. */
interface RunNow {
  group: Group | null;
  address: number;
  count: number;
  /** Index of the first block in the request. */
  index: number;
  readonly numbers: Float64Array;
  readonly plainAt: Uint32Array;
}

export class Reads {
  private readonly slotWords: number;
  /** Runs of the present request that other threads are busy with; false: not read after all. */
  private soon: Promise<boolean>[] = [];
  private readonly runNow: RunNow = {
    group: null,
    address: 0,
    count: 0,
    index: 0,
    numbers: new Float64Array(MAX_RUN_NOW),
    plainAt: new Uint32Array(MAX_RUN_NOW),
  };

  constructor(
    private readonly staging: Staging,
    private readonly map: BlockMap,
    private readonly groups: GroupTable,
    private readonly slots: SlotReader,
  ) {
    this.slotWords = (staging.blockBytes + SLOT_OVERHEAD_BYTES) / 8;
  }

  /** Fills all of `into` from byte `offset` of the disk, in pieces of bounded size. */
  async bytes(offset: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; done += MAX_PIECE_BYTES) {
      await this.piece(offset + done, into.subarray(done, done + MAX_PIECE_BYTES));
    }
  }

  /** The same at once, if it is little and all of it is in memory; false if not. */
  bytesNow(offset: number, into: Uint8Array): boolean {
    const { blockBytes } = this.staging;
    if (into.length > MAX_READ_NOW_BYTES) return false;
    if (offset % blockBytes !== 0 || into.length % blockBytes !== 0) return false;
    return this.blocksNow(offset / blockBytes, into) * blockBytes === into.length;
  }

  private async piece(offset: number, into: Uint8Array): Promise<void> {
    const { blockBytes } = this.staging;
    const from = alignDown(offset, blockBytes);
    const to = alignUp(offset + into.length, blockBytes);
    if (from === offset && to === offset + into.length) {
      await this.blocks(from / blockBytes, into);
      return;
    }
    const whole = new Uint8Array(to - from);
    await this.blocks(from / blockBytes, whole);
    into.set(whole.subarray(offset - from, offset - from + into.length));
  }

  /** Fills `into`, whose length is a multiple of the block size, with the blocks from `first` on. */
  async blocks(first: number, into: Uint8Array): Promise<void> {
    const { blockBytes } = this.staging;
    const done = this.blocksNow(first, into);
    const runs = this.soon;
    if (runs.length > 0) {
      this.soon = [];
      const areRead = await Promise.all(runs);
      if (areRead.includes(false)) return this.fetch(first, into);
    }
    if (done * blockBytes === into.length) return;
    await this.fetch(first + done, into.subarray(done * blockBytes));
  }

  /** Reads what can be read at once; returns how many blocks, from the first on, that was. */
  private blocksNow(first: number, into: Uint8Array): number {
    const { blockBytes } = this.staging;
    const count = into.length / blockBytes;
    const run = this.runNow;
    run.count = 0;
    for (let index = 0; index < count; index++) {
      const block = first + index;
      const staged = this.staging.lookup(block);
      const entry = staged ? null : this.map.peek(block);
      if (entry === undefined) return this.endRunNow(into) ? index : run.index;
      if (entry === null) {
        const at = index * blockBytes;
        if (staged && staged !== 'hole') into.set(staged, at);
        else into.fill(0, at, at + blockBytes);
        continue;
      }
      if (!this.joinsRunNow(entry)) {
        if (!this.endRunNow(into)) return run.index;
        this.startRunNow(entry, index);
      }
      run.numbers[run.count] = block;
      run.plainAt[run.count++] = index * blockBytes;
    }
    return this.endRunNow(into) ? count : run.index;
  }

  private joinsRunNow(entry: Placed): boolean {
    const { group, address, count } = this.runNow;
    if (count === 0 || group?.ordinal !== entry.ordinal || count === MAX_RUN_NOW) return false;
    const slotBytes = this.slotWords * 8;
    if (entry.position * 8 !== address + count * slotBytes) return false;
    return count < piecesInUnit(group.geometry, address, slotBytes);
  }

  private startRunNow({ ordinal, position }: Placed, index: number): void {
    const run = this.runNow;
    run.group = this.groups.get(ordinal);
    run.address = position * 8;
    run.index = index;
  }

  /** Reads the run, if there is one, or lets it be read soon; false when it cannot be read at once. */
  private endRunNow(into: Uint8Array): boolean {
    const { group, address, count, numbers, plainAt } = this.runNow;
    if (!group || count === 0) return true;
    this.runNow.count = 0;
    const plainBytes = this.staging.blockBytes;
    const kind = SLOT_KIND.block;
    const key = group.keys.slot;
    const run = { group, key, address, count, plainBytes, kind, numbers, plainAt, plain: into };
    const soon = this.slots.readSoon(run);
    if (soon) this.soon.push(soon);
    return soon !== null || this.slots.readNow(run);
  }

  /** The same as `blocks`, with waits. */
  private async fetch(first: number, into: Uint8Array): Promise<void> {
    const { blockBytes } = this.staging;
    const count = into.length / blockBytes;
    const wanted: number[] = [];
    const placed: Placed[] = [];
    const pending: Promise<void>[] = [];
    const start = (run: Promise<void>): void => {
      // It may fail before this function waits for it.
      run.catch(() => undefined);
      pending.push(run);
    };
    for (let index = 0; index < count; index++) {
      const block = first + index;
      const target = into.subarray(index * blockBytes, (index + 1) * blockBytes);
      const address = this.settle(block, target);
      const entry = address instanceof Promise ? await address : address;
      if (entry === null) continue;
      if (placed.length > 0 && !this.continues(placed, entry)) {
        start(this.readRun(first, wanted.splice(0), placed.splice(0), into));
      }
      wanted.push(index);
      placed.push(entry);
    }
    if (placed.length > 0) start(this.readRun(first, wanted, placed, into));
    await settleAll(pending);
  }

  /**
   * Fills `target` when the block is here or a hole (null), else tells where its slot is. The answer is
   * immediate when the map's node is in memory.
   */
  private settle(block: number, target: Uint8Array): Placed | null | Promise<Placed | null> {
    const staged = this.staging.lookup(block);
    if (staged === 'hole') {
      target.fill(0);
      return null;
    }
    if (staged) {
      target.set(staged);
      return null;
    }
    const entry = this.map.peek(block);
    if (entry === undefined) {
      return this.map.leaf(block).then((leaf) => this.settleLoaded(block, target, leaf));
    }
    if (entry === null) target.fill(0);
    return entry;
  }

  /**
   * After the node was paged in: null when nothing is mapped there. Other readers may have driven it out
   * again at once; what it said is true still, as a change would have kept it.
   */
  private settleLoaded(
    block: number,
    target: Uint8Array,
    leaf: CachedNode | null,
  ): Placed | null | Promise<Placed | null> {
    if (this.map.peek(block) !== undefined) return this.settle(block, target);
    const staged = this.staging.lookup(block);
    const entry = staged || !leaf ? null : entryOf(leaf, block % NODE_FANOUT);
    if (staged && staged !== 'hole') target.set(staged);
    else if (!entry) target.fill(0);
    return entry;
  }

  /** Whether the slot lies right behind the last one, in the same stripe unit. */
  private continues(placed: readonly Placed[], entry: Placed): boolean {
    const last = placed[placed.length - 1]!;
    if (entry.ordinal !== last.ordinal || entry.position !== last.position + this.slotWords) {
      return false;
    }
    const { geometry } = this.groups.get(entry.ordinal);
    const slotBytes = this.slotWords * 8;
    return placed.length < piecesInUnit(geometry, placed[0]!.position * 8, slotBytes);
  }

  private async readRun(
    first: number,
    wanted: readonly number[],
    placed: readonly Placed[],
    into: Uint8Array,
  ): Promise<void> {
    const { blockBytes } = this.staging;
    const group = this.groups.get(placed[0]!.ordinal);
    await this.slots.read({
      group,
      key: group.keys.slot,
      address: placed[0]!.position * 8,
      count: wanted.length,
      plainBytes: blockBytes,
      kind: SLOT_KIND.block,
      numbers: Float64Array.from(wanted, (index) => first + index),
      plain: into,
      plainAt: Uint32Array.from(wanted, (index) => index * blockBytes),
    });
  }
}
