/**
 * Moves what a collection has gathered to the end of the log, and lets the maps follow.
 *
 * - A move takes effect when it is durable, and only for blocks that stand where they stood: what was
 *   overwritten meanwhile stays as it is. Until then the old slots are good, and nothing is lost when
 *   any of it fails.
 * - Nodes of the disk's map are marked as changed: the next checkpoint writes them to the log's end.
 * - Maps of snapshots are written anew where they lead to what was moved, each shared node once, and the
 *   snapshots get new pointers at the end (rewrite.ts).
 */
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { isChunkvolError } from '../base/errors.js';
import { piecesInUnit } from '../erasure/stripe.js';
import { SLOT_KIND } from '../format/commit.js';
import { NODE_FANOUT } from '../format/map-node.js';
import type { SlotReader, SlotRun } from '../store/slot-reader.js';
import type { Checkpointer } from './checkpoint.js';
import type { GatheredSlots, NodePlace } from './gather.js';
import { MAX_MOVED_BYTES, MAX_MOVED_SLOTS } from './limits.js';
import type { Moves } from './log.js';
import type { LogEnd } from './log-end.js';
import type { WritePath } from './write-path.js';

/** Share of a group that one commit of moves may take. */
const GROUP_SHARE = 16;

/** Nodes that are marked under one hold of the lock. */
const NODES_AT_A_TIME = 256;

/** Times that a commit is made again because the disk failed under it. */
const MAX_ATTEMPTS = 3;

/** Where the gathered slots are now: entry i belongs to slot i, ordinal 0 to one that could not be moved. */
export interface NewPlaces {
  readonly ordinals: Uint32Array;
  readonly positions: Uint32Array;
}

export class Relocation {
  readonly places: NewPlaces;
  /** Groups of which something cannot be read, and which so cannot be emptied. */
  readonly stuck: Set<number> = new Set<number>();
  /** How many of the gathered slots the disk has left, by ordinal of their group. */
  readonly left: Map<number, number> = new Map<number, number>();
  private readonly plain: Uint8Array;
  private readonly blockBytes: number;
  private readonly chunk: number;
  private next = 0;

  constructor(
    private readonly end: LogEnd,
    private readonly checkpointer: Checkpointer,
    private readonly writePath: WritePath,
    private readonly reader: SlotReader,
    private readonly slots: GatheredSlots,
  ) {
    const { blockBytes, geometry } = end.parts.roots.facts;
    const share = (geometry.data * geometry.chunkBytes) / GROUP_SHARE;
    const bytes = Math.min(MAX_MOVED_BYTES, share);
    this.blockBytes = blockBytes;
    this.chunk = Math.max(1, Math.min(MAX_MOVED_SLOTS, Math.floor(bytes / blockBytes)));
    this.plain = new Uint8Array(Math.min(this.chunk, slots.count) * blockBytes);
    this.places = {
      ordinals: new Uint32Array(slots.count),
      positions: new Uint32Array(slots.count),
    };
  }

  get isDone(): boolean {
    return this.next === this.slots.count;
  }

  /** Moves the next chunk. Returns the bytes that were moved. */
  async step(): Promise<number> {
    const first = this.next;
    const count = Math.min(this.chunk, this.slots.count - first);
    const read = await this.readChunk(first, count);
    this.next += count;
    if (read.length === 0) return 0;
    const order = read.sort((a, b) => this.slots.blocks[a]! - this.slots.blocks[b]!);
    const moves: Moves = {
      blocks: Float64Array.from(order, (i) => this.slots.blocks[i]!),
      old: Uint32Array.from(
        order.flatMap((i) => [this.slots.ordinals[i]!, this.slots.positions[i]!]),
      ),
      slots: Uint32Array.from(order, (i) => i - first),
      plain: this.plain,
    };
    // Paged in before the lock is taken, as far as they stay.
    for (const block of moves.blocks) await this.end.parts.map.leaf(block);
    await this.writePath.exclusively(() => this.commit(moves, order));
    return read.length * this.blockBytes;
  }

