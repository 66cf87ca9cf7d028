/**
 * Moves what a collection has gathered to groups of survivors, and lets the maps follow.
 *
 * - A move takes effect when it is durable, and only for blocks that stand where they stood: what was
 *   overwritten meanwhile stays as it is. Until then the old slots are good, and nothing is lost when
 *   any of it fails.
 * - Nodes of the disk's map are marked as changed: the next checkpoint writes them to the log's end.
 * - Maps of snapshots are written anew where they lead to what was moved, each shared node once, and the
 *   snapshots get new pointers at the end (rewrite.ts).
 */
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { ChunkvolError, isChunkvolError } from '../base/errors.js';
import { piecesInUnit } from '../erasure/stripe.js';
import { MAX_SURVIVED } from '../format/chunk-header.js';
import { SLOT_KIND, type MoveEntry } from '../format/commit.js';
import { NODE_FANOUT } from '../format/map-node.js';
import type { SlotReader, SlotRun } from '../store/slot-reader.js';
import type { Checkpointer } from './checkpoint.js';
import { reordered, type GatheredSlots, type NodePlace } from './gather.js';
import { groupShareBytes, MAX_MOVED_BYTES, MAX_MOVED_SLOTS } from './limits.js';
import type { LogEnd } from './log-end.js';
import type { Moves, Survivors } from './survivors.js';
import type { WritePath } from './write-path.js';

/** Nodes that are marked under one hold of the lock. */
const NODES_AT_A_TIME = 256;

/** Times that a commit is made again because the disk failed under it. */
const MAX_ATTEMPTS = 3;

/** Where the gathered slots are now: entry i belongs to slot i, ordinal 0 to one that could not be moved. */
export interface NewPlaces {
  readonly ordinals: Uint32Array;
  readonly positions: Uint32Array;
}

export interface RelocationParts {
  readonly end: LogEnd;
  readonly survivors: Survivors;
  readonly checkpointer: Checkpointer;
  readonly writePath: WritePath;
  /** Of the blocks. */
  readonly slots: SlotReader;
}

export class Relocation {
  readonly places: NewPlaces;
  /** Groups of which something cannot be read, and which so cannot be emptied. */
  readonly stuck: Set<number> = new Set<number>();
  /** How many of the gathered slots the disk has left, by ordinal of their group. */
  readonly left: Map<number, number> = new Map<number, number>();
  /** What was gathered: group by group, and of each by the kind of groups that it goes to. */
  private readonly slots: GatheredSlots;
  private readonly kinds: Uint8Array;
  /** Where each of them stands in what was gathered. */
  private readonly order: Uint32Array;
  private readonly plain: Uint8Array;
  private readonly blockBytes: number;
  private readonly chunk: number;
  private next = 0;

  constructor(
    private readonly parts: RelocationParts,
    gathered: GatheredSlots,
    /** Slots are the disk's alone while this is the version of its heads; null where snapshots are. */
    private readonly aloneAt: number | null,
  ) {
    const { blockBytes, geometry } = parts.end.parts.roots.facts;
    const bytes = Math.min(MAX_MOVED_BYTES, groupShareBytes(geometry));
    this.blockBytes = blockBytes;
    this.chunk = Math.max(1, Math.min(MAX_MOVED_SLOTS, Math.floor(bytes / blockBytes)));
    const kinds = this.kindsOf(gathered);
    this.order = byKind(gathered.ordinals, kinds);
    this.kinds = new Uint8Array(gathered.count);
    for (let i = 0; i < gathered.count; i++) this.kinds[i] = kinds[this.order[i]!]!;
    this.slots = reordered(gathered, this.order);
    this.plain = new Uint8Array(Math.min(this.chunk, gathered.count) * blockBytes);
    this.places = {
      ordinals: new Uint32Array(gathered.count),
      positions: new Uint32Array(gathered.count),
    };
  }

  get isDone(): boolean {
    return this.next === this.slots.count;
  }

  /** How much of it is done, from 0 to 1. */
  get doneShare(): number {
    return this.isDone ? 1 : this.next / this.slots.count;
  }

  /** Moves the next chunk. Returns the bytes that were moved. */
  async step(): Promise<number> {
    const first = this.next;
    const survived = this.kinds[first]!;
    const count = this.chunkFrom(first);
    this.next += count;
    const present = await this.present(first, count);
    const read = await this.readAll(present, first);
    if (read.length === 0) return 0;
    const order = Uint32Array.from(read).sort(
      (a, b) => this.slots.blocks[a]! - this.slots.blocks[b]!,
    );
    const { blocks, ordinals, positions } = this.slots;
    const moves: Moves = {
      blocks: Float64Array.from(order, (i) => blocks[i]!),
      old: Uint32Array.from({ length: order.length * 2 }, (_, at) => {
        return (at % 2 === 0 ? ordinals : positions)[order[at >> 1]!]!;
      }),
      slots: order.map((i) => i - first),
      plain: this.plain,
    };
    await this.parts.writePath.exclusively(() => this.commit(moves, order, survived));
    return read.length * this.blockBytes;
  }

  /** Whether nothing but the disk's own map names what was gathered. */
  get isAlone(): boolean {
    return this.aloneAt === this.parts.end.parts.heads.version;
  }

