/**
 * Recovery: from what lies in the folder to the newest state that is whole.
 *
 *   the newest root that qualifies  ->  roll forward, commit by commit, group by group  ->  the cut
 *
 * A root qualifies when each of its sealed groups has k members of a plausible size, and the files of
 * its other groups are as long as it says. From its tail on, the log is followed through the groups
 * whose headers name the one before as their predecessor, each ending it at the cut that it names.
 * In what may be a copy made by hand closed roots come first, and what came after them is read commit by commit:
 * open files run ahead of the log, and may be long enough for a root that came along later than they did.
 *
 * Nothing is written here but what finishes a seal that was decided already, and the removal of files
 * that never counted. What was flushed is never dropped silently: when commits that are known to have
 * been durable are not there, recovery stops with 'flushed-data-missing', unless told to accept it.
 * A copy, whose files may be torn, and whoever only wants to read usually get what there is.
 */
import { equalBytes, toHex } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import { memberBytes } from '../erasure/stripe.js';
import { sha256, type LogPoint, type Root, type RootGroup } from '../format/root.js';
import { isSlotEntry, type MoveEntry, type SlotEntry } from '../format/commit.js';
import { readCatalog, type Catalog, type FoundGroup } from '../store/catalog.js';
import { chunkFolder, rootFolder, type StoreContext } from '../store/context.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { finishSeals } from '../store/finish-seals.js';
import {
  groupLabel,
  groupOfRoot,
  makeGroup,
  memberName,
  NEW_SUFFIX,
  OPEN_SUFFIX,
  type Group,
} from '../store/group.js';
import { readGroupManifest } from '../store/member-check.js';
import { isWhole } from '../store/member-stat.js';
import { readRoots, type RootFile } from '../store/root-files.js';
import type { SlotReader } from '../store/slot-reader.js';
import { BlockMap } from './block-map.js';
import { CommitReader, type ReadCommit } from './commit-reader.js';
import { GroupTable, liveAccount } from './group-table.js';
import { Heads } from './heads.js';
import type { FolderIdentity } from './identity.js';
import { makeNodeReader } from './node-reader.js';
import { readReplicatedRoot, rootsFromReplicas } from './replicas.js';

/**
 * In what folder flushed writes may be missing: in none; in a copy made by hand, whose end may be torn; in any.
 */
export type Tolerance = 'none' | 'torn-copy' | 'loss';

export interface RecoveryOptions {
  readonly readOnly: boolean;
  readonly tolerance: Tolerance;
  /** Open files of a folder that was copied by hand, perhaps while in use, may be torn. */
  readonly identity: FolderIdentity;
  readonly onNotice: (line: string) => void;
}

export interface Recovered {
  /**
   * The newest root that the log came through. Its file may be lost, or was never written: who went on from an
   * older one would give its generation away again, and to a remote that has it be another copy's writer.
   */
  readonly base: Root;
  readonly roots: RootFile[];
  readonly groups: GroupTable;
  readonly map: BlockMap;
  readonly heads: Heads;
  /** The log's end. */
  readonly end: LogPoint;
  readonly nextOrdinal: number;
  /** Groups that must be sealed in their writer's stead, with the log's end in them where it is known. */
  readonly cut: { group: Group; point: LogPoint | null }[];
  /** Groups that hold nothing. */
  readonly empty: Group[];
  /** Whether commits that had been durable are not there: what lies behind the log's end may be theirs. */
  readonly isLossy: boolean;
  /** Files of what was lost, or came after it: nothing leads to them any more. */
  readonly astray: string[];
}

