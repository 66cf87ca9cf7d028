/**
 * The log: commits, laid out at the end of the open group.
 *
 * Laying out is synchronous: header, body, slots and padding are encrypted into the group's row buffers
 * in one go, so that no two commits ever interleave. Bringing them to the disk is the group writer's.
 *
 * Each commit has a salt of its own for all its nonces, from 32 bytes that the kernel gave for it; so has
 * each lot of blocks that is placed in a group beside the log.
 */
import { ChunkvolError } from '../base/errors.js';
import { SALT_BYTES, SLOT_OVERHEAD_BYTES, type SlotBatch, type SlotKey } from '../crypto/engine.js';
import {
  COMMIT_HEADER_PLAIN_BYTES,
  encodeCommitBody,
  encodeCommitHeader,
  nodeSlotKind,
  ROOT_PIECE_BYTES,
  SLOT_KIND,
  type CommitEntry,
  type MoveEntry,
  type StateEntry,
} from '../format/commit.js';
import { encodeMapNode, NODE_BYTES } from '../format/map-node.js';
import { sha256, type LogPoint } from '../format/root.js';
import type { StoreContext } from '../store/context.js';
import type { GroupWriter, Run } from '../store/group-writer.js';
import type { CachedNode } from './block-map.js';
import type { Batch } from './staging.js';

export const COMMIT_HEADER_BYTES: number = COMMIT_HEADER_PLAIN_BYTES + SLOT_OVERHEAD_BYTES;

/** Sizes of the pieces of a commit, in order: what GroupWriter.endAfter takes. */
export type Pieces = { readonly bytes: number; readonly count: number }[];

/** The most slots that stand in one stripe unit, and so in one call of the engine. */
const MAX_RUN = 1024;

export class Log {
  private readonly batch: SlotBatch;
  private readonly salted = new Uint8Array(SALT_BYTES);
  /** Of batches that were looked at: asked for again when they are laid out. */
  private readonly bodies = new WeakMap<Batch, Uint8Array>();

  constructor(
    private readonly context: StoreContext,
    private readonly blockBytes: number,
    /** The end of the log: where the next commit goes. Its ordinal names the group it ends in. */
    private end: LogPoint,
  ) {
    const nothing = new Uint8Array(0);
    this.batch = {
      count: 0,
      plainBytes: 0,
      plain: nothing,
      plainAt: new Uint32Array(MAX_RUN),
      slots: nothing,
      slotAt: new Uint32Array(MAX_RUN),
      positions: new Uint32Array(MAX_RUN),
      numbers: new Float64Array(MAX_RUN),
      kind: 0,
    };
  }

  get point(): LogPoint {
    return this.end;
  }

  /** Everything before `sequence` is durable: later commits and groups say so. */
  setDurable(durableUpTo: number): void {
    this.end = { ...this.end, durableUpTo };
  }

  /** Goes back to an earlier point: what came after it is given up with its group. */
  reset(point: LogPoint): void {
    this.end = point;
  }

  /** The log goes on in a new, empty group. */
  enter(ordinal: number): void {
    this.end = { ...this.end, ordinal, address: 0 };
  }

  batchPieces(batch: Batch): Pieces {
    return pieces(this.bodyOf(batch).length, batch.blocks.length, this.blockBytes, 0);
  }

  private bodyOf(batch: Batch): Uint8Array {
    const known = this.bodies.get(batch);
    if (known) return known;
    const body = encodeCommitBody(batchEntries(batch));
    this.bodies.set(batch, body);
    return body;
  }

  /** Lays a batch out; returns the position of each block's slot. */
  appendBatch(writer: GroupWriter, batch: Batch, arena: Uint8Array): Uint32Array {
    const sizes = this.batchPieces(batch);
    const salt = this.begin(writer, this.bodyOf(batch), sizes, batch.blocks.length, 0);
    const positions = this.appendBlocks(writer, batch, arena, salt);
    this.finish(writer);
    return positions;
  }

  private appendBlocks(
    writer: GroupWriter,
    { blocks, slots }: Pick<Batch, 'blocks' | 'slots'>,
    arena: Uint8Array,
    salt: Uint8Array,
  ): Uint32Array {
    const count = blocks.length;
    const isForWorkers =
      count * this.blockBytes >= (this.context.workers?.worthBytes.seal ?? Infinity);
    const positions = new Uint32Array(count);
    for (let done = 0; done < count;) {
      const run = this.allocate(writer, this.blockBytes, count - done);
      const { plainAt, numbers } = this.batch;
      for (let i = 0; i < run.count; i++) {
        plainAt[i] = slots[done + i]! * this.blockBytes;
        numbers[i] = blocks[done + i]!;
        positions[done + i] = this.batch.positions[i]!;
      }
      if (isForWorkers) {
        this.describe(arena, SLOT_KIND.block, salt);
        writer.seal(run, this.batch, this.salted);
      } else {
        this.seal(writer.group.keys.slot, arena, SLOT_KIND.block, salt);
      }
      done += run.count;
    }
    return positions;
  }