  /** Marks nodes of the disk's map, so that a checkpoint moves them. */
  async touch(nodes: readonly NodePlace[]): Promise<void> {
    for (let at = 0; at < nodes.length; at += NODES_AT_A_TIME) {
      await this.writePath.exclusively(async () => {
        for (const { level, index, ordinal, position } of nodes.slice(at, at + NODES_AT_A_TIME)) {
          await this.end.parts.map.touch(level, index, ordinal, position);
        }
        await this.checkpointer.whenDue();
      });
    }
  }

  private async commit(moves: Moves, order: readonly number[]): Promise<void> {
    const { log, map } = this.end.parts;
    const leaves = new Set(Array.from(moves.blocks, (block) => Math.floor(block / NODE_FANOUT)))
      .size;
    for (let attempt = 1; ; attempt++) {
      const writer = await this.checkpointer.writerFor(log.movePieces(moves), leaves);
      const before = writer.address;
      const positions = log.appendMoves(writer, moves);
      this.end.noteLogged(writer.address - before);
      if (await this.end.makeDurable()) {
        await map.prepare(moves.blocks, []);
        this.apply(moves, order, writer.group.ordinal, positions);
        map.settle();
        return;
      }
      if (attempt === MAX_ATTEMPTS) return;
    }
  }

  private apply(
    { blocks, old }: Moves,
    order: readonly number[],
    ordinal: number,
    positions: Uint32Array,
  ): void {
    for (const [i, slot] of order.entries()) {
      this.end.parts.map.move(blocks[i]!, old[i * 2]!, old[i * 2 + 1]!, ordinal, positions[i]!);
      this.places.ordinals[slot] = ordinal;
      this.places.positions[slot] = positions[i]!;
      const from = old[i * 2]!;
      this.left.set(from, (this.left.get(from) ?? 0) + 1);
    }
  }

  /** Reads `count` slots from `first` on; returns the indexes of those that could be read. */
  private async readChunk(first: number, count: number): Promise<number[]> {
    const read: number[] = [];
    for (let at = first; at < first + count;) {
      const run = this.runFrom(at, first + count, first);
      if (await this.tryRead(run)) {
        for (let i = 0; i < run.count; i++) read.push(at + i);
      } else {
        await this.readOneByOne(at, run.count, first, read);
      }
      at += run.count;
    }
    return read;
  }

  private async readOneByOne(
    from: number,
    count: number,
    first: number,
    read: number[],
  ): Promise<void> {
    for (let at = from; at < from + count; at++) {
      if (await this.tryRead(this.runFrom(at, at + 1, first))) read.push(at);
      else this.stuck.add(this.slots.ordinals[at]!);
    }
  }

  /** Slots one behind the other in one stripe unit, from slot `at` on. */
  private runFrom(at: number, limit: number, first: number): SlotRun {
    const { ordinals, positions, blocks } = this.slots;
    const group = this.end.parts.groups.get(ordinals[at]!);
    const slotBytes = this.blockBytes + SLOT_OVERHEAD_BYTES;
    const address = positions[at]! * 8;
    const most = Math.min(limit - at, piecesInUnit(group.geometry, address, slotBytes));
    let count = 1;
    while (
      count < most &&
      ordinals[at + count] === ordinals[at] &&
      positions[at + count] === positions[at]! + (count * slotBytes) / 8
    ) {
      count++;
    }
    return {
      group,
      key: group.keys.slot,
      address,
      count,
      plainBytes: this.blockBytes,
      kind: SLOT_KIND.block,
      numbers: blocks.slice(at, at + count),
      plain: this.plain,
      plainAt: Uint32Array.from({ length: count }, (_, i) => (at - first + i) * this.blockBytes),
    };
  }

  private async tryRead(run: SlotRun): Promise<boolean> {
    try {
      await this.reader.read(run);
      return true;
    } catch (error) {
      if (isChunkvolError(error, 'lost')) return false;
      throw error;
    }
  }
}