export async function recover(
  context: StoreContext,
  slots: SlotReader,
  options: RecoveryOptions,
): Promise<Recovered> {
  const { roots, foreign } = await readRoots(context);
  for (const name of foreign) options.onNotice(`roots/${name} is damaged or of another volume`);
  const late = options.identity !== 'same' ? roots.filter(({ root }) => !root.closed) : [];
  const recovery = new Recovery(context, slots, options, roots, late);
  const recovered =
    (await recovery.fromAny(roots.filter((each) => !late.includes(each)))) ??
    (await recovery.fromAny(await replicas(context, slots, roots))) ??
    (await recovery.fromAny(late));
  if (recovered) return recovered;
  if (recovery.missed.length === 0) {
    throw new ChunkvolError(
      'lost',
      `no root of the volume in ${context.folder} can be read; run chunkvol repair --from a remote`,
    );
  }
  throw new ChunkvolError(
    'lost',
    `every root of the volume in ${context.folder} misses more chunk files than parity can replace; ` +
      'run chunkvol repair --from a remote, or bring the files back',
  );
}

/** Roots that are not among these, from their replicas. */
async function replicas(
  context: StoreContext,
  slots: SlotReader,
  roots: readonly RootFile[],
): Promise<RootFile[]> {
  const found = await rootsFromReplicas(context, slots);
  return found.filter(({ name }) => roots.every((root) => root.name !== name));
}

class Recovery {
  /**
   * Roots that do not qualify, or that others are tried before. What they lead to was durable before they
   * were, whether it is there or not.
   */
  readonly missed: RootFile[];

  constructor(
    private readonly context: StoreContext,
    private readonly slots: SlotReader,
    private readonly options: RecoveryOptions,
    private readonly roots: RootFile[],
    late: readonly RootFile[],
  ) {
    this.missed = [...late];
  }

  /** The state that grew from the first of these roots, the newest first, that qualifies; null when none does. */
  async fromAny(candidates: readonly RootFile[]): Promise<Recovered | null> {
    const { context, missed } = this;
    for (const candidate of candidates) {
      const { root, name } = candidate;
      const durableUpTo = Math.max(0, ...missed.map((each) => each.root.tail.sequence - 1));
      const recovered = await this.from(root, durableUpTo);
      if (recovered) {
        const lost = this.roots.filter((each) => {
          return missed.includes(each) && each.root.tail.sequence > recovered.end.sequence;
        });
        const paths = lost.map((each) => `${rootFolder(context)}/${each.name}`);
        return { ...recovered, astray: [...recovered.astray, ...paths] };
      }
      missed.push(candidate);
      const label = `root ${name.slice(0, 8)} (generation ${root.generation})`;
      this.options.onNotice(`${label} needs chunk files that are not here whole`);
    }
    return null;
  }

  /**
   * The state that grew from `root`; null when the root does not qualify. Commits up to `durableUpTo` are
   * known to have been durable.
   */
  private async from(root: Root, durableUpTo: number): Promise<Recovered | null> {
    const known = knownNames(this.context, root);
    let catalog = await readCatalog(this.context, known);
    if (!this.options.readOnly && (await finishSeals(this.context, catalog, root.groups))) {
      catalog = await readCatalog(this.context, known);
    }
    const groups = new GroupTable();
    for (const entry of root.groups) {
      const group = await this.resolve(entry, catalog);
      if (!group) return null;
      groups.add(group);
    }
    const { context, slots, options } = this;
    const forward = new RollForward(context, slots, options, root, groups, catalog, durableUpTo);
    await forward.run();
    const cut = groups
      .all()
      .filter((group) => group.state !== 'sealed')
      .map((group) => ({ group, point: forward.ends.get(group.ordinal) ?? null }));
    return {
      base: forward.newest,
      roots: this.roots,
      groups,
      map: forward.map,
      heads: forward.heads,
      end: forward.point,
      nextOrdinal: forward.nextOrdinal,
      cut,
      empty: forward.empty,
      isLossy: forward.isLossy,
      astray: forward.astray,
    };
  }

