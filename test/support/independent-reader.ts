/**
 * A reader of volumes that knows docs/format.md and nothing else: what a stranger would write. It is
 * slow and simple, imports nothing from src/, and reads only. Its parts are beside it, in a folder of
 * the same name, a section of the page each; this one chooses a state and reads blocks (13, 14).
 *
 * It is not hardened: who holds the keys can make it work for a long time, but not read wrong bytes.
 */
import * as fs from 'node:fs';
import {
  parseCommitBody,
  parseCommitHeader,
  type CommitEntry,
  type Entry,
  type Head,
  type Move,
} from './independent-reader/commits.js';
import { attempt, sha256 } from './independent-reader/fields.js';
import {
  readRoots,
  replicas,
  rootPieces,
  surveyChunks,
  type Found,
} from './independent-reader/folder.js';
import { footerBytes, memberBytes, rows, type Geometry } from './independent-reader/geometry.js';
import {
  BLOCK,
  COMMIT_BODY,
  COMMIT_HEADER,
  Group,
  NODE,
  ROOT_PIECE,
  type Piece,
  Walk,
} from './independent-reader/group.js';
import type { Keys } from './independent-reader/keys.js';
import type { LogPoint, Root, RootGroup } from './independent-reader/roots.js';
import { unlock, type Credential } from './independent-reader/unlock.js';
import { isWhole } from './independent-reader/verify.js';

export type { Credential };

export interface ReaderOptions {
  /** Stop at the newest closed root, and do not roll forward. */
  readonly closedOnly?: boolean;
}

/** What a commit changed: where a block stands now, if it is one of the entry's; null: nowhere. */
type Change = (block: number) => Entry | null | undefined;

export class IndependentReader {
  /** Commits found behind the root. */
  rolledForward = 0;
  private size: number;
  private map: Root['map'];
  private readonly groups = new Map<number, Group>();
  /** Behind the map, the oldest first. */
  private changes: Change[] = [];
  private readonly nodes = new Map<string, Buffer>();

  private constructor(
    private readonly folder: string,
    private readonly keys: Keys,
    private readonly found: Map<string, Found>,
    private readonly root: Root,
  ) {
    this.size = root.size;
    this.map = root.map;
  }

  /** Throws when nothing opens. */
  static async open(
    folder: string,
    credential: Credential,
    options: ReaderOptions = {},
  ): Promise<IndependentReader> {
    const keys = await unlock(folder, credential);
    const found = surveyChunks(folder, keys);
    const inFolder = readRoots(folder, keys);
    for (const root of [...newestFirst(inFolder), ...newestFirst(replicas(folder, keys, found))]) {
      if (options.closedOnly && !root.closed) continue;
      const reader = new IndependentReader(folder, keys, found, root);
      if (!root.groups.every((group) => reader.enterGroup(group))) continue;
      if (!options.closedOnly) reader.rollForward();
      return reader;
    }
    throw new Error('no root has what it needs');
  }

  get generation(): number {
    return this.root.generation;
  }

  get groupCount(): number {
    return this.groups.size;
  }

  get sizeBytes(): number {
    return this.size;
  }

  /** Checks every final file in chunks/ to its last byte; returns the names of those that are not whole. */
  damagedFiles(): string[] {
    const files = [...this.found.values()].flatMap(({ files }) => [...files]);
    return files
      .filter(([, { suffix }]) => suffix === '')
      .map(([place, { path }]) => ({ place, path, name: path.slice(-32) }))
      .filter(({ place, path, name }) => !isWhole(this.keys, place, name, path))
      .map(({ name }) => name);
  }

  /** `length` bytes of the disk from byte `offset` on. */
  read(offset: number, length: number): Buffer {
    const { blockBytes } = this.root;
    const first = Math.floor(offset / blockBytes);
    const last = Math.ceil((offset + length) / blockBytes);
    const blocks = Array.from({ length: last - first }, (_, i) => this.readBlock(first + i));
    const from = offset - first * blockBytes;
    return Buffer.concat(blocks).subarray(from, from + length);
  }

  private readBlock(block: number): Buffer {
    const entry = this.lookup(block);
    if (!entry) return Buffer.alloc(this.root.blockBytes);
    return this.readAt(entry, this.root.blockBytes, BLOCK(block));
  }

  private readAt({ ordinal, position }: Entry, bytes: number, piece: Piece): Buffer {
    const piecePlain = this.groups.get(ordinal)?.read(position * 8, bytes, piece)?.plain;
    if (!piecePlain) throw new Error(`group ${ordinal}, position ${position} is lost`);
    return piecePlain;
  }

