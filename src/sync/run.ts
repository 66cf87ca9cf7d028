/**
 * A sync: brings a remote to the newest closed root of a volume, while the disk is in use.
 *
 *   survey -> refuse what is not ours -> seal, pin -> chunk files -> key files -> look again -> root ->
 *   read root and key files back, also where nothing had to be copied
 *
 * The root goes last and alone, after everything that it needs has been seen there. So an interruption
 * at any point leaves the roots there as whole as they were, and running again finishes the job: names
 * are never reused, and what is there with the right size is not copied twice. Nothing is deleted but
 * key files that we put there ourselves and have replaced since. One sync to a remote at a time.
 */
import { equalBytes } from '../base/bytes.js';
import { ChunkvolError, errorMessage, isChunkvolError } from '../base/errors.js';
import type { Origin } from '../format/root.js';
import { FOLDERS, type StoreContext } from '../store/context.js';
import type { Group } from '../store/group.js';
import { decodeOwn, lockKeyFiles, ownKeyFiles, publishKeyFile } from '../store/key-files.js';
import { statMember } from '../store/member-stat.js';
import { readRoots, type RootFile } from '../store/root-files.js';
import { fetchEach } from './fetch.js';
import { RemoteMemory } from './memory.js';
import {
  neededGroups,
  planSync,
  sizesOf,
  totalBytes,
  type NeededGroup,
  type Sizes,
} from './plan.js';
import { beginPhase, transferOptions, type Progress, type ProgressOptions } from './progress.js';
import type { Remote, RemoteFile } from './remote.js';
import { readRemoteBook, receiptOf, writeReceipt, type SyncReceipt } from './remotes.js';
import {
  copiedFiles,
  neededBytes,
  reportOn,
  unsealedBytes,
  type SyncReport,
  type SyncWork,
} from './report.js';
import { isOwnKeyFile, localKeyFile, nameOf, surveyRemote, type Survey } from './survey.js';
import {
  newestGeneration,
  refuseFork,
  refuseLoss,
  refuseRollback,
  strangersTo,
} from './verdict.js';

/** What a sync needs of an open volume. */
export interface SyncSource {
  readonly context: StoreContext;
  /**
   * Seals what has been written so far and returns the newest closed root, which stays, with all that it
   * names, until `release` is called. Its generation is above the one that is given.
   */
  sealAndPin(aboveGeneration: number): Promise<{ root: RootFile; release: () => void }>;
  /**
   * What the present state came out of. It is asked, and not the folder: while the newest root there cannot
   * be read, what was synced of it would look like another copy's.
   */
  origin(): Origin;
  /** All groups of the present state. */
  groups(): readonly Group[];
}

export type SyncPhase = 'survey' | 'seal' | 'chunks' | 'keys' | 'root';

export type SyncProgress = Progress<SyncPhase>;

export interface SyncOptions extends ProgressOptions<SyncPhase> {
  /** Says what would be copied; seals nothing and changes nothing there. */
  readonly dryRun?: boolean | undefined;
  /** Goes on although another copy of the volume has been synced there. */
  readonly acceptFork?: boolean | undefined;
  /** Goes on although the remote is older than it was. */
  readonly acceptRollback?: boolean | undefined;
  /** What this machine has seen of remotes, where that is not in its usual place. */
  readonly memory?: RemoteMemory | undefined;
}

/**
 * Throws ChunkvolError: 'usage', 'remote-foreign', 'fork', 'rollback' before anything is changed; 'lost' when a
 * group has lost more than parity can replace; 'damaged' without a key file; 'remote', 'missing-tool',
 * 'interrupted', 'io', 'no-space' as they come.
 */
export async function runSync(
  source: SyncSource,
  remote: Remote,
  options: SyncOptions = {},
): Promise<SyncReport> {
  const { context } = source;
  const memory = options.memory ?? new RemoteMemory(context.files);
  const receipt = receiptOf(await readRemoteBook(context), remote.url);
  return new SyncRun(source, remote, options, memory, receipt).run();
}

