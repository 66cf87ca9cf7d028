/**
 * Checkpoints: changed map nodes go to the log, children before parents, and a root names the result.
 *
 * - `checkpoint` leaves the group open; its root needs the open files, and never leaves this machine.
 * - `closeGroup` makes a closed root, puts its replica at the end of the group, unless that would take too
 *   much of it, and seals the group, after those of what collections have moved; the root is published when
 *   the seal is complete.
 * - Where a closed root would cost much beside what was written since the last one, as in small groups
 *   that change the map all over, a full group is sealed without one: the log leads through it.
 *
 * A root is published only when everything that it names is durable. Nodes count as clean from the
 * moment they are durable. All is called under the write path's lock.
 */
import { ChunkvolError, errorMessage } from '../base/errors.js';
import type { LogPoint, Root, RootGroup } from '../format/root.js';
import type { GroupWriter } from '../store/group-writer.js';
import { rootEntry } from '../store/group.js';
import type { SealPlan } from '../store/seal.js';
import type { OpenFiles } from '../store/open-files.js';
import { NODE_SLOT_BYTES, type CachedNode } from './block-map.js';
import { freezeMaps, type Frozen } from './frozen.js';
import {
  groupShareBytes,
  MAX_DIRTY_NODES,
  MAX_NODES_PER_COMMIT,
  MAX_TAIL_BYTES,
  REPLICA_SHARE,
  ROOT_SHARE,
  UNWRITTEN_LIMIT_BYTES,
} from './limits.js';
import type { Pieces } from './log.js';
import type { LogEnd } from './log-end.js';
import type { RootParts } from './roots.js';
import { sealOrCut } from './seal-group.js';
import type { Survivors } from './survivors.js';

/** What a checkpoint may need beside its nodes and its root: headers, bodies, padding. */
const SLACK_BYTES = 64 * 1024;

/** Times that a checkpoint is started again because the disk failed under it. */
const MAX_ATTEMPTS = 3;

interface Closing {
  readonly plan: Omit<SealPlan, 'full'>;
  readonly root: Root;
  readonly bytes: Uint8Array;
}

export class Checkpointer {
  private sealing: Promise<void> = Promise.resolve();
  /** Why the last seal did not come about. */
  private sealFailure: unknown = null;
  /** The open group, once it is clear that it will end without a root. */
  private rootless: GroupWriter | null = null;
  private settled: Frozen | null = null;
  /** Map nodes that one commit may hold: there is room for them in any new group. */
  readonly nodesPerCommit: number;

  constructor(
    private readonly end: LogEnd,
    private readonly openFiles: OpenFiles,
    private readonly survivors: Survivors,
  ) {
    const shareBytes = groupShareBytes(end.parts.roots.facts.geometry);
    this.nodesPerCommit = Math.min(MAX_NODES_PER_COMMIT, Math.floor(shareBytes / NODE_SLOT_BYTES));
  }

  /** Whether commits of these pieces, changing so many leaves, leave room for the closing checkpoint. */
  hasRoom(writer: GroupWriter, pieces: Pieces, leaves: number): boolean {
    const { map, groups } = this.end.parts;
    const nodes = Math.ceil(map.dirtyBound(leaves) * NODE_SLOT_BYTES * 1.05);
    const closing = nodes + this.replicaBound(groups.size) + SLACK_BYTES;
    return writer.endAfter(pieces) + closing <= writer.capacity;
  }

  async whenDue(): Promise<void> {
    const due =
      this.end.tailBytes >= MAX_TAIL_BYTES || this.end.parts.map.dirtyCount >= MAX_DIRTY_NODES;
    if (due) await this.checkpoint();
  }

  /**
   * The open group, with room for a commit of these pieces and, should it end with a root, for the
   * checkpoint that will make it.
   */
  async writerFor(pieces: Pieces, leaves: number): Promise<GroupWriter> {
    const { writer } = this.end;
    if (!writer || (this.rootless !== writer && this.hasRoom(writer, pieces, leaves))) {
      return this.end.writerOrNew();
    }
    if (this.rootless !== writer && this.isRootDue()) {
      await this.closeGroup(true);
      return this.end.writerOrNew();
    }
    this.rootless = writer;
    return writer.fits(pieces) ? writer : this.rollPlain(writer);
  }

  /** Whether a closed root is worth the map nodes that come with it. */
  private isRootDue(): boolean {
    const { map, counters, roots } = this.end.parts;
    const loggedBytes = counters.loggedBytes - (roots.newestClosed?.root.loggedBytes ?? 0);
    const nodeBytes = map.dirtyCount * NODE_SLOT_BYTES;
    return loggedBytes >= MAX_TAIL_BYTES || nodeBytes <= loggedBytes * ROOT_SHARE;
  }

