/**
 * Makes a writable volume of a snapshot, in a folder of its own, with the same keys.
 *
 * Sealed chunk files never change, so the two volumes share them where the file system has hard links,
 * and have a copy each elsewhere. What the clone writes goes to groups of its own: it is another writer
 * on an old map, as a copy made by hand would be, and to a remote of the original it is a fork.
 *
 * The key files come last: until then the folder is no volume.
 */
import { ChunkvolError } from '../base/errors.js';
import { MAX_KEY_FILE_BYTES } from '../format/key-file.js';
import type { Root } from '../format/root.js';
import type { Snapshot } from '../format/snapshot.js';
import {
  chunkFolder,
  FOLDERS,
  keyFolder,
  NAME_PATTERN,
  rootFolder,
  type StoreContext,
} from '../store/context.js';
import { copyFile } from '../store/copy-file.js';
import { rootEntry, type Group } from '../store/group.js';
import { statMember } from '../store/member-stat.js';
import { publishFile, readWhole } from '../store/publish.js';
import { publishRoot, sealRoot } from '../store/root-files.js';
import { writeIdentity } from './identity.js';
import type { Volume } from './volume.js';

export interface CloneOptions {
  /** The new volume's name; unless told, that of the original. */
  readonly name?: string;
  readonly signal?: AbortSignal;
}

/**
 * `folder` must be empty or absent; when this throws, nothing of the clone is left in it. Throws
 * 'not-found', 'exists', 'lost', 'interrupted', 'io', 'no-space'.
 */
export async function cloneSnapshot(
  volume: Volume,
  name: string,
  folder: string,
  options: CloneOptions = {},
): Promise<void> {
  const { files } = volume.context;
  if ((await files.list(folder)).length > 0) {
    throw new ChunkvolError(
      'exists',
      `${folder} is not empty; give a folder that is, or a new one`,
    );
  }
  const letDelete = volume.holdDeletion();
  try {
    const { root, snapshot, groups } = await sealedContent(volume, name, options.signal);
    const clone = new Clone(volume.context, folder, options.signal);
    await clone.make(cloneRoot(volume.context, root, snapshot, groups, options.name), groups);
  } finally {
    letDelete();
  }
}

/**
 * A collector may bring parts of the snapshot to the open group at any time, or to one that the root does
 * not know yet, whose ordinal it would give away again: then all is sealed once more.
 */
async function sealedContent(
  volume: Volume,
  name: string,
  signal?: AbortSignal,
): Promise<{ root: Root; snapshot: Snapshot; groups: Group[] }> {
  for (;;) {
    const { root } = await volume.sealNow();
    const { snapshot, groups } = await volume.contentOf(name, signal);
    const isKnown = ({ state, ordinal }: Group): boolean =>
      state === 'sealed' && ordinal < root.nextOrdinal;
    if (groups.every(isKnown)) return { root, snapshot, groups };
  }
}

class Clone {
  private readonly target: StoreContext;
  private readonly made: string[] = [];

  constructor(
    private readonly source: StoreContext,
    folder: string,
    private readonly signal: AbortSignal | undefined,
  ) {
    this.target = { ...source, folder };
  }

  async make(root: Root, groups: readonly Group[]): Promise<void> {
    const { files, keys, random } = this.source;
    const { folder } = this.target;
    for (const each of ['', ...Object.values(FOLDERS)]) await files.makeFolder(`${folder}/${each}`);
    try {
      for (const group of groups) await this.takeGroup(group);
      await files.syncFolder(chunkFolder(this.target));
      const name = await publishRoot(this.target, root, sealRoot(keys, random, root));
      this.made.push(`${rootFolder(this.target)}/${name}`);
      await writeIdentity(this.source, folder);
      this.made.push(`${folder}/${FOLDERS.local}/identity`);
      await this.takeKeys();
      await files.syncFolder(folder);
    } catch (error) {
      for (const path of this.made) await files.remove(path).catch(() => undefined);
      throw error;
    }
  }

  /** Members that are missing here are missing there too: the clone is as healthy as the original. */
  private async takeGroup(group: Group): Promise<void> {
    const { files } = this.source;
    for (const path of group.paths) {
      if (this.signal?.aborted) throw new ChunkvolError('interrupted', 'the clone was interrupted');
      if (!(await statMember(files, path))) continue;
      const to = `${chunkFolder(this.target)}/${path.slice(path.lastIndexOf('/') + 1)}`;
      this.made.push(to);
      if (!(await files.link(path, to))) await copyFile(files, path, to);
    }
  }

  private async takeKeys(): Promise<void> {
    const { files } = this.source;
    const from = keyFolder(this.source);
    for (const name of (await files.list(from)).filter((each) => NAME_PATTERN.test(each))) {
      const bytes = await readWhole(files, `${from}/${name}`, MAX_KEY_FILE_BYTES);
      if (!bytes) continue;
      this.made.push(`${keyFolder(this.target)}/${name}`);
      await publishFile(files, keyFolder(this.target), name, bytes);
    }
  }
}

/** The first root of the clone: its log goes on behind no group, with the commit that would be next here. */
function cloneRoot(
  context: StoreContext,
  base: Root,
  { sizeBytes, mappedBlocks, map }: Snapshot,
  groups: readonly Group[],
  name = base.name,
): Root {
  const session = context.random.bytes(16);
  const generation = base.generation + 1;
  const timeMs = context.clock.now();
  const { lineage } = base;
  return {
    ...base,
    closed: true,
    session,
    generation,
    name,
    sizeBytes,
    mappedBlocks,
    map,
    createdMs: timeMs,
    timeMs,
    groups: groups.map(rootEntry),
    tail: { ...base.tail, ordinal: 0, address: 0, durableUpTo: base.tail.sequence - 1 },
    writtenBytes: 0,
    loggedBytes: 0,
    snapshots: [],
    // No root was made before a session began that began at 0: all of the original are forks to the clone.
    lineage: {
      ...lineage,
      entries: [...lineage.entries, { session }].map((entry) => ({ ...entry, firstGeneration: 0 })),
    },
  };
}
