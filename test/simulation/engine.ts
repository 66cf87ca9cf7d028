/**
 * A crypto engine that watches another one at work.
 *
 * - The ledger is shared by all timelines of a world (crashes, copies): it objects when a key and nonce,
 *   or a stretch of keystream, meet a second plaintext.
 * - The timeline is one log's history: what each commit puts on the disk, taken from the plaintexts as
 *   they are encrypted. It says what a disk must look like that was recovered up to a certain commit.
 */
import { crc32 } from 'node:zlib';
import { toHex } from '../../src/base/bytes.js';
import type { CryptoEngine, EngineName, SlotBatch, SlotKey } from '../../src/crypto/engine.js';
import {
  decodeCommitBody,
  decodeCommitHeader,
  isSlotEntry,
  isStateEntry,
  SLOT_KIND,
  type CommitEntry,
  type SlotEntry,
  type StateEntry,
} from '../../src/format/commit.js';
import type { MapPointer } from '../../src/format/snapshot.js';

/** What a block holds; null: zeros. */
export type Block = Uint8Array | null;

export class Ledger {
  /** What was done wrong, one line each. */
  readonly violations: string[] = [];
  private readonly nonces = new Map<string, number>();
  private readonly streams = new Map<string, { from: number; bytes: Buffer }[]>();
  private readonly contents = new Map<string, number>();

  /** One use of a key with a nonce. */
  nonce(kind: string, key: Uint8Array, nonce: string, ...plaintext: readonly Uint8Array[]): void {
    const id = `${kind} ${toHex(key)} ${nonce}`;
    const sum = plaintext.reduce((crc, part) => crc32(part, crc), 1);
    const earlier = this.nonces.get(id);
    if (earlier === undefined) this.nonces.set(id, sum);
    else if (earlier !== sum) this.violations.push(`${kind}: a nonce met two plaintexts (${id})`);
  }

  /** Positions that were written under one key in several histories, each with a nonce of its own. */
  get meetings(): number {
    const seen = new Map<string, number>();
    for (const id of this.nonces.keys()) {
      if (!id.startsWith('slot ')) continue;
      const place = id.slice(0, id.lastIndexOf(' '));
      seen.set(place, (seen.get(place) ?? 0) + 1);
    }
    return [...seen.values()].filter((count) => count > 1).length;
  }

  /** One use of the keystream of a key from an initial counter on. */
  stream(key: Uint8Array, counter: Uint8Array, from: number, plaintext: Uint8Array): void {
    const id = `${toHex(key)} ${toHex(counter)}`;
    const uses = this.streams.get(id) ?? [];
    for (const use of uses) {
      if (use.from === from && use.bytes.length === plaintext.length) {
        if (use.bytes.compare(plaintext) === 0) return;
      }
      const start = Math.max(from, use.from);
      const end = Math.min(from + plaintext.length, use.from + use.bytes.length);
      if (start >= end) continue;
      const earlier = use.bytes.subarray(start - use.from, end - use.from);
      if (earlier.compare(plaintext, start - from, end - from) !== 0) {
        this.violations.push(`keystream of ${id} at ${start} met two plaintexts`);
      }
    }
    uses.push({ from, bytes: Buffer.from(plaintext) });
    this.streams.set(id, uses);
  }

  /** To be called when a test has changed published files itself. */
  forgetContents(): void {
    this.contents.clear();
  }

  /** What a published file holds. */
  content(path: string, checksum: number): void {
    const earlier = this.contents.get(path);
    if (earlier === undefined) this.contents.set(path, checksum);
    else if (earlier !== checksum) this.violations.push(`${path} had two contents`);
  }
}

type Blocks = Map<number, Uint8Array>;

/** A snapshot as it must read. */
export interface FrozenDisk {
  readonly name: string;
  readonly sizeBytes: number;
  /** Where its map stands: what a rollback names. */
  map: string;
  readonly blocks: ReadonlyMap<number, Uint8Array>;
}

