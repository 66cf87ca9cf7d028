/**
 * The map: a copy-on-write radix tree from block number to log position, paged in as it is used.
 *
 * - A node is known by (level, index); level 0 nodes hold the addresses of blocks. The nodes on disk
 *   never change: a changed node is written to a new place by the next checkpoint, with all nodes above.
 * - Every node above a changed node is changed too, and changed nodes are never evicted. A new node that
 *   no checkpoint has written yet has no address in its parent: the cache is asked before the address.
 * - Changes are made by one caller at a time (the write path holds its lock): `prepare` pages in, then
 *   `set` and `clear` work at once. Reads may come at any time between.
 */
import { isChunkvolError } from '../base/errors.js';
import { NODE_BYTES, NODE_FANOUT, type MapNode } from '../format/map-node.js';
import type { MapPointer } from '../format/snapshot.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { MAX_CACHED_NODES } from './limits.js';
import type { Range } from './ranges.js';

export const NODE_SLOT_BYTES: number = NODE_BYTES + SLOT_OVERHEAD_BYTES;

/** Reads a node from the log. */
export type ReadNode = (
  ordinal: number,
  position: number,
  level: number,
  index: number,
) => Promise<MapNode>;

/** Tells that a slot of `bytes` is referred to (positive) or no longer, by this map (negative). */
export type Account = (ordinal: number, position: number, bytes: number) => void;

export interface CachedNode {
  readonly level: number;
  readonly index: number;
  readonly words: MapNode;
  dirty: boolean;
  /** Address of the version on disk, 0 / 0 when there is none. */
  ordinal: number;
  position: number;
  /** Used since the last sweep of the cache. */
  recent: boolean;
}

/** A subtree that fell out of the map without being looked at. */
interface Dropped {
  readonly ordinal: number;
  readonly position: number;
  readonly level: number;
  readonly index: number;
}

const LEVEL_STRIDE = 2 ** 44;

export class BlockMap {
  private readonly nodes = new Map<number, CachedNode>();
  private readonly loading = new Map<number, Promise<CachedNode | null | undefined>>();
  private dirtyNodes = 0;
  /** Counts removals of subtrees: a load that overlaps one must start again. */
  private removals = 0;
  /** Between `prepare` and `settle` nothing is evicted: a change must find its whole path. */
  private pinned = false;
  private dropped: Dropped[] = [];
  /** Blocks that the map holds: exact but for subtrees dropped and not yet counted. */
  mappedBlocks: number;

  constructor(
    private pointer: MapPointer,
    mappedBlocks: number,
    private readonly blockSlotBytes: number,
    private readonly readNode: ReadNode,
    private readonly account: Account,
    /** Nodes kept in memory, changed ones included. */
    private readonly maxCachedNodes: number = MAX_CACHED_NODES,
  ) {
    this.mappedBlocks = mappedBlocks;
  }

  get depth(): number {
    return this.pointer.depth;
  }

  get dirtyCount(): number {
    return this.dirtyNodes;
  }

  /** The address of a block at once, when its node is in memory: undefined when it is not. */
  peek(block: number): { ordinal: number; position: number } | null | undefined {
    const leaf = this.nodes.get(keyOf(0, Math.floor(block / NODE_FANOUT)));
    if (!leaf) return undefined;
    leaf.recent = true;
    return entryOf(leaf, block % NODE_FANOUT);
  }

  /** The leaf that covers a block; null when nothing is mapped there. */
  async leaf(block: number): Promise<CachedNode | null> {
    const index = Math.floor(block / NODE_FANOUT);
    const cached = this.nodes.get(keyOf(0, index));
    if (cached) {
      cached.recent = true;
      return cached;
    }
    const loaded = await this.load(0, index);
    this.evict();
    return loaded;
  }

  /**
   * Pages in all that changing these blocks (ascending) and clearing these ranges will touch, and keeps
   * it there until `settle`. Returns how many leaves that is at most.
   */
  async prepare(blocks: Float64Array, holes: readonly Range[]): Promise<number> {
    this.pinned = true;
    const missing: number[] = [];
    let count = 0;
    let last = -1;
    const visit = (block: number): void => {
      const leaf = Math.floor(block / NODE_FANOUT);
      if (leaf === last) return;
      last = leaf;
      count++;
      if (!this.hasPath(leaf)) missing.push(leaf);
    };
    for (const block of blocks) visit(block);
    for (const { start, end } of holes) {
      visit(start);
      visit(end - 1);
    }
    for (const leaf of missing) await this.loadPathTo(0, leaf);
    return count;
  }