class SyncRun {
  private readonly context: StoreContext;
  private readonly notes: string[] = [];

  constructor(
    private readonly source: SyncSource,
    private readonly remote: Remote,
    private readonly options: SyncOptions,
    private readonly memory: RemoteMemory,
    private readonly receipt: SyncReceipt | null,
  ) {
    this.context = source.context;
  }

  async run(): Promise<SyncReport> {
    beginPhase(this.options, 'survey');
    await this.refuseOwnFolder();
    const before = await this.survey();
    await this.refuseOlder(before);
    this.refuseOthers(before, this.source.origin());
    if (this.options.dryRun === true) return this.planOnly(before);
    beginPhase(this.options, 'seal');
    const others = strangersTo(before.roots, this.source.origin());
    if (others.length > 0) await this.outrankKeys(before);
    const { root, release } = await this.source.sealAndPin(newestGeneration(others));
    try {
      return await this.copy(before, root);
    } finally {
      release();
    }
  }

  /** The volume's own folder, by whatever path, holds all that it needs, and is no copy. */
  private async refuseOwnFolder(): Promise<void> {
    const { files, folder } = this.context;
    const { url } = this.remote;
    if (!url.startsWith('/')) return;
    const [here, there] = await Promise.all([files.stat(folder), files.stat(url)]);
    if (here === null || here.inode !== there?.inode || here.device !== there.device) return;
    throw new ChunkvolError('usage', `${url} is the volume itself; name another folder to sync to`);
  }

  private async copy(before: Survey, head: RootFile): Promise<SyncReport> {
    const work = await this.prepare(before, head);
    await this.copyFiles(work);
    const after = await this.publishRoot(work, before);
    await this.writeDown(work, after);
    const removedKeyFiles = await this.removeOldKeys(work, after);
    return this.report(work, removedKeyFiles, 0);
  }

  private async planOnly(survey: Survey): Promise<SyncReport> {
    const { roots } = await readRoots(this.context);
    const head = roots.find(({ root }) => root.closed);
    if (!head) {
      throw new ChunkvolError(
        'damaged',
        `there is no closed root in ${this.context.folder}/${FOLDERS.roots} to plan with; sync without --dry-run`,
      );
    }
    const work = await this.prepare(survey, head);
    return this.report(work, 0, unsealedBytes(this.source.groups(), head));
  }

  private survey(): Promise<Survey> {
    return surveyRemote(this.context, this.remote, this.options.signal);
  }

  private async refuseOlder({ roots }: Survey): Promise<void> {
    const { url } = this.remote;
    const seen = await this.memory.recall(this.context.volumeId, url);
    if (!seen && !this.receipt && roots.length > 0) {
      this.notes.push(
        `this machine has not seen ${url} before and cannot tell whether the copy there went back in time`,
      );
    }
    if (this.options.acceptRollback === true) return;
    const seenGeneration = Math.max(seen?.generation ?? 0, this.receipt?.generation ?? 0);
    const advice = 'find out why, or use --accept-rollback';
    refuseRollback(url, roots, seenGeneration, () => advice);
  }

  private refuseOthers({ roots }: Survey, head: Origin): void {
    if (this.options.acceptFork === true) return;
    refuseFork(this.remote.url, roots, head, this.receipt?.acceptedRoots ?? []);
  }

