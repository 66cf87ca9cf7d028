/**
 * The roots of a running volume: making the next one from the present state, publishing it, and
 * removing those that nobody needs any more.
 *
 * Kept: the newest closed ones, one for each hour of the last day, and the newest of all; of these only
 * the newest ones and those in use where space is short (retention.ts).
 */
import { toHex } from '../base/bytes.js';
import {
  sha256,
  type Lineage,
  type LogPoint,
  type Origin,
  type Root,
  type RootGroup,
} from '../format/root.js';
import type { Geometry } from '../base/geometry.js';
import type { MapPointer } from '../format/snapshot.js';
import { rootFolder, type StoreContext } from '../store/context.js';
import { publishRoot, sealedRootBytes, sealRoot, type RootFile } from '../store/root-files.js';
import type { Heads } from './heads.js';
import { KEPT_CLOSED_ROOTS, KEPT_ROOT_HOURS, MAX_LINEAGE_ENTRIES } from './limits.js';

const HOUR_MS = 3_600_000;

/** What a root says beside map, log and groups. */
export interface VolumeFacts {
  readonly name: string;
  readonly blockBytes: number;
  readonly geometry: Geometry;
  readonly createdMs: number;
  readonly keyCounter: number;
}

export interface VolumeCounters {
  writtenBytes: number;
  loggedBytes: number;
}

export interface RootParts {
  readonly closed: boolean;
  readonly map: MapPointer;
  readonly tail: LogPoint;
  readonly groups: readonly RootGroup[];
  readonly nextOrdinal: number;
  readonly mappedBlocks: number;
  readonly counters: VolumeCounters;
}

export class Roots {
  /** Drawn at every attach: whoever writes is told apart, also in copies of a folder. */
  readonly session: Uint8Array;
  private lineage: Lineage;
  private generation: number;
  /** Names of roots in use, and how often. */
  private readonly pins = new Map<string, number>();
  private holds = 0;

  constructor(
    private readonly context: StoreContext,
    public facts: VolumeFacts,
    private readonly heads: Heads,
    /** Every root in the folder, the newest first. */
    private known: RootFile[],
    /** The root that the present state grew from. */
    private readonly base: Root,
  ) {
    this.session = context.random.bytes(16);
    this.lineage = base.lineage;
    this.generation = Math.max(base.generation, ...known.map(({ root }) => root.generation));
  }

  get newestGeneration(): number {
    return this.generation;
  }

  /**
   * The next root is newer than this generation; false when the newest closed one is already. Our session began
   * before those that are skipped, or what the one before it wrote meanwhile would pass for ours.
   */
  skipTo(generation: number): boolean {
    if (this.generation < generation) {
      this.generation++;
      this.enterLineage();
      this.generation = generation;
    }
    return (this.newestClosed?.root.generation ?? 0) <= generation;
  }

  /** Takes note of the counter of the key file; false when the newest closed root knows it already. */
  noteKeyCounter(counter: number): boolean {
    const keyCounter = Math.max(counter, this.facts.keyCounter);
    this.facts = { ...this.facts, keyCounter };
    return (this.newestClosed?.root.keyCounter ?? 0) < keyCounter;
  }

  /** What the present state came out of. */
  get origin(): Origin {
    return { generation: this.generation, lineage: this.lineage };
  }

  /** The newest first. */
  get all(): readonly RootFile[] {
    return this.known;
  }

  /** Those that stay whatever happens: the newest, the newest two closed ones, and those in use. */
  lasting(): RootFile[] {
    const closed = this.known.filter(({ root }) => root.closed).slice(0, 2);
    const pinned = this.known.filter(({ name }) => this.pins.has(name));
    return [...this.known.slice(0, 1), ...closed, ...pinned];
  }

  /** The root, and all that it names, stays until the returned function is called. */
  pin({ name }: RootFile): () => void {
    this.pins.set(name, (this.pins.get(name) ?? 0) + 1);
    let pinned = true;
    return () => {
      if (!pinned) return;
      pinned = false;
      const left = this.pins.get(name)! - 1;
      if (left > 0) this.pins.set(name, left);
      else this.pins.delete(name);
    };
  }

  /** Whether nothing may be deleted now, neither a root nor a group. */
  get held(): boolean {
    return this.holds > 0;
  }

  /** Nothing is deleted until the returned function is called. */
  hold(): () => void {
    this.holds++;
    let held = true;
    return () => {
      if (held) this.holds--;
      held = false;
    };
  }