  /** The group as it is in the folder now; null when it has not what the root needs. */
  private async resolve(entry: RootGroup, catalog: Catalog): Promise<Group | null> {
    const found = catalog.groups.get(toHex(entry.groupId));
    const group = groupOfRoot(this.context, entry);
    if (entry.state !== 'sealed' && found) {
      if (found.manifest && found.manifest.end >= entry.end) {
        const sealed = sealedGroup(this.context, found);
        return (await isWhole(this.context, sealed)) ? sealed : null;
      }
      usePaths(group, found);
    }
    if (entry.state === 'sealed') {
      if (!(await isWhole(this.context, group))) return null;
      // The group that carries a root cannot be bound in it: its footers know, and the next root will.
      group.manifestDigest ??= await this.footerDigest(group);
      return group;
    }
    for (const [place, path] of group.paths.slice(0, group.geometry.data).entries()) {
      const stat = await this.context.files.stat(path);
      const needed = memberBytes(group.geometry, entry.end, place);
      if (!stat || stat.bytes < needed) return this.incomplete(group, path);
    }
    return group;
  }

  private async footerDigest(group: Group): Promise<Uint8Array | null> {
    const found = await readGroupManifest(this.context, group);
    return found && sha256(found.bytes);
  }

  /** An open group that is not all there: lost writes in a volume's own folder, a torn copy elsewhere. */
  private incomplete(group: Group, path: string): null {
    if (isCopy(this.options)) return null;
    const message = `${path} of the open ${groupLabel(group)} is missing or too short`;
    if (mayMiss(this.options)) {
      this.options.onNotice(message);
      return null;
    }
    throw flushedDataMissing(message);
  }
}

/** Follows the log from the tail of a root to its end. */
class RollForward {
  readonly map: BlockMap;
  readonly heads: Heads;
  readonly empty: Group[] = [];
  /** Groups behind lost commits. */
  private readonly unreached: FoundGroup[] = [];
  private readonly headless: string[] = [];
  private readonly superseded = new Set<FoundGroup>();
  /** The log's end in each group that was passed. */
  readonly ends = new Map<number, LogPoint>();
  point: LogPoint;
  nextOrdinal: number;
  /** The root that was begun with, or the newest of those that groups carry which were passed. */
  newest: Root;
  private readonly reader: CommitReader;

  constructor(
    private readonly context: StoreContext,
    private readonly slots: SlotReader,
    private readonly options: RecoveryOptions,
    private readonly root: Root,
    private readonly groups: GroupTable,
    private readonly catalog: Catalog,
    /** The highest sequence number that anything says was durable. */
    private durableUpTo: number,
  ) {
    this.point = root.tail;
    this.newest = root;
    this.nextOrdinal = root.nextOrdinal;
    this.durableUpTo = Math.max(durableUpTo, root.tail.durableUpTo, root.tail.sequence - 1);
    this.reader = new CommitReader(context, slots, root.blockBytes);
    this.heads = new Heads(root.sizeBytes, root.snapshots);
    this.map = new BlockMap(
      root.map,
      root.mappedBlocks,
      root.blockBytes + SLOT_OVERHEAD_BYTES,
      makeNodeReader(slots, groups),
      liveAccount(groups, this.heads),
    );
  }

  /** Whether anything says of a commit behind the end that it was durable. */
  get isLossy(): boolean {
    return this.durableUpTo >= this.point.sequence;
  }

  /** Files that the log does not lead to any more. */
  get astray(): string[] {
    return [
      ...this.unreached.flatMap(({ files }) => files.map(({ path }) => path)),
      ...this.headless,
    ];
  }

  async run(): Promise<void> {
    this.noteOrdinals();
    for (;;) {
      const group = this.groups.find(this.point.ordinal) ?? null;
      const successor = this.successor(group);
      if (group) await this.follow(group, successor);
      if (!successor) break;
      const next = await this.enter(successor);
      if (!next) break;
    }
    this.cutSurvivors();
    this.noteUnreached();
    this.checkDurable();
    this.checkHeaders();
    this.dropEmptyTail();
    this.noteRetired();
    await this.collectEmpty();
  }