  /**
   * Where another copy's states are accepted, a restore takes ours for the newest, and must open it with our
   * passphrases: those of the other copy's key file would be all that count if it had the higher counter.
   */
  private async outrankKeys({ keys: there }: Survey): Promise<void> {
    const { files, folder, keys } = this.context;
    const counters = new Map<string, number>();
    const note = (file: RemoteFile, bytes: Uint8Array | null): void => {
      const theirs = bytes && decodeOwn(keys, bytes);
      if (theirs) counters.set(nameOf(file), theirs.counter);
    };
    const { signal } = this.options;
    const listed = [...there].map(([path, bytes]) => ({ path, bytes }));
    await fetchEach(this.context, this.remote, listed, note, { signal });
    const lock = await lockKeyFiles(files, folder);
    try {
      const [ours] = await ownKeyFiles(this.context);
      if (!ours) return;
      counters.delete(ours.name);
      const highest = Math.max(0, ...counters.values());
      if (highest < ours.file.counter) return;
      await publishKeyFile(files, folder, keys, { ...ours.file, counter: highest + 1 });
    } finally {
      await lock.release();
    }
  }

  /** Compares what `head` needs with what is here and there. */
  private async prepare(survey: Survey, head: RootFile): Promise<PreparedWork> {
    this.refuseOthers(survey, head.root);
    const keyFile = await localKeyFile(this.context);
    if (!keyFile) {
      throw new ChunkvolError(
        'damaged',
        `there is no whole key file in ${this.context.folder}/${FOLDERS.keys}, and no copy opens without one; run chunkvol repair`,
      );
    }
    const groups = neededGroups(this.context, head.root);
    const local = await this.localSizes(groups);
    const chunks = await this.remote.list(FOLDERS.chunks, this.options.signal);
    const plan = planSync(groups, local, sizesOf(chunks));
    refuseLoss(this.remote.url, plan);
    const rootFile = rootFileOf(head);
    return {
      head,
      groups,
      local,
      plan,
      keyFile,
      keyUploads: survey.keys.get(keyFile.path) === keyFile.bytes ? [] : [keyFile],
      rootUploads: survey.rootFiles.get(rootFile.path) === rootFile.bytes ? [] : [rootFile],
    };
  }

  private async localSizes(groups: readonly NeededGroup[]): Promise<Sizes> {
    const sizes = new Map<string, number>();
    for (const { path } of groups.flatMap((group) => group.members)) {
      const stat = await statMember(this.context.files, `${this.context.folder}/${path}`);
      if (stat) sizes.set(path, stat.bytes);
    }
    return sizes;
  }

  private async copyFiles({ plan, keyUploads, groups, local }: PreparedWork): Promise<void> {
    await this.upload('chunks', plan.uploads);
    await this.upload('keys', keyUploads);
    if (plan.uploads.length === 0) return;
    const chunks = sizesOf(await this.remote.list(FOLDERS.chunks, this.options.signal));
    this.requireArrival(planSync(groups, local, chunks).uploads);
  }

  private requireArrival([absent]: readonly RemoteFile[]): void {
    if (!absent) return;
    throw new ChunkvolError(
      'remote',
      `${absent.path} is not on ${this.remote.url} as it was copied there; run chunkvol sync again`,
    );
  }

  /** Puts the root there, and returns what was there before it. */
  private async publishRoot(work: PreparedWork, before: Survey): Promise<Survey> {
    const { head, keyUploads, rootUploads } = work;
    const complete = keyUploads.length + rootUploads.length === 0;
    const vital = [work.keyFile, rootFileOf(head)];
    const isKnown = complete && this.receipt?.root === head.name;
    if (isKnown && (await this.damagedThere(vital, head)).length === 0) return before;
    // Long copying may have given another copy the time to sync to the same place.
    const latest = await this.survey();
    this.refuseOthers(latest, head.root);
    this.requireArrival(keyUploads.filter((file) => latest.keys.get(file.path) !== file.bytes));
    await this.upload('root', rootUploads);
    const damaged = await this.damagedThere(vital, head);
    if (damaged.length === 0) return latest;
    // The size is right and the bytes are not: as it stands, no transfer would replace them.
    const paths = damaged.map((file) => file.path);
    await this.remote.remove(paths, this.options.signal);
    await this.upload('root', damaged);
    this.requireArrival(await this.damagedThere(damaged, head));
    for (const path of paths) this.notes.push(`${path} was damaged there, and is whole again`);
    return latest;
  }