  /** Another tree takes the place of this one, changes of which are forgotten. */
  reset(pointer: MapPointer, mappedBlocks: number): void {
    this.pointer = pointer;
    this.mappedBlocks = mappedBlocks;
    this.nodes.clear();
    this.dirtyNodes = 0;
    this.dropped = [];
    this.removals++;
  }

  /** Makes the tree at least as deep as `depth`, with new nodes above its top. */
  deepen(depth: number): void {
    while (this.depth < depth) this.addLevel();
  }

  /** Of a tree without changes: the pointer of its first part, which is only `depth` deep. */
  async pointerOf(depth: number): Promise<MapPointer> {
    let entry: { ordinal: number; position: number } | null = this.pointer;
    for (let level = this.depth - 1; level >= depth && entry; level--) {
      const node: CachedNode | null = await this.load(level, 0);
      entry = node && entryOf(node, 0);
    }
    return { depth, ordinal: entry?.ordinal ?? 0, position: entry?.position ?? 0 };
  }

  /** Marks a node as changed, so that the next checkpoint moves it, if it stands at this address still. */
  async touch(level: number, index: number, ordinal: number, position: number): Promise<void> {
    this.pinned = true;
    try {
      if (level >= this.depth) return;
      await this.loadPathTo(level, index);
      const node = this.nodes.get(keyOf(level, index));
      if (node?.ordinal === ordinal && node.position === position) this.change(level, index);
    } finally {
      this.settle();
    }
  }

  /** The first mapped block of [from, end); null when there is none. */
  async firstMapped(from: number, end: number): Promise<number | null> {
    for (let at = await this.nextLeafStart(from, end); at < end;) {
      const leaf = await this.leaf(at);
      const stop = Math.min(end, (Math.floor(at / NODE_FANOUT) + 1) * NODE_FANOUT);
      for (; leaf && at < stop; at++) if (entryOf(leaf, at % NODE_FANOUT)) return at;
      at = await this.nextLeafStart(stop, end);
    }
    return null;
  }

  /** The last mapped block before `end`; null when there is none. */
  lastMapped(end: number): Promise<number | null> {
    return this.lastBelow(this.depth - 1, 0, end);
  }

  /** Changes that were prepared are made, or given up. */
  settle(): void {
    this.pinned = false;
    this.evict();
  }

  /**
   * Points a block to a slot. Its path must have been prepared. Returns the group in which it stood before,
   * 0 if in none.
   */
  set(block: number, ordinal: number, position: number): number {
    const leaf = this.change(0, Math.floor(block / NODE_FANOUT));
    const at = (block % NODE_FANOUT) * 2;
    const before = leaf.words[at]!;
    if (before === 0) this.mappedBlocks++;
    else this.account(before, leaf.words[at + 1]!, -this.blockSlotBytes);
    leaf.words[at] = ordinal;
    leaf.words[at + 1] = position;
    this.account(ordinal, position, this.blockSlotBytes);
    return before;
  }

  /** Points a block to another slot if it still points to the old one. Its path must have been prepared. */
  move(
    block: number,
    oldOrdinal: number,
    oldPosition: number,
    ordinal: number,
    position: number,
  ): void {
    const entry = this.peek(block);
    if (entry?.ordinal !== oldOrdinal || entry.position !== oldPosition) return;
    this.set(block, ordinal, position);
  }

  /** Unmaps a range of blocks, whose two ends must have been prepared. */
  clear({ start, end }: Range): void {
    this.clearBelow(this.depth - 1, 0, start, end);
  }

  /**
   * Changed nodes in the order in which they must be written: children before parents. Nodes that hold
   * nothing any more leave the map instead.
   */
  takeDirty(): CachedNode[] {
    const dirty = [...this.nodes.values()].filter((node) => node.dirty);
    dirty.sort((a, b) => a.level - b.level || a.index - b.index);
    const hasChildren = new Set<number>();
    return dirty.filter((node) => {
      const filled = hasChildren.has(keyOf(node.level, node.index)) || !isEmpty(node.words);
      if (filled) hasChildren.add(keyOf(node.level + 1, Math.floor(node.index / NODE_FANOUT)));
      else this.discardEmpty(node);
      return filled;
    });
  }