  private lookup(block: number): Entry | null {
    for (const change of this.changes.toReversed()) {
      const entry = change(block);
      if (entry !== undefined) return entry;
    }
    return this.lookupInMap(block);
  }

  private lookupInMap(block: number): Entry | null {
    const { depth, ordinal, position } = this.map;
    let entry: Entry = { ordinal, position };
    for (let level = depth - 1; level >= 0; level--) {
      if (entry.ordinal === 0) return null;
      const node = this.node(entry, level, Math.floor(block / 512 ** (level + 1)));
      const at = (Math.floor(block / 512 ** level) % 512) * 8;
      entry = { ordinal: node.readUInt32LE(at), position: node.readUInt32LE(at + 4) };
    }
    return entry.ordinal === 0 ? null : entry;
  }

  private node(entry: Entry, level: number, index: number): Buffer {
    const key = `${level} ${index}`;
    const node = this.nodes.get(key) ?? this.readAt(entry, 4096, NODE(level, index));
    this.nodes.set(key, node);
    return node;
  }

  /** False when the folder has not what the root needs of the group (13.1). */
  private enterGroup(entry: RootGroup): boolean {
    const found = this.found.get(entry.groupId.toString('hex'));
    const { geometry, sealId, end } = entry;
    if (entry.state === 1) return this.enterSealed({ ...entry, sealId, end });
    if (!found) return false;
    if (found.manifest && found.manifest.end >= end) return this.enterSealed(found.manifest);
    const paths = Array.from({ length: geometry.data }, (_, member) => {
      const path = found.files.get(member)?.path;
      return path && fs.statSync(path).size >= memberBytes(geometry, end, member) ? path : null;
    });
    if (paths.includes(null)) return false;
    const known = entry.state === 3 ? end : Infinity;
    this.addGroup(entry.groupId, entry.ordinal, geometry, false, sealId, known, paths);
    return true;
  }

  private enterSealed(facts: {
    readonly groupId: Buffer;
    readonly ordinal: number;
    readonly geometry: Geometry;
    readonly sealId: Buffer;
    readonly end: number;
  }): boolean {
    const { groupId, ordinal, geometry, sealId, end } = facts;
    const paths = Array.from({ length: geometry.data + geometry.parity }, (_, member) => {
      const name = this.keys.fileName('chunk', groupId, sealId, Buffer.of(member));
      const path = `${this.folder}/chunks/${name}`;
      if (!fs.existsSync(path)) return null;
      const short = memberBytes(geometry, end, member) + footerBytes(geometry, rows(geometry, end));
      return [short, geometry.chunk].includes(fs.statSync(path).size) ? path : null;
    });
    if (paths.filter((path) => path !== null).length < geometry.data) return false;
    this.addGroup(groupId, ordinal, geometry, true, sealId, end, paths);
    return true;
  }

  private addGroup(
    id: Buffer,
    ordinal: number,
    geometry: Geometry,
    sealed: boolean,
    sealId: Buffer,
    end: number,
    paths: readonly (string | null)[],
  ): void {
    const group = new Group(this.keys, id, ordinal, geometry, sealed, sealId, end, paths);
    this.groups.set(ordinal, group);
  }

  private rollForward(): void {
    let point = this.root.tail;
    for (;;) {
      const group = this.groups.get(point.ordinal) ?? null;
      const successor = this.successor(group, point);
      if (group) {
        const limit = successor?.header.predecessor.cut ?? group.end;
        while (point.address < limit) {
          const next = this.readCommit(group, point, limit);
          if (!next) break;
          point = next;
          this.rolledForward++;
        }
      }
      const header = successor?.header;
      const continues =
        header?.firstSequence === point.sequence && header.predecessor.chain.equals(point.chain);
      if (!successor || !continues || !this.enterFound(successor)) return;
      point = { ...point, ordinal: successor.header.ordinal, address: 0 };
    }
  }

  private successor(group: Group | null, point: LogPoint): Found | null {
    const id = group?.id ?? Buffer.alloc(16);
    const candidates = [...this.found.values()].filter(
      ({ header, files }) =>
        !header.beside &&
        header.predecessor.groupId.equals(id) &&
        header.predecessor.cut >= point.address &&
        !this.groups.has(header.ordinal) &&
        [...files.values()].some(({ suffix }) => suffix !== '.new'),
    );
    candidates.sort((a, b) => b.header.ordinal - a.header.ordinal);
    const sessions = new Set(candidates.map(({ header }) => header.session.toString('hex')));
    if (sessions.size > 1) throw new Error('the folder holds two histories');
    return candidates[0] ?? null;
  }