  private kindsOf({ count, ordinals, positions }: GatheredSlots): Uint8Array {
    const { groups, warmth } = this.parts.end.parts;
    const kinds = new Uint8Array(count);
    for (let i = 0; i < count; i++) {
      kinds[i] = warmth.survivedBy(groups.get(ordinals[i]!), positions[i]!);
    }
    return kinds;
  }

  /** How many slots from `first` on are moved at once: they go to groups of one kind. */
  private chunkFrom(first: number): number {
    const most = Math.min(this.chunk, this.slots.count - first);
    let count = 1;
    while (count < most && this.kinds[first + count] === this.kinds[first]) count++;
    return count;
  }

  /** Of `count` slots from `first` on those that are needed still; the others were overwritten. */
  private async present(first: number, count: number): Promise<number[]> {
    const { map } = this.parts.end.parts;
    const { blocks, ordinals, positions } = this.slots;
    const present: number[] = [];
    for (let slot = first; slot < first + count; slot++) {
      const leaf = await map.leaf(blocks[slot]!);
      const entry = leaf && map.peek(blocks[slot]!);
      const isThere = entry?.ordinal === ordinals[slot] && entry?.position === positions[slot];
      if (isThere || !this.isAlone) present.push(slot);
      else this.noteLeft(ordinals[slot]!);
    }
    return present;
  }

  private noteLeft(ordinal: number): void {
    this.left.set(ordinal, (this.left.get(ordinal) ?? 0) + 1);
  }

  /** Marks nodes of the disk's map, so that a checkpoint moves them. */
  async touch(nodes: readonly NodePlace[]): Promise<void> {
    for (let at = 0; at < nodes.length; at += NODES_AT_A_TIME) {
      await this.parts.writePath.exclusively(async () => {
        for (const { level, index, ordinal, position } of nodes.slice(at, at + NODES_AT_A_TIME)) {
          await this.parts.end.parts.map.touch(level, index, ordinal, position);
        }
        await this.parts.checkpointer.whenDue();
      });
    }
  }

  private async commit(moves: Moves, order: Uint32Array, survived: number): Promise<void> {
    const { checkpointer } = this.parts;
    const { frozen } = checkpointer;
    try {
      await this.placeAndTell(moves, order, survived);
    } finally {
      // A checkpoint between may have found groups sealed that hold blocks of which no map knew yet.
      checkpointer.forgetAllBut(frozen);
    }
  }

  private async placeAndTell(moves: Moves, order: Uint32Array, survived: number): Promise<void> {
    const { end, survivors, checkpointer } = this.parts;
    const { log, map } = end.parts;
    const entries = await survivors.place(moves, survived);
    const leaves = new Set(Array.from(moves.blocks, (block) => Math.floor(block / NODE_FANOUT)))
      .size;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const writer = await checkpointer.writerFor(log.recordPieces(entries), leaves);
      const before = writer.address;
      log.appendRecords(writer, entries);
      end.noteLogged(writer.address - before);
      if (!(await end.makeDurable())) continue;
      await map.prepare(moves.blocks, []);
      this.apply(entries, order);
      map.settle();
      return;
    }
    throw new ChunkvolError('io', `the disk failed ${MAX_ATTEMPTS} times while blocks were moved`);
  }

  private apply(entries: readonly MoveEntry[], order: Uint32Array): void {
    const { map } = this.parts.end.parts;
    let next = 0;
    for (const { group, blocks, old, positions } of entries) {
      for (const [i, position] of positions.entries()) {
        const slot = order[next++]!;
        map.move(blocks[i]!, old[i * 2]!, old[i * 2 + 1]!, group.ordinal, position);
        this.places.ordinals[this.order[slot]!] = group.ordinal;
        this.places.positions[this.order[slot]!] = position;
        this.noteLeft(old[i * 2]!);
      }
    }
  }

  /** Reads slots, the first of a chunk at `first`; returns the indexes of those that could be read. */
  private async readAll(wanted: readonly number[], first: number): Promise<number[]> {
    const read: number[] = [];
    for (let at = 0; at < wanted.length;) {
      const slot = wanted[at]!;
      let following = 1;
      while (wanted[at + following] === slot + following) following++;
      const run = this.runFrom(slot, slot + following, first);
      if (await this.tryRead(run)) {
        for (let i = 0; i < run.count; i++) read.push(slot + i);
      } else {
        await this.readOneByOne(slot, run.count, first, read);
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
    const group = this.parts.end.parts.groups.get(ordinals[at]!);
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
      await this.parts.slots.read(run);
      return true;
    } catch (error) {
      if (isChunkvolError(error, 'lost')) return false;
      throw error;
    }
  }
}

/** Indexes of slots that are in order of their groups: those of a group in order of their kinds. */
function byKind(ordinals: Uint32Array, kinds: Uint8Array): Uint32Array {
  const order = new Uint32Array(ordinals.length);
  let done = 0;
  for (let from = 0; from < order.length; from = done) {
    let to = from + 1;
    while (to < order.length && ordinals[to] === ordinals[from]) to++;
    for (let kind = 1; kind <= MAX_SURVIVED; kind++) {
      for (let i = from; i < to; i++) if (kinds[i] === kind) order[done++] = i;
    }
  }
  return order;
}