  /** A changed node now stands in the log: its parent, or the map's pointer, names the new place. */
  place(node: CachedNode, ordinal: number, position: number): void {
    this.accountDead(node);
    this.account(ordinal, position, NODE_SLOT_BYTES);
    node.ordinal = ordinal;
    node.position = position;
    this.link(node, ordinal, position);
  }

  /** The nodes of a checkpoint are durable. */
  markClean(nodes: readonly CachedNode[]): void {
    for (const node of nodes) if (node.dirty) this.dirtyNodes--;
    for (const node of nodes) node.dirty = false;
    this.evict();
  }

  /** The pointer of the tree, right after a checkpoint has placed its nodes. */
  get root(): MapPointer {
    return this.pointer;
  }

  /** Changed nodes that there can be at most after changes in `leaves` leaves. */
  dirtyBound(leaves: number): number {
    return this.dirtyNodes + leaves * this.depth;
  }

  /** Counts subtrees that were dropped unseen, up to `limit` nodes. */
  async settleDropped(limit: number): Promise<void> {
    for (let left = limit; left > 0; left--) {
      const subtree = this.dropped.pop();
      if (!subtree) return;
      const { ordinal, position, level, index } = subtree;
      const words = await this.readNode(ordinal, position, level, index).catch(() => null);
      this.account(ordinal, position, -NODE_SLOT_BYTES);
      if (words) this.forgetEntries(words, level, index);
    }
  }

  /** Whether subtrees were dropped unseen that nobody has counted yet. */
  get hasDropped(): boolean {
    return this.dropped.length > 0;
  }

  /** What was dropped unseen is counted by somebody else. */
  forgetDropped(): void {
    this.dropped = [];
  }

  /**
   * Every mapped block with its address, in ascending order; the map may change meanwhile. `onLost` is told
   * the first of the blocks, and how many, of which a node that cannot be read may say something.
   */
  async *entries(
    onLost: (block: number, count: number) => void,
  ): AsyncGenerator<{ block: number; ordinal: number; position: number }> {
    for await (const leaf of this.leaves(this.depth - 1, 0, onLost)) {
      for (let slot = 0; slot < NODE_FANOUT; slot++) {
        const entry = entryOf(leaf, slot);
        if (entry) yield { block: leaf.index * NODE_FANOUT + slot, ...entry };
      }
    }
  }

  /** The first block at or behind `block` in a leaf that exists; `end` when there is none before it. */
  async nextLeafStart(block: number, end: number): Promise<number> {
    for (let at = block; at < end;) {
      const missing = await this.missingSpan(at);
      if (missing === 0) return at;
      at = missing;
    }
    return end;
  }

  /** 0 when the leaf of `block` exists, else the first block behind the subtree that does not. */
  private async missingSpan(block: number): Promise<number> {
    for (let level = this.depth - 1; level >= 0; level--) {
      const span = NODE_FANOUT ** (level + 1);
      const index = Math.floor(block / span);
      const node = this.nodes.get(keyOf(level, index)) ?? (await this.load(level, index));
      if (!node) return (index + 1) * span;
    }
    return 0;
  }

  private async lastBelow(level: number, index: number, end: number): Promise<number | null> {
    const node = await this.load(level, index);
    const span = NODE_FANOUT ** level;
    const first = index * NODE_FANOUT * span;
    const slots = Math.min(NODE_FANOUT, Math.ceil((end - first) / span));
    for (let slot = slots - 1; node && slot >= 0; slot--) {
      const child = index * NODE_FANOUT + slot;
      if (level > 0) {
        const found = await this.lastBelow(level - 1, child, end);
        if (found !== null) return found;
      } else if (entryOf(node, slot)) {
        return child;
      }
    }
    return null;
  }