  /** Reads commits up to the successor's cut, or to the end. */
  private async follow(group: Group, successor: FoundGroup | null): Promise<void> {
    const limit = successor?.header.predecessor.cut ?? group.end;
    const open = group.state === 'open' && !successor;
    while (open || this.point.address < limit) {
      const commit = await this.reader.read(group, this.point);
      if (!commit || (!open && commit.end.address > limit)) break;
      if (!(await this.findMoved(commit))) break;
      await this.apply(group, commit);
    }
    this.ends.set(group.ordinal, this.point);
    if (group.state === 'sealed') {
      await this.passRoot(group);
      return;
    }
    if (open) {
      const beyond = await this.reader.durableBeyond(group, this.point);
      this.durableUpTo = Math.max(this.durableUpTo, beyond);
    }
    group.state = 'cut';
    group.end = this.point.address;
  }

  /** A sealed group may carry the root that was made at its end. */
  private async passRoot(group: Group): Promise<void> {
    const replica = this.catalog.groups.get(toHex(group.id))?.manifest?.root;
    if (!replica || this.point.address !== group.end) return;
    const found = await readReplicatedRoot(this.context, this.slots, group, replica);
    if (found && found.root.tail.sequence === this.point.sequence) this.newest = found.root;
  }

  /** Groups beside the log end where it says: what it does not tell of does not count. */
  private cutSurvivors(): void {
    for (const group of this.groups.all()) {
      if (group.survived > 0 && group.state === 'open') group.state = 'cut';
    }
  }

  private async apply(group: Group, commit: ReadCommit): Promise<void> {
    let slot = 0;
    for (const entry of commit.entries) {
      if (isSlotEntry(entry)) {
        await this.applySlots(group, entry, commit.positions.subarray(slot, slot + entry.count));
        slot += entry.count;
      } else if (entry.kind === 'move') {
        await this.applyMove(entry);
      } else if (entry.kind === 'hole') {
        const range = { start: entry.number, end: entry.number + entry.count };
        await this.map.prepare(new Float64Array(0), [range]);
        this.map.clear(range);
      } else {
        this.heads.apply([entry], this.map);
      }
      this.map.settle();
    }
    this.point = commit.end;
    this.durableUpTo = Math.max(this.durableUpTo, commit.header.durableUpTo);
  }

  private async applySlots(group: Group, entry: SlotEntry, positions: Uint32Array): Promise<void> {
    if (entry.kind === 'node') return;
    const blocks = Float64Array.from({ length: entry.count }, (_, i) => entry.number + i);
    await this.map.prepare(blocks, []);
    for (let i = 0; i < entry.count; i++) this.map.set(blocks[i]!, group.ordinal, positions[i]!);
  }

  private async applyMove({
    group: { ordinal, end },
    blocks,
    old,
    positions,
  }: MoveEntry): Promise<void> {
    const group = this.groups.get(ordinal);
    if (group.state !== 'sealed') group.end = Math.max(group.end, end);
    await this.map.prepare(blocks, []);
    for (let i = 0; i < blocks.length; i++) {
      this.map.move(blocks[i]!, old[i * 2]!, old[i * 2 + 1]!, ordinal, positions[i]!);
    }
  }

  /** Whether all groups are there to which a commit says that blocks have moved; they are known then. */
  private async findMoved({ entries }: ReadCommit): Promise<boolean> {
    for (const entry of entries) {
      if (entry.kind !== 'move') continue;
      const group = this.survivors(entry.group);
      if (group && (await this.reaches(group, entry))) {
        this.groups.add(group);
        continue;
      }
      const message = `${groupLabel(entry.group)} misses blocks that were moved to it`;
      if (!mayMiss(this.options)) throw flushedDataMissing(message);
      this.options.onNotice(message);
      return false;
    }
    return true;
  }

