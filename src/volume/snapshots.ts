/**
 * Snapshots, rollback and change of size: what changes the disk as a whole.
 *
 * Each is one commit of state entries, appended when everything before it is durable. The maps that
 * the entries name are in the log by then, so that a recovery that reads the commit finds them. Nothing
 * is copied: a snapshot is the pointer of the map that there was.
 */
import { toHex } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import { mapDepth } from '../format/map-node.js';
import type { StateEntry } from '../format/commit.js';
import { MAX_NAME_BYTES, SNAPSHOT_ID_BYTES, type Snapshot } from '../format/snapshot.js';
import type { Checkpointer } from './checkpoint.js';
import { checkSize } from './create.js';
import { MAX_SNAPSHOTS } from './limits.js';
import type { LogEnd } from './log-end.js';
import type { WritePath } from './write-path.js';

/** State entries of one commit. */
const MAX_ENTRIES = 64;

export interface SnapshotInfo {
  /** 16 hexadecimal digits. */
  readonly id: string;
  readonly name: string;
  readonly timeMs: number;
  readonly sizeBytes: number;
  readonly mappedBytes: number;
}

export class Snapshots {
  constructor(
    private readonly end: LogEnd,
    private readonly checkpointer: Checkpointer,
    private readonly writePath: WritePath,
  ) {}

  /** The oldest first. */
  list(): SnapshotInfo[] {
    return this.end.parts.heads.snapshots.map((snapshot) => this.infoOf(snapshot));
  }

  /** Throws 'not-found'. */
  get(name: string): Snapshot {
    const found = this.end.parts.heads.named(name);
    if (found) return found;
    throw new ChunkvolError(
      'not-found',
      `there is no snapshot ${quoted(name)}; chunkvol snapshot list names those that there are`,
    );
  }

  /** Throws 'usage' for an impossible name, 'exists'. */
  create(name: string): Promise<SnapshotInfo> {
    this.checkNew(name);
    return this.writePath.settled(async () => {
      this.checkNew(name);
      const snapshot = await this.present(name);
      await this.append([{ kind: 'snapshot', snapshot }]);
      return this.infoOf(snapshot);
    });
  }

  /** All of them, or none. Throws 'not-found'. */
  delete(names: readonly string[]): Promise<void> {
    return this.writePath.exclusively(async () => {
      const all = [...new Set(names)].map((name) => this.get(name));
      for (let at = 0; at < all.length; at += MAX_ENTRIES) {
        const some = all.slice(at, at + MAX_ENTRIES);
        await this.append(some.map(({ id }) => ({ kind: 'drop', id })));
      }
    });
  }

  /**
   * The disk becomes what it was; what it is now is kept as a snapshot, which is returned. Nobody may use
   * the disk meanwhile. Throws 'not-found', 'usage', 'exists'.
   */
  rollback(name: string, keepAs: string): Promise<SnapshotInfo> {
    this.get(name);
    this.checkNew(keepAs);
    return this.writePath.settled(async () => {
      this.checkNew(keepAs);
      const before = await this.present(keepAs);
      const { sizeBytes, mappedBlocks, map } = this.get(name);
      await this.append([
        { kind: 'snapshot', snapshot: before },
        { kind: 'head', sizeBytes, mappedBlocks, map },
      ]);
      return this.infoOf(before);
    });
  }

  /** The caller keeps writers away from what is cut off. Throws 'usage'. */
  resize(sizeBytes: number): Promise<void> {
    const { blockBytes } = this.end.parts.roots.facts;
    checkSize(sizeBytes, blockBytes);
    return this.writePath.settled(async () => {
      const { map, heads } = this.end.parts;
      if (sizeBytes === heads.sizeBytes) return;
      await this.refuseMapped(sizeBytes);
      const depth = mapDepth(sizeBytes / blockBytes);
      map.deepen(depth);
      await this.checkpointer.settleMap();
      const pointer = await map.pointerOf(depth);
      const { mappedBlocks } = map;
      await this.append([{ kind: 'head', sizeBytes, mappedBlocks, map: pointer }]);
    });
  }

  /** The state entries in a commit of their own, durable. They are in effect even if this throws. */
  async append(entries: readonly StateEntry[]): Promise<void> {
    const pieces = this.end.parts.log.recordPieces(entries);
    this.end.append(await this.checkpointer.writerFor(pieces, 0), entries);
    await this.end.makeDurable();
  }

  /** The disk as it is, under a name. */
  private async present(name: string): Promise<Snapshot> {
    const { context, map, heads } = this.end.parts;
    await this.checkpointer.settleMap();
    return {
      id: context.random.bytes(SNAPSHOT_ID_BYTES),
      name,
      timeMs: context.clock.now(),
      sizeBytes: heads.sizeBytes,
      mappedBlocks: map.mappedBlocks,
      map: map.root,
    };
  }

  private checkNew(name: string): void {
    checkSnapshotName(name);
    const { heads } = this.end.parts;
    if (heads.named(name)) {
      throw new ChunkvolError('exists', `there is a snapshot ${quoted(name)} already`);
    }
    if (heads.snapshots.length >= MAX_SNAPSHOTS) {
      const message = `there are ${MAX_SNAPSHOTS} snapshots already; delete some of them`;
      throw new ChunkvolError('usage', message);
    }
  }

  private async refuseMapped(sizeBytes: number): Promise<void> {
    const { map, heads, roots } = this.end.parts;
    const { blockBytes } = roots.facts;
    const end = heads.sizeBytes / blockBytes;
    const first = await map.firstMapped(sizeBytes / blockBytes, end);
    if (first === null) return;
    const last = (await map.lastMapped(end)) ?? first;
    throw new ChunkvolError(
      'usage',
      `bytes ${first * blockBytes} to ${(last + 1) * blockBytes - 1} hold data beyond the new size; ` +
        'shrink the file system and discard what is behind it, or choose a larger size',
    );
  }

  private infoOf({ id, name, timeMs, sizeBytes, mappedBlocks }: Snapshot): SnapshotInfo {
    const { blockBytes } = this.end.parts.roots.facts;
    return { id: toHex(id), name, timeMs, sizeBytes, mappedBytes: mappedBlocks * blockBytes };
  }
}

/** Throws 'usage' for what cannot be a snapshot's name. */
export function checkSnapshotName(name: string): void {
  const problem = nameProblem(name);
  if (problem === null) return;
  throw new ChunkvolError('usage', `${quoted(name)} cannot name a snapshot: ${problem}`);
}

function nameProblem(name: string): string | null {
  if (name === '') return 'it is empty';
  const bytes = Buffer.byteLength(name, 'utf8');
  if (bytes > MAX_NAME_BYTES) return `it has ${bytes} bytes, and ${MAX_NAME_BYTES} is the most`;
  if (name === '.' || name === '..') return 'it means a folder';
  if (/[@/]/.test(name)) return 'it has an @ or a / in it';
  if (/[\p{Cc}\p{Cs}\u2028\u2029]/u.test(name)) return 'it has a control character in it';
  return name.trim() === name ? null : 'it starts or ends with a space';
}

/** For a message: not longer than a line can bear, and without what a terminal would act on. */
function quoted(name: string): string {
  const shown = name.length > 60 ? `${name.slice(0, 60)}…` : name;
  return `"${shown.replace(/[\p{Cc}\p{Cs}]/gu, '?')}"`;
}