  private async *leaves(
    level: number,
    index: number,
    onLost: (block: number, count: number) => void,
  ): AsyncGenerator<CachedNode> {
    const node = await this.load(level, index).catch((error: unknown) => {
      if (!isChunkvolError(error, 'lost', 'damaged')) throw error;
      const count = NODE_FANOUT ** (level + 1);
      onLost(index * count, count);
      return null;
    });
    if (!node) return;
    if (level === 0) {
      yield node;
      this.evict();
      return;
    }
    for (let slot = 0; slot < NODE_FANOUT; slot++) {
      yield* this.leaves(level - 1, index * NODE_FANOUT + slot, onLost);
    }
  }

  /** Whether a leaf and every node above it are in memory. */
  private hasPath(leaf: number): boolean {
    for (let level = 0, index = leaf; level < this.depth; level++) {
      if (!this.nodes.has(keyOf(level, index))) return false;
      index = Math.floor(index / NODE_FANOUT);
    }
    return true;
  }

  /** A node and every one above it, as far as they exist. */
  private async loadPathTo(lowest: number, index: number): Promise<void> {
    for (let level = this.depth - 1; level >= lowest; level--) {
      const above = Math.floor(index / NODE_FANOUT ** (level - lowest));
      if (!(await this.load(level, above))) return;
    }
  }

  private addLevel(): void {
    const { depth, ordinal, position } = this.pointer;
    const wasEmpty = ordinal === 0 && !this.nodes.has(keyOf(depth - 1, 0));
    this.pointer = { depth: depth + 1, ordinal: 0, position: 0 };
    if (wasEmpty) return;
    const top = this.change(depth, 0);
    top.words[0] = ordinal;
    top.words[1] = position;
  }

  /** The node, from the cache or from the log; null when the map has none there. */
  private async load(level: number, index: number): Promise<CachedNode | null> {
    const key = keyOf(level, index);
    for (;;) {
      const cached = this.nodes.get(key);
      if (cached) return cached;
      let pending = this.loading.get(key);
      if (!pending) {
        pending = this.loadOnce(level, index).finally(() => this.loading.delete(key));
        this.loading.set(key, pending);
      }
      const node = await pending;
      if (node !== undefined) return node;
    }
  }

  /** One attempt; undefined when a removal came between: whoever waits must start again. */
  private async loadOnce(level: number, index: number): Promise<CachedNode | null | undefined> {
    const address = await this.addressOf(level, index);
    if (!address) return null;
    const removals = this.removals;
    const words = await this.readNode(address.ordinal, address.position, level, index);
    if (removals !== this.removals) return undefined;
    const cached = this.nodes.get(keyOf(level, index));
    if (cached) return cached;
    const node: CachedNode = { level, index, words, dirty: false, recent: true, ...address };
    this.nodes.set(keyOf(level, index), node);
    return node;
  }

  private async addressOf(
    level: number,
    index: number,
  ): Promise<{ ordinal: number; position: number } | null> {
    if (level === this.depth - 1) return index === 0 && this.pointer.ordinal ? this.pointer : null;
    const parent = await this.load(level + 1, Math.floor(index / NODE_FANOUT));
    return parent && entryOf(parent, index % NODE_FANOUT);
  }

  /** The node for changing: created when absent; it and all above it are marked. */
  private change(level: number, index: number): CachedNode {
    const key = keyOf(level, index);
    let node = this.nodes.get(key);
    if (!node) {
      node = {
        level,
        index,
        words: new Uint32Array(NODE_FANOUT * 2),
        dirty: false,
        recent: true,
        ordinal: 0,
        position: 0,
      };
      this.nodes.set(key, node);
    }
    if (!node.dirty) {
      if (level < this.depth - 1) this.change(level + 1, Math.floor(index / NODE_FANOUT));
      node.dirty = true;
      this.dirtyNodes++;
    }
    return node;
  }

  private link(node: CachedNode, ordinal: number, position: number): void {
    if (node.level === this.depth - 1) {
      this.pointer = { depth: this.depth, ordinal, position };
      return;
    }
    const parent = this.nodes.get(keyOf(node.level + 1, Math.floor(node.index / NODE_FANOUT)))!;
    const at = (node.index % NODE_FANOUT) * 2;
    parent.words[at] = ordinal;
    parent.words[at + 1] = position;
  }

  /** Removes a changed node without content; its parent is changed too, and in the cache. */
  private discardEmpty(node: CachedNode): void {
    this.accountDead(node);
    this.link(node, 0, 0);
    this.nodes.delete(keyOf(node.level, node.index));
    this.dirtyNodes--;
    this.removals++;
  }