  /** The group beside the log that a move names, as it is in the folder. */
  private survivors({ id, ordinal }: MoveEntry['group']): Group | null {
    const known = this.groups.find(ordinal);
    if (known) return equalBytes(known.id, id) ? known : null;
    const found = this.catalog.groups.get(toHex(id));
    if (!found?.files.some(({ stage }) => stage !== 'new')) return null;
    if (found.header.ordinal !== ordinal || found.header.survived === 0) return null;
    return found.manifest ? sealedGroup(this.context, found) : openGroup(this.context, found);
  }

  /** Whether files are as long as what was moved to a group has them; in what may be a copy, whether it is there. */
  private async reaches(
    group: Group,
    { group: { end }, blocks, positions }: MoveEntry,
  ): Promise<boolean> {
    if (group.state === 'sealed') return group.end >= end && isWhole(this.context, group);
    const { geometry, paths } = group;
    const data = paths.slice(0, geometry.data);
    const stats = await Promise.all(data.map((path) => this.context.files.stat(path)));
    return (
      stats.every((each, place) => (each?.bytes ?? 0) >= memberBytes(geometry, end, place)) &&
      (this.options.identity === 'same' || this.reader.holds(group, blocks, positions))
    );
  }

  /**
   * The group that continues the log behind `group`, the present one (null: behind nothing). Of several that
   * one session made the last counts: the others were given up. Several sessions mean a fork.
   */
  private successor(group: Group | null): FoundGroup | null {
    const id = group?.id ?? new Uint8Array(16);
    const candidates = [...this.catalog.groups.values()].filter(
      ({ header, files }) =>
        header.survived === 0 &&
        equalBytes(header.predecessor.groupId, id) &&
        header.predecessor.cut >= (group ? this.point.address : 0) &&
        !this.groups.find(header.ordinal) &&
        files.some(({ stage }) => stage !== 'new'),
    );
    if (candidates.length === 0) return null;
    candidates.sort((a, b) => b.header.ordinal - a.header.ordinal);
    const [last, ...others] = candidates;
    const foreign = others.find(({ header }) => !equalBytes(header.session, last!.header.session));
    if (foreign) {
      throw new ChunkvolError(
        'fork',
        `the log in ${this.context.folder} goes on in two ways: files of two copies of this volume ` +
          'were put into one folder; restore one of them from its remote',
      );
    }
    return last!;
  }

  /** Goes on into the successor; false when the log ends before it. */
  private async enter(found: FoundGroup): Promise<boolean> {
    const { header } = found;
    const reached =
      this.point.sequence === header.firstSequence &&
      equalBytes(this.point.chain, header.predecessor.chain);
    if (!reached) return false;
    const group = found.manifest
      ? sealedGroup(this.context, found)
      : openGroup(this.context, found);
    if (group.state === 'open') await this.requireFiles(group);
    else if (!(await this.mayFollow(group))) return false;
    this.groups.add(group);
    this.point = { ...this.point, ordinal: group.ordinal, address: 0 };
    this.noteSuperseded(found);
    return true;
  }

  /** What a session wrote to a group that failed stands in the one that it made in its stead. */
  private noteSuperseded({ header: { ordinal, session, predecessor } }: FoundGroup): void {
    for (const other of this.catalog.groups.values()) {
      const { header } = other;
      const isOfLog = header.survived === 0 && equalBytes(header.session, session);
      const isEarlier = isOfLog && header.ordinal < ordinal;
      const samePlace = equalBytes(header.predecessor.groupId, predecessor.groupId);
      if (isEarlier && samePlace && !other.manifest) this.superseded.add(other);
    }
  }

  /** An `.open` file proves that all data members existed. */
  private async requireFiles(group: Group): Promise<void> {
    if (mayMiss(this.options)) return;
    for (const path of group.paths.slice(0, group.geometry.data)) {
      if (await this.context.files.stat(path)) continue;
      throw flushedDataMissing(`${path} of the open ${groupLabel(group)} is missing`);
    }
  }