  private enterFound({ header, files, manifest }: Found): boolean {
    if (manifest) return this.enterSealed(manifest);
    const { groupId, ordinal, geometry, sealId } = header;
    const paths = Array.from({ length: geometry.data }, (_, i) => files.get(i)?.path ?? null);
    this.addGroup(groupId, ordinal, geometry, false, sealId, Infinity, paths);
    return true;
  }

  /** Applies the commit at `point`; the point behind it, or null when none continues the log there. */
  private readCommit(group: Group, point: LogPoint, limit: number): LogPoint | null {
    const walk = new Walk(group, point.address);
    const header = group.read(walk.next(112), 112, COMMIT_HEADER);
    const facts = header && attempt(() => parseCommitHeader(header.plain));
    if (!header || facts?.sequence !== point.sequence) return null;
    if (!facts.previousChain.equals(point.chain)) return null;
    const { bodyBytes, slotCount, rootBytes } = facts;
    const hasBody = bodyBytes > 0;
    const body =
      hasBody && group.read(walk.next(bodyBytes), bodyBytes, COMMIT_BODY(point.sequence));
    if (hasBody && !body) return null;
    const plain = body ? body.plain : Buffer.alloc(0);
    const entries = attempt(() => parseCommitBody(plain, slotCount));
    const positions = entries && this.placeSlots(group, walk, entries);
    if (!positions) return null;
    for (const [index, bytes] of rootPieces(rootBytes).entries()) {
      const at = walk.next(bytes);
      if (!group.sealed && !group.read(at, bytes, ROOT_PIECE(index))) return null;
    }
    const address = walk.end();
    if (address > limit || !walk.padded) return null;
    if (!this.findMoved(entries)) return null;
    this.apply(group, entries, positions);
    const chain = sha256(point.chain, header.slot, body ? body.slot : plain);
    return { ...point, address, sequence: point.sequence + 1, chain };
  }

  /** The positions of the slots of the entries; null when one of them is not whole. */
  private placeSlots(group: Group, walk: Walk, entries: readonly CommitEntry[]): number[] | null {
    const positions: number[] = [];
    for (const { kind, level, count, number } of entries) {
      if (kind !== 1 && kind !== 3) continue;
      const bytes = kind === 3 ? 4096 : this.root.blockBytes;
      for (let i = 0; i < count; i++) {
        const at = walk.next(bytes);
        const piece = kind === 3 ? NODE(level, number + i) : BLOCK(number + i);
        if (!group.sealed && !group.read(at, bytes, piece)) return null;
        positions.push(at / 8);
      }
    }
    return positions;
  }

  /** Whether all groups are there that moves name, as far as they say. */
  private findMoved(entries: readonly CommitEntry[]): boolean {
    return entries.every(({ move }) => {
      if (!move || this.groups.has(move.ordinal)) return true;
      const found = this.found.get(move.groupId.toString('hex'));
      return found?.header.beside === true && this.enterFound(found);
    });
  }

  private apply(group: Group, entries: readonly CommitEntry[], positions: number[]): void {
    const { ordinal } = group;
    let next = 0;
    for (const { kind, count, number, move, head } of entries) {
      if (head) this.enterHead(head);
      if (move) this.enterMove(move);
      const own = kind === 1 || kind === 3 ? positions.slice(next, next + count) : null;
      next += own?.length ?? 0;
      if (kind > 2) continue;
      this.changes.push((block) => {
        if (block < number || block >= number + count) return undefined;
        return own && { ordinal, position: own[block - number]! };
      });
    }
  }

  private enterMove({ ordinal, blocks }: Move): void {
    const moved = new Map<number, Entry>();
    for (const { number, old, position } of blocks) {
      const now = this.lookup(number);
      if (now?.ordinal !== old.ordinal || now.position !== old.position) continue;
      moved.set(number, { ordinal, position });
    }
    this.changes.push((block) => moved.get(block));
  }

  /** Another map takes the place of all that was before. */
  private enterHead({ size, map }: Head): void {
    this.size = size;
    this.map = map;
    this.changes = [];
    this.nodes.clear();
  }
}

function newestFirst(roots: readonly Root[]): Root[] {
  return [...roots].sort((a, b) => b.generation - a.generation);
}