/** A disk with all that belongs to it. */
export interface DiskState {
  /** null where no commit has said it. */
  sizeBytes: number | null;
  /** Those that differ from zeros. */
  blocks: Blocks;
  /** By id. */
  readonly snapshots: Map<string, FrozenDisk>;
}

interface Commit {
  readonly sequence: number;
  readonly entries: CommitEntry[];
  /** Of writes; what a collector places changes nothing that can be read. */
  readonly blocks: Blocks;
}

export class Timeline {
  private base: DiskState = { sizeBytes: null, blocks: new Map(), snapshots: new Map() };
  private commits: Commit[] = [];
  private settledAt = 0;
  private slotCount = 0;
  /** What the slots of the last commit that are still to come belong to. */
  private expected: SlotEntry['kind'][] = [];

  /** The disk was found in the state before commit `sequence`: the log goes on from there. */
  rewind(sequence: number): void {
    this.commits = this.commits.filter((commit) => commit.sequence < sequence);
  }

  copy(): Timeline {
    const copy = new Timeline();
    copy.base = copyOf(this.base);
    copy.commits = [...this.commits];
    copy.settledAt = this.settledAt;
    return copy;
  }

  /** Whether the state before commit `sequence` can be asked for. */
  knows(sequence: number): boolean {
    return this.settledAt <= sequence;
  }

  /** All blocks that differ from zeros, from the commits before `sequence`. */
  stateBefore(sequence: number): Map<number, Uint8Array> {
    return this.diskBefore(sequence).blocks;
  }

  /** The disk, and its snapshots. */
  diskBefore(sequence: number): DiskState {
    const state = copyOf(this.base);
    for (const commit of this.commits) if (commit.sequence < sequence) apply(state, commit);
    return state;
  }

  /** Number of the commit after the last one that changed the disk as a whole; 0 when there is none. */
  get endOfHeads(): number {
    const last = this.commits.findLast(({ entries }) => entries.some(isStateEntry));
    return last ? last.sequence + 1 : 0;
  }

  /** Nothing before commit `sequence` is asked for any more. */
  settle(sequence: number): void {
    this.base = this.diskBefore(sequence);
    this.settledAt = sequence;
    this.commits = this.commits.filter((commit) => commit.sequence >= sequence);
  }

  /** The disk goes on as another one: a clone. */
  become(state: DiskState): void {
    this.base = copyOf(state);
    this.commits = [];
  }

  note(batch: SlotBatch): void {
    const plain = (index: number): Uint8Array =>
      batch.plain.slice(batch.plainAt[index], batch.plainAt[index]! + batch.plainBytes);
    if (batch.kind === SLOT_KIND.commitHeader) {
      const { sequence, slotCount } = decodeCommitHeader(plain(0));
      // A group that failed is given up, and its commits are written again.
      this.commits = this.commits.filter((commit) => commit.sequence < sequence);
      this.commits.push({ sequence, entries: [], blocks: new Map() });
      this.slotCount = slotCount;
      this.expected = [];
    } else if (batch.kind === SLOT_KIND.commitBody) {
      const entries = decodeCommitBody(plain(0), this.slotCount);
      this.commits.at(-1)!.entries.push(...entries);
      for (const entry of entries.filter(isSlotEntry)) {
        for (let i = 0; i < entry.count; i++) this.expected.push(entry.kind);
      }
    } else if (batch.kind !== SLOT_KIND.root) {
      const { blocks } = this.commits.at(-1)!;
      const kinds = this.expected.splice(0, batch.count);
      for (const [i, kind] of kinds.entries()) {
        if (kind === 'write') blocks.set(batch.numbers[i]!, plain(i));
      }
    }
  }
}

function copyOf({ sizeBytes, blocks, snapshots }: DiskState): DiskState {
  const frozen = [...snapshots].map(([id, each]) => [id, { ...each }] as const);
  return { sizeBytes, blocks: new Map(blocks), snapshots: new Map(frozen) };
}