  /**
   * Whether the log goes on in a sealed group: it must be as whole as one that a root names, for no root
   * could name it. Who looks at what is lost follows it anyway.
   */
  private async mayFollow(group: Group): Promise<boolean> {
    if (await isWhole(this.context, group)) return true;
    const message = `${groupLabel(group)} misses more chunk files than parity can replace`;
    if (!mayMiss(this.options)) throw flushedDataMissing(message);
    this.options.onNotice(message);
    return this.options.readOnly && !isCopy(this.options);
  }

  /** Takes what is known to have been durable from all groups, and finds those that the log should reach. */
  private noteUnreached(): void {
    for (const found of this.catalog.groups.values()) {
      if (this.superseded.has(found)) continue;
      const durableUpTo = provenUpTo(found);
      this.durableUpTo = Math.max(this.durableUpTo, durableUpTo);
      if (durableUpTo >= this.point.sequence && !this.holds(found)) this.unreached.push(found);
    }
    if (this.isLossy) this.unreached.push(...this.lostSurvivors());
  }

  /** Groups beside the log, made since the root: what says that blocks were moved to them may be what is lost. */
  private lostSurvivors(): FoundGroup[] {
    return [...this.catalog.groups.values()].filter((found) => {
      const { survived, ordinal } = found.header;
      const isLost = survived > 0 && ordinal >= this.root.nextOrdinal && !this.holds(found);
      return isLost && !this.superseded.has(found) && !this.unreached.includes(found);
    });
  }

  /** Whether a group that was found is one of the volume's present state. */
  private holds({ id, header }: FoundGroup): boolean {
    const known = this.groups.find(header.ordinal);
    return known !== undefined && equalBytes(known.id, id);
  }

  private checkDurable(): void {
    if (!this.isLossy) return;
    const lost = this.durableUpTo - this.point.sequence + 1;
    const message = `${lost} flushed commits from number ${this.point.sequence} on cannot be read`;
    if (!mayMiss(this.options)) throw flushedDataMissing(message);
    this.options.onNotice(`${message}; the volume is opened as it was before them`);
  }

  /**
   * A file whose header cannot be read may be all that is left of a group, if it is none of a group that
   * is known. One that can be read and does not authenticate counts only under an open group's name.
   */
  private checkHeaders(): void {
    const found = [...this.catalog.groups.values()].map((each) => {
      return each.manifest ? sealedGroup(this.context, each) : openGroup(this.context, each);
    });
    const expected = new Set([...this.groups.all(), ...found].flatMap(({ paths }) => paths));
    const open = this.catalog.foreign.filter((entry) => entry.endsWith(OPEN_SUFFIX));
    for (const entry of [...open, ...this.catalog.unreadable]) {
      const path = `${chunkFolder(this.context)}/${entry}`;
      if (expected.has(path) || entry.endsWith(NEW_SUFFIX)) continue;
      const message = `the header of ${path} cannot be read`;
      if (!mayMiss(this.options)) throw flushedDataMissing(message);
      this.options.onNotice(message);
      this.headless.push(path);
    }
  }

  /** Groups of headers that the log does not lead to. Their ordinals are not used again. */
  private noteOrdinals(): void {
    for (const { header } of this.catalog.groups.values()) {
      this.nextOrdinal = Math.max(this.nextOrdinal, header.ordinal + 1);
    }
  }

  /**
   * Sealed groups of our own past that the present state does not name: whoever wrote last had retired
   * them, and not deleted their files yet.
   */
  private noteRetired(): void {
    const sessions = new Set(this.root.lineage.entries.map(({ session }) => toHex(session)));
    for (const found of this.catalog.groups.values()) {
      const { header, manifest } = found;
      const isPast = manifest !== null && header.ordinal < this.point.ordinal;
      if (!isPast || this.holds(found) || this.unreached.includes(found)) continue;
      if (this.groups.find(header.ordinal) || !sessions.has(toHex(header.session))) continue;
      this.groups.retire(sealedGroup(this.context, found));
    }
  }