  /**
   * Those of the files that do not read back as they are here. Without the root or a key file nothing of
   * the copy opens, and no parity stands in for them.
   */
  private async damagedThere(
    files: readonly RemoteFile[],
    head: RootFile,
  ): Promise<readonly RemoteFile[]> {
    const damaged: RemoteFile[] = [];
    const rootPath = rootFileOf(head).path;
    const compare = (file: RemoteFile, bytes: Uint8Array | null): void => {
      const isRoot = file.path === rootPath;
      const isRight = (found: Uint8Array): boolean =>
        isRoot ? equalBytes(found, head.bytes) : isOwnKeyFile(this.context, file, found);
      if (bytes === null || !isRight(bytes)) damaged.push(file);
    };
    const { signal } = this.options;
    await fetchEach(this.context, this.remote, files, compare, { signal });
    return damaged;
  }

  private async upload(phase: SyncPhase, files: readonly RemoteFile[]): Promise<void> {
    const bytes = totalBytes(files);
    beginPhase(this.options, phase, bytes);
    if (files.length === 0) return;
    const paths = files.map((file) => file.path);
    const options = transferOptions(this.options, phase, bytes);
    await this.remote.upload(this.context.folder, paths, options);
  }

  /** The copy is complete by now: what fails from here on is told, and undoes nothing. */
  private async writeDown(work: PreparedWork, survey: Survey): Promise<void> {
    const { generation } = work.head.root;
    const { url } = this.remote;
    const seenMs = this.context.clock.now();
    const earlierKeys = this.receipt?.keyFiles ?? [];
    const oldKeys = earlierKeys.filter((name) => survey.keys.has(`${FOLDERS.keys}/${name}`));
    const receipt: SyncReceipt = {
      url,
      timeMs: seenMs,
      generation,
      root: work.head.name,
      copiedBytes: totalBytes(copiedFiles(work)),
      neededBytes: neededBytes(work),
      keyFiles: [...new Set([nameOf(work.keyFile), ...oldKeys])],
      acceptedRoots: strangersTo(survey.roots, work.head.root).map(nameOf),
    };
    await this.attempt('write its receipt', () => writeReceipt(this.context, receipt));
    const newest = Math.max(generation, newestGeneration(survey.roots));
    await this.attempt('remember what is there', () =>
      this.memory.record(this.context.volumeId, url, { generation: newest, seenMs }),
    );
  }

  /** Removes key files that we put there and that a newer one has replaced here. Returns their number. */
  private async removeOldKeys({ keyFile }: PreparedWork, survey: Survey): Promise<number> {
    const old = (this.receipt?.keyFiles ?? [])
      .map((name) => `${FOLDERS.keys}/${name}`)
      .filter((path) => survey.keys.has(path) && path !== keyFile.path);
    if (old.length === 0) return 0;
    const removed = await this.attempt('remove key files that old passphrases open', () =>
      this.remote.remove(old, this.options.signal),
    );
    return removed ? old.length : 0;
  }

  private async attempt(what: string, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!isChunkvolError(error)) throw error;
      this.notes.push(
        `the copy is complete, but it was not possible to ${what}: ${errorMessage(error)}`,
      );
      return false;
    }
  }

  private report(work: SyncWork, removedKeyFiles: number, unsealed: number): SyncReport {
    return reportOn(work, {
      url: this.remote.url,
      dryRun: this.options.dryRun === true,
      unsealedBytes: unsealed,
      removedKeyFiles,
      notes: this.notes,
    });
  }
}

/** A sync's work, with what it was planned from. */
interface PreparedWork extends SyncWork {
  readonly groups: readonly NeededGroup[];
  readonly local: Sizes;
  /** The one here: it is there when its upload is over. */
  readonly keyFile: RemoteFile;
}

function rootFileOf(head: RootFile): RemoteFile {
  return { path: `${FOLDERS.roots}/${head.name}`, bytes: head.bytes.length };
}