  recordPieces(entries: readonly (StateEntry | MoveEntry)[]): Pieces {
    return pieces(encodeCommitBody(entries).length, 0, 0, 0);
  }

  /**
   * Lays out what has no slots of its own: what changes the disk as a whole, and moves. The maps and the
   * slots that it names must be durable.
   */
  appendRecords(writer: GroupWriter, entries: readonly (StateEntry | MoveEntry)[]): void {
    const body = encodeCommitBody(entries);
    this.begin(writer, body, pieces(body.length, 0, 0, 0), 0, 0);
    this.finish(writer);
  }

  /** Lays blocks out in a group that is none of the log; returns the position of each. */
  placeBlocks(
    writer: GroupWriter,
    blocks: Pick<Batch, 'blocks' | 'slots'>,
    plain: Uint8Array,
  ): Uint32Array {
    const positions = this.appendBlocks(writer, blocks, plain, this.drawSalt());
    writer.endCommit();
    return positions;
  }

  checkpointPieces(nodes: readonly CachedNode[], rootBytes: number): Pieces {
    const bodyBytes = encodeCommitBody(nodeEntries(nodes)).length;
    return pieces(bodyBytes, nodes.length, NODE_BYTES, rootBytes);
  }

  /**
   * Lays out map nodes, children before parents, calling `placed` with the position of each before the
   * next is read: that is what brings a child's place into its parent.
   */
  appendNodes(
    writer: GroupWriter,
    nodes: readonly CachedNode[],
    placed: (node: CachedNode, position: number) => void,
    rootBytes = 0,
    makeRoot?: (end: LogPoint) => Uint8Array,
  ): { rootAddress: number } {
    const plain = new Uint8Array(NODE_BYTES);
    const body = encodeCommitBody(nodeEntries(nodes));
    const sizes = pieces(body.length, nodes.length, NODE_BYTES, rootBytes);
    const endAddress = writer.endAfter(sizes);
    const salt = this.begin(writer, body, sizes, nodes.length, rootBytes);
    for (const node of nodes) {
      this.allocate(writer, NODE_BYTES, 1);
      encodeMapNode(node.words, plain);
      this.batch.numbers[0] = node.index;
      this.batch.plainAt[0] = 0;
      this.seal(writer.group.keys.slot, plain, nodeSlotKind(node.level), salt);
      placed(node, this.batch.positions[0]!);
    }
    let rootAddress = 0;
    if (makeRoot) {
      const root = makeRoot({ ...this.end, address: endAddress });
      if (root.length !== rootBytes) throw new RangeError('a root of another size than announced');
      rootAddress = this.appendRoot(writer, root, salt);
    }
    this.finish(writer);
    if (this.end.address !== endAddress) {
      throw new ChunkvolError('internal', 'a commit ended where it was not expected to');
    }
    return { rootAddress };
  }

  private appendRoot(writer: GroupWriter, root: Uint8Array, salt: Uint8Array): number {
    let first = 0;
    for (let at = 0, index = 0; at < root.length; at += ROOT_PIECE_BYTES, index++) {
      const piece = root.subarray(at, at + ROOT_PIECE_BYTES);
      const plain = new Uint8Array(rootPieceBytes(piece.length));
      plain.set(piece);
      const run = this.allocate(writer, plain.length, 1);
      if (index === 0) first = run.address;
      this.batch.numbers[0] = index;
      this.batch.plainAt[0] = 0;
      this.seal(writer.group.keys.rootReplica, plain, SLOT_KIND.root, salt);
    }
    return first;
  }

  /**
   * Header and body of the next commit, of these pieces in all; the log's end moves behind it, but for the
   * address. Throws 'internal', with nothing changed, when it does not fit into the group as a whole: behind
   * half a commit the log could not go on.
   */
  private begin(
    writer: GroupWriter,
    body: Uint8Array,
    sizes: Pieces,
    slotCount: number,
    rootBytes: number,
  ): Uint8Array {
    if (!writer.fits(sizes)) {
      throw new ChunkvolError('internal', 'a commit is larger than the room for it in its group');
    }
    const salt = this.drawSalt();
    const { sequence, chain, durableUpTo } = this.end;
    const header = encodeCommitHeader({
      sequence,
      previousChain: chain,
      durableUpTo,
      timeMs: this.context.clock.now(),
      bodyBytes: body.length,
      slotCount,
      rootBytes,
    });
    const record = writer.group.keys.record;
    const sealedHeader = this.sealRecord(writer, record, header, SLOT_KIND.commitHeader, 0, salt);
    const sealedBody =
      body.length === 0
        ? body
        : this.sealRecord(writer, record, body, SLOT_KIND.commitBody, sequence, salt);
    this.end = {
      ...this.end,
      sequence: sequence + 1,
      chain: sha256(chain, sealedHeader, sealedBody),
    };
    return salt;
  }

