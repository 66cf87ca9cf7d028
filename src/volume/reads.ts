/**
 * The way of a read: staging buffer, map, slots. Blocks that lie behind one another in one stripe unit
 * are one read of the file and one call of the crypto engine.
 */
import { settleAll } from '../base/async.js';
import { alignDown, alignUp } from '../base/bytes.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { piecesInUnit } from '../erasure/stripe.js';
import { SLOT_KIND } from '../format/commit.js';
import { NODE_FANOUT } from '../format/map-node.js';
import type { SlotReader } from '../store/slot-reader.js';
import { entryOf, type BlockMap, type CachedNode } from './block-map.js';
import type { GroupTable } from './group-table.js';
import { MAX_PIECE_BYTES } from './limits.js';
import type { Staging } from './staging.js';

interface Placed {
  readonly ordinal: number;
  readonly position: number;
}

export class Reads {
  private readonly slotWords: number;

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