  private clearBelow(level: number, index: number, start: number, end: number): void {
    const span = NODE_FANOUT ** level;
    const first = index * NODE_FANOUT * span;
    const from = Math.max(0, Math.floor((start - first) / span));
    const to = Math.min(NODE_FANOUT, Math.ceil((end - first) / span));
    const node = this.nodes.get(keyOf(level, index));
    if (!node) return;
    for (let slot = from; slot < to; slot++) {
      const childStart = first + slot * span;
      const whole = start <= childStart && end >= childStart + span;
      if (!whole) this.clearBelow(level - 1, index * NODE_FANOUT + slot, start, end);
      else if (level === 0) this.clearEntry(node, slot);
      else this.dropChild(node, slot);
    }
  }

  private clearEntry(leaf: CachedNode, slot: number): void {
    const ordinal = leaf.words[slot * 2]!;
    if (ordinal === 0) return;
    this.change(0, leaf.index);
    this.account(ordinal, leaf.words[slot * 2 + 1]!, -this.blockSlotBytes);
    this.mappedBlocks--;
    leaf.words[slot * 2] = 0;
    leaf.words[slot * 2 + 1] = 0;
  }

  /** Cuts a whole subtree off: what is in memory is counted now, the rest by `settleDropped`. */
  private dropChild(parent: CachedNode, slot: number): void {
    const level = parent.level - 1;
    const index = parent.index * NODE_FANOUT + slot;
    const entry = entryOf(parent, slot);
    const child = this.nodes.get(keyOf(level, index));
    if (!entry && !child) return;
    this.change(parent.level, parent.index);
    this.removals++;
    if (child) this.forgetNode(child);
    else if (entry) this.dropped.push({ ...entry, level, index });
    parent.words[slot * 2] = 0;
    parent.words[slot * 2 + 1] = 0;
  }

  /** The version of a node on disk is this map's no more. */
  private accountDead({ ordinal, position }: CachedNode): void {
    if (ordinal !== 0) this.account(ordinal, position, -NODE_SLOT_BYTES);
  }

  private forgetNode(node: CachedNode): void {
    this.accountDead(node);
    this.nodes.delete(keyOf(node.level, node.index));
    if (node.dirty) this.dirtyNodes--;
    if (node.level > 0) {
      for (let slot = 0; slot < NODE_FANOUT; slot++) {
        const child = this.nodes.get(keyOf(node.level - 1, node.index * NODE_FANOUT + slot));
        if (!child) continue;
        this.forgetNode(child);
        node.words[slot * 2] = 0;
      }
    }
    this.forgetEntries(node.words, node.level, node.index);
  }

  /** What the entries of a dropped node named is no longer referred to. */
  private forgetEntries(words: MapNode, level: number, index: number): void {
    for (let slot = 0; slot < NODE_FANOUT; slot++) {
      const ordinal = words[slot * 2]!;
      const position = words[slot * 2 + 1]!;
      if (ordinal === 0) continue;
      if (level === 0) {
        this.account(ordinal, position, -this.blockSlotBytes);
        this.mappedBlocks--;
      } else {
        this.dropped.push({
          ordinal,
          position,
          level: level - 1,
          index: index * NODE_FANOUT + slot,
        });
      }
    }
  }

  /** Second chance: nodes not used since the last sweep go first; changed ones stay. */
  private evict(): void {
    if (this.pinned || this.nodes.size <= this.maxCachedNodes) return;
    const target = this.maxCachedNodes - this.maxCachedNodes / 8;
    for (const [key, node] of this.nodes) {
      if (this.nodes.size <= target) return;
      if (node.dirty) continue;
      if (node.recent) node.recent = false;
      else this.nodes.delete(key);
    }
  }
}

export function entryOf(
  node: { readonly words: MapNode },
  slot: number,
): { ordinal: number; position: number } | null {
  const ordinal = node.words[slot * 2]!;
  return ordinal === 0 ? null : { ordinal, position: node.words[slot * 2 + 1]! };
}

function keyOf(level: number, index: number): number {
  return level * LEVEL_STRIDE + index;
}

function isEmpty(words: MapNode): boolean {
  for (let at = 0; at < words.length; at += 2) if (words[at] !== 0) return false;
  return true;
}