function apply(state: DiskState, { entries, blocks }: Commit): void {
  for (const entry of entries) {
    if (entry.kind === 'hole') clear(state.blocks, entry.number, entry.number + entry.count);
    else if (isStateEntry(entry)) applyState(state, entry);
  }
  for (const [block, bytes] of blocks) state.blocks.set(block, bytes);
}

function applyState(state: DiskState, entry: StateEntry): void {
  if (entry.kind === 'drop') {
    state.snapshots.delete(toHex(entry.id));
  } else if (entry.kind === 'head') {
    state.sizeBytes = entry.sizeBytes;
    const map = keyOf(entry.map);
    const before = [...state.snapshots.values()].find((snapshot) => snapshot.map === map);
    if (before) state.blocks = new Map(before.blocks);
  } else {
    const { id, name, sizeBytes, map } = entry.snapshot;
    const known = state.snapshots.get(toHex(id));
    if (known) {
      known.map = keyOf(map);
    } else {
      const blocks = new Map(state.blocks);
      state.snapshots.set(toHex(id), { name, sizeBytes, map: keyOf(map), blocks });
    }
  }
}

/** The depth does not matter: a map that was made deeper or less deep is another one. */
function keyOf({ ordinal, position }: MapPointer): string {
  return `${ordinal} ${position}`;
}

export class WatchedEngine implements CryptoEngine {
  constructor(
    readonly inner: CryptoEngine,
    private readonly ledger: Ledger,
    private readonly timeline: Pick<Timeline, 'note'>,
  ) {}

  get name(): EngineName {
    return this.inner.name;
  }

  slotKey(raw: Uint8Array): SlotKey {
    return this.inner.slotKey(raw);
  }

  sealSlots(key: SlotKey, batch: SlotBatch, salt: Uint8Array): void {
    this.watchSeal(key, batch, salt);
    this.inner.sealSlots(key, batch, salt);
  }

  /** For what is laid out now, and encrypted later, by another. */
  watchSeal(key: SlotKey, batch: SlotBatch, salt: Uint8Array): void {
    for (let i = 0; i < batch.count; i++) {
      const at = batch.plainAt[i]!;
      const plain = batch.plain.subarray(at, at + batch.plainBytes);
      const bound = Buffer.from(`${batch.kind} ${batch.numbers[i]!}`);
      this.ledger.nonce('slot', key.raw, `${batch.positions[i]!} ${toHex(salt)}`, plain, bound);
    }
    this.timeline.note(batch);
  }

  openSlots(key: SlotKey, batch: SlotBatch, failed: Uint8Array): number {
    return this.inner.openSlots(key, batch, failed);
  }

  gmac(key: Uint8Array, nonce: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
    this.ledger.nonce('gmac', key, toHex(nonce), ...parts);
    return this.inner.gmac(key, nonce, parts);
  }

  ctr(key: Uint8Array, counter: Uint8Array, bytes: Uint8Array, skipBytes: number): void {
    // What is read back, and may be damaged, is decrypted with the same call.
    if (!isCalledBy(/reconstruct|isPadded/)) this.ledger.stream(key, counter, skipBytes, bytes);
    this.inner.ctr(key, counter, bytes, skipBytes);
  }
}

/** Looks at functions and files of the calls that led here: as text they would cost more than all else. */
function isCalledBy(what: RegExp): boolean {
  const prepare = Object.getOwnPropertyDescriptor(Error, 'prepareStackTrace')!;
  Error.prepareStackTrace = (_, sites) => sites;
  const sites = new Error().stack as unknown as NodeJS.CallSite[];
  Object.defineProperty(Error, 'prepareStackTrace', prepare);
  return sites.some((site) => what.test(`${site.getFunctionName()} ${site.getFileName()}`));
}

function clear(state: Map<number, Uint8Array>, start: number, end: number): void {
  if (end - start < state.size) for (let block = start; block < end; block++) state.delete(block);
  else for (const block of state.keys()) if (block >= start && block < end) state.delete(block);
}