  private drawSalt(): Uint8Array {
    return sha256(this.context.random.bytes(32)).slice(0, SALT_BYTES);
  }

  private finish(writer: GroupWriter): void {
    writer.endCommit();
    this.end = { ...this.end, ordinal: writer.group.ordinal, address: writer.address };
  }

  private sealRecord(
    writer: GroupWriter,
    key: SlotKey,
    plain: Uint8Array,
    kind: number,
    number: number,
    salt: Uint8Array,
  ): Uint8Array {
    const run = this.allocate(writer, plain.length, 1);
    this.batch.numbers[0] = number;
    this.batch.plainAt[0] = 0;
    this.seal(key, plain, kind, salt);
    // A row that the next piece completes is written and reused: the chain needs its own copy.
    return run.buffer.slice(run.offset, run.offset + plain.length + SLOT_OVERHEAD_BYTES);
  }

  /** Takes room for up to `count` slots of `plainBytes` and describes it in `batch`. */
  private allocate(writer: GroupWriter, plainBytes: number, count: number): Run {
    const slotBytes = plainBytes + SLOT_OVERHEAD_BYTES;
    const run = writer.allocate(slotBytes, Math.min(count, MAX_RUN));
    const { batch } = this;
    batch.count = run.count;
    batch.plainBytes = plainBytes;
    batch.slots = run.buffer;
    for (let i = 0; i < run.count; i++) {
      batch.slotAt[i] = run.offset + i * slotBytes;
      batch.positions[i] = (run.address + i * slotBytes) / 8;
    }
    return run;
  }

  private seal(key: SlotKey, plain: Uint8Array, kind: number, salt: Uint8Array): void {
    this.describe(plain, kind, salt);
    this.context.engine.sealSlots(key, this.batch, this.salted);
  }

  private describe(plain: Uint8Array, kind: number, salt: Uint8Array): void {
    this.batch.plain = plain;
    this.batch.kind = kind;
    this.salted.set(salt);
  }
}

function batchEntries(batch: Batch): CommitEntry[] {
  const entries: CommitEntry[] = batch.holes.map(({ start, end }) => ({
    kind: 'hole',
    number: start,
    count: end - start,
  }));
  forEachRun(batch.blocks, (number, count) => entries.push({ kind: 'write', number, count }));
  return entries;
}

function nodeEntries(nodes: readonly CachedNode[]): CommitEntry[] {
  return nodes.map(({ level, index }) => ({ kind: 'node', level, number: index, count: 1 }));
}

/** Calls `visit` for every run of consecutive numbers. */
function forEachRun(numbers: Float64Array, visit: (first: number, count: number) => void): void {
  for (let start = 0; start < numbers.length;) {
    let end = start + 1;
    while (end < numbers.length && numbers[end] === numbers[end - 1]! + 1) end++;
    visit(numbers[start]!, end - start);
    start = end;
  }
}

function pieces(bodyBytes: number, slots: number, plainBytes: number, rootBytes: number): Pieces {
  const list: Pieces = [{ bytes: COMMIT_HEADER_BYTES, count: 1 }];
  if (bodyBytes > 0) list.push({ bytes: bodyBytes + SLOT_OVERHEAD_BYTES, count: 1 });
  if (slots > 0) list.push({ bytes: plainBytes + SLOT_OVERHEAD_BYTES, count: slots });
  for (let at = 0; at < rootBytes; at += ROOT_PIECE_BYTES) {
    const piece = Math.min(ROOT_PIECE_BYTES, rootBytes - at);
    list.push({ bytes: rootPieceBytes(piece) + SLOT_OVERHEAD_BYTES, count: 1 });
  }
  return list;
}

/** The plaintext of a root's piece is padded with zeros to whole words. */
function rootPieceBytes(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

/** The pieces of a commit as its header announces them. */
export function announcedPieces(
  header: { readonly bodyBytes: number; readonly slotCount: number; readonly rootBytes: number },
  plainBytes: number,
): Pieces {
  return pieces(header.bodyBytes, header.slotCount, plainBytes, header.rootBytes);
}