  /** A group that was born and never written to, or that lost its first commit: the log ends where it ended before. */
  private dropEmptyTail(): void {
    const tail = this.groups.find(this.point.ordinal);
    const found = tail && this.catalog.groups.get(toHex(tail.id));
    if (!tail || !found || tail.state !== 'cut' || tail.end > 0) return;
    const { ordinal, cut } = found.header.predecessor;
    this.groups.remove(tail.ordinal);
    if (this.isLossy) this.unreached.push(found);
    this.point = { ...this.point, ordinal, address: cut };
  }

  /**
   * Unsealed groups outside the log without a single commit, and those that were given up. Any other that
   * holds commits is left alone.
   */
  private async collectEmpty(): Promise<void> {
    for (const found of this.catalog.groups.values()) {
      if (found.manifest || this.holds(found) || this.unreached.includes(found)) continue;
      const group = openGroup(this.context, found);
      const commit = await this.reader.read(group, {
        ordinal: group.ordinal,
        address: 0,
        sequence: found.header.firstSequence,
        chain: found.header.predecessor.chain,
        durableUpTo: 0,
      });
      if (!commit || this.superseded.has(found)) this.empty.push(group);
    }
  }
}

function knownNames(context: StoreContext, root: Root): Set<string> {
  const names = new Set<string>();
  for (const { groupId, sealId, geometry, state } of root.groups) {
    if (state !== 'sealed') continue;
    for (let place = 0; place < geometry.data + geometry.parity; place++) {
      names.add(memberName(context, groupId, sealId, place));
    }
  }
  return names;
}

/** A group is created only when all before it is durable, and sealed only when all in it is. */
function provenUpTo({ header, manifest }: FoundGroup): number {
  return Math.max(header.durableUpTo, (manifest?.endSequence ?? 0) - 1);
}

/** A group that was sealed after the root was made. */
function sealedGroup(context: StoreContext, found: FoundGroup): Group {
  const manifest = found.manifest!;
  const group = makeGroup(context, {
    ordinal: manifest.ordinal,
    id: manifest.groupId,
    geometry: manifest.geometry,
    survived: found.header.survived,
    state: 'sealed',
    sealId: manifest.sealId,
    end: manifest.end,
    manifestDigest: found.manifestDigest,
  });
  for (const file of found.files) {
    const { place } = file.header;
    const isFinal = found.files.some((other) => {
      return other.stage === 'final' && other.header.place === place;
    });
    const isMember =
      place < manifest.geometry.data || group.paths[place]!.endsWith(`/${file.name}`);
    // A seal that a crash interrupted, and that a reader may not finish.
    if (!isFinal && isMember) group.paths[place] = file.path;
  }
  return group;
}

/** A group that nobody has sealed; its files are where they were found. */
function openGroup(context: StoreContext, found: FoundGroup): Group {
  const { header } = found;
  const group = makeGroup(context, {
    ordinal: header.ordinal,
    id: header.groupId,
    geometry: header.geometry,
    survived: header.survived,
    state: 'open',
    sealId: header.sealId,
    end: 0,
  });
  usePaths(group, found);
  return group;
}

/** Names the files where they were found; `.new` ones only where a group was half born or half removed. */
function usePaths(group: Group, found: FoundGroup): void {
  for (const stage of ['new', 'open'] as const) {
    for (const file of found.files) {
      const mayServe = stage === 'open' || file.header.place < group.geometry.data;
      if (file.stage === stage && mayServe) group.paths[file.header.place] = file.path;
    }
  }
}

function isCopy({ identity }: RecoveryOptions): boolean {
  return identity === 'copied';
}

/** Whether what can be read is enough. */
function mayMiss(options: RecoveryOptions): boolean {
  return options.tolerance === 'loss' || (options.tolerance === 'torn-copy' && isCopy(options));
}

function flushedDataMissing(what: string): ChunkvolError {
  return new ChunkvolError(
    'flushed-data-missing',
    `${what}; nothing was cut off: bring the file back, serve --read-only, or open with --accept-loss`,
  );
}