  /** Deletes a root, durably. False when that fails: it stays known. */
  async remove(file: RootFile): Promise<boolean> {
    const folder = rootFolder(this.context);
    try {
      await this.context.files.remove(`${folder}/${file.name}`);
      await this.context.files.syncFolder(folder);
    } catch {
      return false;
    }
    this.known = this.known.filter((other) => other !== file);
    return true;
  }

  /** The newest closed root that has been published; null when there is none. */
  get newestClosed(): RootFile | null {
    return this.known.find(({ root }) => root.closed) ?? null;
  }

  /** Whether the newest closed root says all of a state that was recovered up to this commit. */
  coverAllBefore(sequence: number): boolean {
    const { generation, tail } = this.base;
    return this.newestClosed?.root.generation === generation && tail.sequence === sequence;
  }

  /** The next root. Each call takes a generation of its own. */
  make(parts: RootParts): Root {
    this.generation++;
    this.enterLineage();
    return this.compose(parts);
  }

  /** An upper bound, cheap to have, of what a root of `groupCount` groups measures. */
  bound(groupCount: number): number {
    const entries = this.lineage.entries.length + 1;
    return 1024 + groupCount * 100 + entries * 24 + this.heads.snapshots.length * 320;
  }

  /** What the file of a root made of these parts will measure. */
  measure(parts: RootParts): number {
    const lineage = this.lineageWithUs();
    return sealedRootBytes({ ...this.compose(parts), lineage });
  }

  seal(root: Root): Uint8Array {
    return sealRoot(this.context.keys, this.context.random, root);
  }

  async publish(root: Root, bytes: Uint8Array): Promise<RootFile> {
    const name = await publishRoot(this.context, root, bytes);
    const file: RootFile = { name, bytes, root };
    this.known = [file, ...this.known];
    await this.prune();
    return file;
  }

  private compose(parts: RootParts): Root {
    return {
      ...this.facts,
      sizeBytes: this.heads.sizeBytes,
      snapshots: this.heads.snapshots,
      ...parts.counters,
      closed: parts.closed,
      volumeId: this.context.volumeId,
      session: this.session,
      generation: this.generation,
      timeMs: this.context.clock.now(),
      map: parts.map,
      tail: parts.tail,
      nextOrdinal: parts.nextOrdinal,
      mappedBlocks: parts.mappedBlocks,
      lineage: this.lineage,
      groups: parts.groups,
    };
  }

  private enterLineage(): void {
    this.lineage = this.lineageWithUs();
  }

  private lineageWithUs(): Lineage {
    const { entries } = this.lineage;
    const last = entries[entries.length - 1];
    if (last && toHex(last.session) === toHex(this.session)) return this.lineage;
    const entry = { session: this.session, firstGeneration: this.generation };
    return foldLineage({ ...this.lineage, entries: [...entries, entry] });
  }

  /** One that cannot be removed now is found again when the next root is published. */
  private async prune(): Promise<void> {
    if (this.held) return;
    const keep = new Set([...rootsToKeep(this.known, this.context.clock.now()), ...this.lasting()]);
    for (const file of this.known.filter((each) => !keep.has(each))) await this.remove(file);
  }
}

/** Which of the roots, the newest first, are kept. */
export function rootsToKeep(known: readonly RootFile[], nowMs: number): RootFile[] {
  const closed = known.filter(({ root }) => root.closed);
  const kept = new Set<RootFile>([...known.slice(0, 2), ...closed.slice(0, KEPT_CLOSED_ROOTS)]);
  const hours = new Set<number>();
  for (const file of closed) {
    const age = Math.floor((nowMs - file.root.timeMs) / HOUR_MS);
    if (age >= 0 && age < KEPT_ROOT_HOURS && !hours.has(age)) {
      hours.add(age);
      kept.add(file);
    }
  }
  return known.filter((file) => kept.has(file));
}

/** Folds the oldest sessions into the digest when there are more than the limit. */
function foldLineage(lineage: Lineage): Lineage {
  const surplus = lineage.entries.length - MAX_LINEAGE_ENTRIES;
  if (surplus <= 0) return lineage;
  let digest = lineage.droppedDigest;
  for (const { session } of lineage.entries.slice(0, surplus)) digest = sha256(digest, session);
  return {
    droppedCount: lineage.droppedCount + surplus,
    droppedDigest: digest,
    entries: lineage.entries.slice(surplus),
  };
}