  /** A checkpoint without a seal. */
  async checkpoint(): Promise<void> {
    const { roots } = this.end.parts;
    // When a group had to be replaced the nodes are changed still, and the next checkpoint is due.
    if (!(await this.writeNodes())) return;
    const root = roots.make(this.rootParts(false, this.end.point));
    const failure = await this.publish({ root, bytes: roots.seal(root) });
    if (failure === null) this.end.tailBytes = 0;
  }

  /** The maps as they last stood in the log; null when what was known of the groups then is not certain. */
  get frozen(): Frozen | null {
    return this.settled;
  }

  /** The maps as they stand in the log from now on. */
  async freeze(): Promise<Frozen> {
    await this.settleMap();
    // Whoever walks them sees for itself what was dropped.
    this.end.parts.map.forgetDropped();
    return this.settled ?? this.noteSettled();
  }

  /** What was known of the groups since then is not to be relied on. */
  forgetAllBut(frozen: Frozen | null): void {
    if (this.settled !== frozen) this.settled = null;
  }

  private noteSettled(): Frozen {
    return (this.settled = freezeMaps(this.end.parts, this.end.durable.ordinal));
  }

  /** Brings the whole map to the log, durable: its pointer names all of it then. */
  async settleMap(): Promise<void> {
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) if (await this.writeNodes()) return;
    throw new ChunkvolError(
      'io',
      `the disk failed ${MAX_ATTEMPTS} times while the map was written`,
    );
  }

  /** False: the group that the nodes were placed in failed, and they are changed still. */
  private async writeNodes(): Promise<boolean> {
    const { map } = this.end.parts;
    const { replacements } = this.end;
    const nodes = map.takeDirty();
    if (nodes.length > 0) await this.appendNodes(await this.end.writerOrNew(), nodes);
    await this.end.makeDurable();
    if (this.end.replacements !== replacements) return false;
    this.markClean(nodes);
    return true;
  }

  /** All changed nodes stand in the log, durable. */
  private markClean(nodes: readonly CachedNode[]): void {
    const { map } = this.end.parts;
    map.markClean(nodes);
    this.settled = null;
    if (!map.hasDropped) this.noteSettled();
  }

  /**
   * Ends the open group with a closed root and seals it in the background. `full`: its files are
   * brought to the chunk size. False: the root is not closed, for another group waits to be sealed.
   */
  async closeGroup(full: boolean): Promise<boolean> {
    await this.sealing;
    const failure = await this.survivors.sealAll();
    // Without room for what was moved no root is closed; but a log that is full goes on.
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- the error is handed on as it came
    if (failure !== null && !full) throw failure;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const { replacements } = this.end;
      const nodes = this.end.parts.map.takeDirty();
      const last = nodes.slice(Math.max(0, nodes.length - this.nodesPerCommit));
      const writer = await this.appendNodes(
        await this.end.writerOrNew(),
        nodes.slice(0, nodes.length - last.length),
      );
      const { writer: closed, closing } = await this.appendClosing(writer, last);
      await this.end.makeDurable();
      // What was placed in a group that failed is void: once more, in the one that replaced it.
      if (this.end.replacements !== replacements) continue;
      this.markClean(nodes);
      // While a group waits to be sealed no root is closed, and another one is due.
      this.end.changed = !closing.root.closed;
      this.end.tailBytes = 0;
      this.startSeal(closed, { ...closing.plan, full }, closing);
      return closing.root.closed;
    }
    throw new ChunkvolError('io', `the disk failed ${MAX_ATTEMPTS} times while a root was made`);
  }

  /** Waits for what is under way; nothing may be written after. */
  async stop(): Promise<void> {
    await this.sealing;
    await this.survivors.close();
  }

  /** Waits for the seal under way; throws when it, or the one before, failed and no other came since. */
  async sealed(): Promise<void> {
    await this.sealing;
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- the error is handed on as it came
    if (this.sealFailure !== null) throw this.sealFailure;
  }

  /** Lays out nodes in commits of bounded size, in as many groups as they need. */
  private async appendNodes(
    first: GroupWriter,
    nodes: readonly CachedNode[],
  ): Promise<GroupWriter> {
    const { log } = this.end.parts;
    let writer = first;
    for (let at = 0; at < nodes.length; at += this.nodesPerCommit) {
      const some = nodes.slice(at, at + this.nodesPerCommit);
      // Where the group is replaced on the way, whoever counts replacements writes all nodes once more.
      if (!(await this.end.drain(UNWRITTEN_LIMIT_BYTES))) writer = await this.end.writerOrNew();
      if (!writer.fits(log.checkpointPieces(some, 0))) writer = await this.rollPlain(writer);
      const before = writer.address;
      log.appendNodes(writer, some, this.placer(writer));
      this.end.noteLogged(writer.address - before);
    }
    return writer;
  }

  private async appendClosing(
    present: GroupWriter,
    nodes: readonly CachedNode[],
  ): Promise<{ writer: GroupWriter; closing: Closing }> {
    const { log, roots, groups } = this.end.parts;
    // One group more than now, should the closing commit need a new one.
    const bound = this.replicaBound(groups.size + 1);
    const fits = present.fits(log.checkpointPieces(nodes, bound));
    const writer = fits ? present : await this.rollPlain(present);
    const before = writer.address;
    let root!: Root;
    let bytes!: Uint8Array;
    const makeRoot = (end: LogPoint): Uint8Array => {
      root = roots.make(this.rootParts(true, end, writer));
      bytes = roots.seal(root);
      return bytes;
    };
    const rootBytes = bound > 0 ? roots.measure(this.rootParts(true, this.end.point, writer)) : 0;
    const place = this.placer(writer);
    const { rootAddress } = log.appendNodes(
      writer,
      nodes,
      place,
      rootBytes,
      rootBytes > 0 ? makeRoot : undefined,
    );
    if (rootBytes === 0) makeRoot(this.end.point);
    this.end.noteLogged(writer.address - before);
    const replica = { address: rootAddress, bytes: rootBytes, generation: root.generation };
    const plan = { ...this.sealPlan(), root: rootBytes > 0 ? replica : null };
    return { writer, closing: { plan, root, bytes } };
  }

  /** The most that the replica of a root of so many groups takes; 0: it would be too much of a group. */
  private replicaBound(groupCount: number): number {
    const { roots } = this.end.parts;
    const { data, chunkBytes } = roots.facts.geometry;
    const bound = roots.bound(groupCount);
    return bound <= data * chunkBytes * REPLICA_SHARE ? bound : 0;
  }

  private placer(writer: GroupWriter): (node: CachedNode, position: number) => void {
    return (node, position) => {
      this.end.parts.map.place(node, writer.group.ordinal, position);
    };
  }

  /** Seals the open group as it is, without a root, because more nodes are to come than it can take. */
  private async rollPlain(writer: GroupWriter): Promise<GroupWriter> {
    if (await this.end.makeDurable()) {
      const plan = { ...this.sealPlan(), root: null, full: true };
      await this.sealing;
      this.startSeal(writer, plan, null);
    }
    return this.end.writerOrNew();
  }

  private sealPlan(): Pick<SealPlan, 'end' | 'firstSequence' | 'endSequence' | 'chain'> {
    const { address, sequence, chain } = this.end.point;
    const firstSequence = this.end.writerFirstSequence;
    return { end: address, firstSequence, endSequence: sequence, chain };
  }

  private startSeal(writer: GroupWriter, plan: SealPlan, closing: Closing | null): void {
    this.end.release();
    this.sealing = this.seal(writer, plan, closing);
  }

  private async seal(writer: GroupWriter, plan: SealPlan, closing: Closing | null): Promise<void> {
    const { ordinal } = writer.group;
    this.sealFailure = null;
    let failure = await sealOrCut(
      this.end.parts,
      this.openFiles,
      writer,
      plan,
      cutPoint(plan, ordinal),
    );
    if (closing && failure === null) failure = await this.publish(closing);
    if (failure === null) return;
    this.sealFailure = failure;
    this.end.changed = true;
  }

  /** Returns null, or why it could not be done. */
  private async publish({ root, bytes }: Pick<Closing, 'root' | 'bytes'>): Promise<unknown> {
    const { roots, onNotice } = this.end.parts;
    try {
      await roots.publish(root, bytes);
      return null;
    } catch (error) {
      onNotice(`no new root could be written: ${errorMessage(error)}`);
      return error;
    }
  }

  /** A closed root takes the group that carries it as sealed already. */
  private rootParts(closed: boolean, tail: LogPoint, closing?: GroupWriter): RootParts {
    const { map, groups, counters } = this.end.parts;
    const entries: RootGroup[] = groups.all().map((group) => {
      if (group !== closing?.group) return rootEntry(group);
      return { ...rootEntry(group), state: 'sealed', end: tail.address };
    });
    return {
      closed: closed && entries.every(({ state }) => state === 'sealed'),
      map: map.root,
      tail,
      groups: entries,
      nextOrdinal: this.end.nextOrdinal,
      // A count that was wrong on disk must not keep the next root from being written.
      mappedBlocks: Math.max(0, map.mappedBlocks),
      counters,
    };
  }
}

function cutPoint(plan: SealPlan, ordinal: number): LogPoint {
  return {
    ordinal,
    address: plan.end,
    sequence: plan.endSequence,
    chain: plan.chain,
    durableUpTo: plan.endSequence - 1,
  };
}
