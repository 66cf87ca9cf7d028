/**
 * Walks several maps at once: that of the disk and those of its snapshots, which share most of their
 * nodes. Each version of a node is read once, however many trees have it, and a slot that several
 * versions of a leaf name is seen once: a slot belongs to one block number, so they name it in one place.
 *
 * The trees are as they stand in the log: nothing of them changes during a walk.
 */
import { ChunkvolError } from '../base/errors.js';
import { NODE_FANOUT, type MapNode } from '../format/map-node.js';
import type { MapPointer } from '../format/snapshot.js';
import type { ReadNode } from './block-map.js';

/** Nodes that are read ahead. */
const READ_AHEAD = 16;

/** A node as one or several of the trees have it. */
export interface Version {
  readonly ordinal: number;
  readonly position: number;
  /** Which trees, by index, ascending. */
  readonly trees: readonly number[];
}

export interface LoadedVersion extends Version {
  readonly words: MapNode;
}

export interface Visitor {
  /** Whether anything below these versions of one node is of interest; yes where it is not given. */
  enter?(versions: readonly Version[], level: number): boolean;
  /** A node, before what is below it. */
  node?(versions: readonly LoadedVersion[], level: number, index: number): void;
  /** A leaf, after `node`. */
  leaf?(versions: readonly LoadedVersion[], index: number): void | Promise<void>;
  /** A node, after what is below it. */
  left?(versions: readonly LoadedVersion[], level: number, index: number): void;
}

/** Throws 'interrupted' when the signal says so, and what reading a node throws. */
export async function walkTrees(
  trees: readonly MapPointer[],
  readNode: ReadNode,
  visitor: Visitor,
  signal?: AbortSignal,
): Promise<void> {
  const depth = Math.max(0, ...trees.map((tree) => tree.depth));
  if (depth > 0) await new Walk(trees, readNode, visitor, signal).below(depth - 1, 0, []);
}

class Walk {
  constructor(
    private readonly trees: readonly MapPointer[],
    private readonly readNode: ReadNode,
    private readonly visitor: Visitor,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** Everything below the node (level, index), which the trees above know in these versions. */
  async below(level: number, index: number, known: readonly Version[]): Promise<void> {
    const versions = this.entered(level, index, known);
    await this.visit(level, index, await this.load(level, index, versions));
  }

  private async visit(
    level: number,
    index: number,
    versions: readonly LoadedVersion[],
  ): Promise<void> {
    if (this.signal?.aborted) throw new ChunkvolError('interrupted', 'the walk was interrupted');
    if (versions.length > 0) this.visitor.node?.(versions, level, index);
    if (level === 0) {
      if (versions.length > 0) await this.visitor.leaf?.(versions, index);
    } else {
      await this.children(level, index, versions);
    }
    if (versions.length > 0) this.visitor.left?.(versions, level, index);
  }

  private async children(
    level: number,
    index: number,
    versions: readonly LoadedVersion[],
  ): Promise<void> {
    const children: { index: number; versions: readonly Version[] }[] = [];
    for (let slot = 0; slot < NODE_FANOUT; slot++) {
      const child = index * NODE_FANOUT + slot;
      const known = this.entered(level - 1, child, slotVersions(versions, slot));
      // Less deep trees begin below the first node of each level.
      if (known.length > 0 || child === 0) children.push({ index: child, versions: known });
    }
    const ahead: Promise<LoadedVersion[]>[] = [];
    let next = 0;
    for (const child of children) {
      for (; next < children.length && ahead.length < READ_AHEAD; next++) {
        const load = this.load(level - 1, children[next]!.index, children[next]!.versions);
        // It may fail before anybody waits for it.
        load.catch(() => undefined);
        ahead.push(load);
      }
      await this.visit(level - 1, child.index, await ahead.shift()!);
    }
  }

  /** The versions of a node in all trees that have it, if they are of interest. */
  private entered(level: number, index: number, known: readonly Version[]): readonly Version[] {
    const versions = index === 0 ? this.withTops(level, known) : known;
    if (versions.length === 0) return versions;
    return this.visitor.enter?.(versions, level) === false ? [] : versions;
  }

  private withTops(level: number, known: readonly Version[]): Version[] {
    const versions = known.map((version) => ({ ...version, trees: [...version.trees] }));
    for (const [tree, { depth, ordinal, position }] of this.trees.entries()) {
      if (depth !== level + 1 || ordinal === 0) continue;
      const same = versions.find((each) => isAt(each, ordinal, position));
      if (same) same.trees.push(tree);
      else versions.push({ ordinal, position, trees: [tree] });
    }
    for (const version of versions) version.trees.sort((a, b) => a - b);
    return versions;
  }

  private load(
    level: number,
    index: number,
    versions: readonly Version[],
  ): Promise<LoadedVersion[]> {
    return Promise.all(
      versions.map(async (version) => {
        const words = await this.readNode(version.ordinal, version.position, level, index);
        return { ...version, words };
      }),
    );
  }
}

/** Calls `visit` once for every slot that the versions of a leaf name, with the trees that have it. */
export function forEachSlot(
  versions: readonly LoadedVersion[],
  index: number,
  visit: (block: number, ordinal: number, position: number, trees: readonly number[]) => void,
): void {
  const first = index * NODE_FANOUT;
  if (versions.length === 1) {
    const { words, trees } = versions[0]!;
    for (let slot = 0; slot < NODE_FANOUT; slot++) {
      const ordinal = words[slot * 2]!;
      if (ordinal !== 0) visit(first + slot, ordinal, words[slot * 2 + 1]!, trees);
    }
    return;
  }
  for (let slot = 0; slot < NODE_FANOUT; slot++) {
    for (const { ordinal, position, trees } of slotVersions(versions, slot)) {
      visit(first + slot, ordinal, position, trees);
    }
  }
}

/** What the versions of a node say of one slot: each address once. */
export function slotVersions(versions: readonly LoadedVersion[], slot: number): Version[] {
  const found: Version[] = [];
  for (const { words, trees } of versions) {
    const ordinal = words[slot * 2]!;
    const position = words[slot * 2 + 1]!;
    if (ordinal === 0) continue;
    const at = found.findIndex((each) => isAt(each, ordinal, position));
    if (at < 0) found.push({ ordinal, position, trees });
    else found[at] = { ordinal, position, trees: merged(found[at]!.trees, trees) };
  }
  return found;
}

function merged(a: readonly number[], b: readonly number[]): number[] {
  return [...a, ...b].sort((x, y) => x - y);
}

function isAt(version: Version, ordinal: number, position: number): boolean {
  return version.ordinal === ordinal && version.position === position;
}
