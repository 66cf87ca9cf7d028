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
import { isZero, KIB } from '../base/bytes.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { ChunkvolError, isChunkvolError } from '../base/errors.js';
import { MAX_SURVIVED } from '../format/chunk-header.js';
import { SLOT_KIND, type MoveEntry } from '../format/commit.js';
import { NODE_FANOUT } from '../format/map-node.js';
import type { SlotReader, SlotRun } from '../store/slot-reader.js';
import type { Checkpointer } from './checkpoint.js';
import { reordered, type GatheredSlots, type NodePlace } from './gather.js';
import { groupShareBytes, MAX_MOVED_BYTES, MAX_MOVED_SLOTS } from './limits.js';
import type { LogEnd } from './log-end.js';
import type { Moves, Survivors } from './survivors.js';
import type { VolumeFacts } from './roots.js';
import type { WritePath } from './write-path.js';

/** Nodes that are marked under one hold of the lock. */
const NODES_AT_A_TIME = 256;

/** Between two slots that are read together: to read so much takes less than one more read. */
const MAX_GAP_BYTES: number = 32 * KIB;

/** Times that a commit is made again because the disk failed under it. */
const MAX_ATTEMPTS = 3;

/** Where the gathered slots are now: entry i belongs to slot i, ordinal 0 to one that could not be moved. */
export interface NewPlaces {
  readonly ordinals: Uint32Array;
  readonly positions: Uint32Array;
}

/** Slots that lie one behind the other in what was gathered, and of which the blocks were read. */
interface Chunk {
  readonly first: number;
  readonly count: number;
  readonly survived: number;
  /** Slot i of them is block i here. */
  readonly plain: Uint8Array;
  /** Indexes of those that are needed still and could be read. */
  readonly read: readonly number[];
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
  private readonly blockBytes: number;
  private readonly chunk: number;
  /** The first that has not been read. */
  private next = 0;
  private done = 0;
  private ahead: Promise<Chunk> | null = null;
  /** Chunks that were read. */
  private turns = 0;

  constructor(
    private readonly parts: RelocationParts,
    gathered: GatheredSlots,
    /** For what is being moved, and for what is read meanwhile. */
    private readonly plains: readonly [Uint8Array, Uint8Array],
    /** Slots are the disk's alone while this is the version of its heads; null where snapshots are. */
    private readonly aloneAt: number | null,
  ) {
    this.blockBytes = parts.end.parts.roots.facts.blockBytes;
    this.chunk = plains[0].length / this.blockBytes;
    const kinds = this.kindsOf(gathered);
    this.order = byKind(gathered.ordinals, kinds);
    this.kinds = new Uint8Array(gathered.count);
    for (let i = 0; i < gathered.count; i++) this.kinds[i] = kinds[this.order[i]!]!;
    this.slots = reordered(gathered, this.order);
    this.places = {
      ordinals: new Uint32Array(gathered.count),
      positions: new Uint32Array(gathered.count),
    };
  }

  get isDone(): boolean {
    return this.done === this.slots.count;
  }

  /** How much of it is done, from 0 to 1. */
  get doneShare(): number {
    return this.isDone ? 1 : this.done / this.slots.count;
  }

  /** Moves the next chunk, and reads the one after it meanwhile. Returns the bytes that were moved. */
  async step(): Promise<number> {
    const { first, count, survived, plain, read } = await (this.ahead ?? this.read());
    this.ahead = this.next < this.slots.count ? this.read() : null;
    // Should that fail, the next step tells.
    this.ahead?.catch(() => undefined);
    this.done += count;
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
      plain,
    };
    await this.parts.writePath.exclusively(() => this.commit(moves, order, survived));
    return read.length * this.blockBytes;
  }

  /** Ends what is under way, if the next step is not to come. */
  async stop(): Promise<void> {
    await this.ahead?.catch(() => undefined);
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

  /** Reads the next chunk. */
  private async read(): Promise<Chunk> {
    const first = this.next;
    const count = this.chunkFrom(first);
    this.next += count;
    const plain = this.plains[this.turns++ % 2]!;
    const present = await this.present(first, count);
    const read = await this.readAll(present, first, plain);
    return { first, count, survived: this.kinds[first]!, plain, read };
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
  private async readAll(
    wanted: readonly number[],
    first: number,
    plain: Uint8Array,
  ): Promise<number[]> {
    const read: number[] = [];
    for (let at = 0; at < wanted.length;) {
      const some = wanted.slice(at, at + this.runLength(wanted, at));
      const run = this.runOf(some, first, plain);
      // What is dead between slots may be damaged: nothing is to be rebuilt for that.
      const isWhole = run.count > 1 && isZero(await this.parts.slots.readOrFail(run));
      if (isWhole) read.push(...some);
      else read.push(...(await this.readOneByOne(some, first, plain)));
      at += some.length;
    }
    return read;
  }

  /** How many of the wanted slots, from the one at `at` on, are near each other in one stripe unit. */
  private runLength(wanted: readonly number[], at: number): number {
    const { ordinals } = this.slots;
    const slotBytes = this.blockBytes + SLOT_OVERHEAD_BYTES;
    const ordinal = ordinals[wanted[at]!]!;
    const { unitBytes } = this.parts.end.parts.groups.get(ordinal).geometry;
    const unit = Math.floor(this.addressOf(wanted[at]!) / unitBytes);
    let count = 1;
    for (let end = this.addressOf(wanted[at]!) + slotBytes; at + count < wanted.length; count++) {
      const slot = wanted[at + count]!;
      const address = this.addressOf(slot);
      if (ordinals[slot] !== ordinal || Math.floor(address / unitBytes) !== unit) break;
      if (address - end > MAX_GAP_BYTES) break;
      end = address + slotBytes;
    }
    return count;
  }

  private addressOf(slot: number): number {
    return this.slots.positions[slot]! * 8;
  }

  private async readOneByOne(
    wanted: readonly number[],
    first: number,
    plain: Uint8Array,
  ): Promise<number[]> {
    const read: number[] = [];
    for (const slot of wanted) {
      if (await this.tryRead(this.runOf([slot], first, plain))) read.push(slot);
      else this.stuck.add(this.slots.ordinals[slot]!);
    }
    return read;
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

  private runOf(wanted: readonly number[], first: number, plain: Uint8Array): SlotRun {
    const group = this.parts.end.parts.groups.get(this.slots.ordinals[wanted[0]!]!);
    const address = this.addressOf(wanted[0]!);
    return {
      group,
      key: group.keys.slot,
      address,
      count: wanted.length,
      plainBytes: this.blockBytes,
      kind: SLOT_KIND.block,
      numbers: Float64Array.from(wanted, (slot) => this.slots.blocks[slot]!),
      plain,
      plainAt: Uint32Array.from(wanted, (slot) => (slot - first) * this.blockBytes),
      starts: Uint32Array.from(wanted, (slot) => this.addressOf(slot) - address),
    };
  }
}

/** Memory for what is moved and for what is read at a time, in which other threads can encrypt. */
export function memoryForMoves({ blockBytes, geometry }: VolumeFacts): [Uint8Array, Uint8Array] {
  const most = Math.min(MAX_MOVED_BYTES, groupShareBytes(geometry), MAX_MOVED_SLOTS * blockBytes);
  const bytes = Math.max(1, Math.floor(most / blockBytes)) * blockBytes;
  const memory = new SharedArrayBuffer(2 * bytes);
  return [new Uint8Array(memory, 0, bytes), new Uint8Array(memory, bytes, bytes)];
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
