/**
 * A restore: brings a volume from a remote into an empty folder, with nothing but a credential.
 *
 *   key files -> unlock -> roots -> choose one -> its chunk files -> roots -> key files -> done
 *
 * The newest closed root is taken of which every group has enough members on the remote. What is
 * fetched to be looked at stands below local/ until the chunk files are here and durable; the roots
 * that then open come to roots/, and the key files last: until then the folder is no volume. The file
 * local/restoring says so, and lets an interrupted restore go on where it was.
 */
import { toHex } from '../base/bytes.js';
import { ChunkvolError, isChunkvolError } from '../base/errors.js';
import type { Credential } from '../crypto/key-slot.js';
import { MAX_KEY_FILE_BYTES } from '../format/key-file.js';
import { MAX_ROOT_FILE_BYTES } from '../format/root.js';
import { FOLDERS, type Environment, type StoreContext } from '../store/context.js';
import { unlock, type UnlockedVolume } from '../store/key-files.js';
import { publishFile, readWhole } from '../store/publish.js';
import { chooseRoot, keptRoots, type Choice } from './choice.js';
import { fetchEach, fetchFolder, removeEach } from './fetch.js';
import { RemoteMemory } from './memory.js';
import { sizesOf, totalBytes, type MissingMember } from './plan.js';
import { beginPhase, transferOptions, type Progress, type ProgressOptions } from './progress.js';
import type { Remote, RemoteFile } from './remote.js';
import type { VolumeFolder } from './remotes.js';
import { claimTarget, clearTarget, finishTarget, makeDurable, nameTarget } from './target.js';
import { isOwnKeyFile, knownRoot, listNamed, nameOf, ownRoot, type KnownRoot } from './survey.js';
import { newestGeneration, refuseRollback } from './verdict.js';

export type RestorePhase = 'keys' | 'roots' | 'chunks';

export type RestoreProgress = Progress<RestorePhase>;

export interface RestoreOptions extends ProgressOptions<RestorePhase> {
  readonly credential: Credential;
  /** Refuses to restore a state older than this generation; without it, than the one seen there last. */
  readonly expectGeneration?: number | undefined;
  /** What this machine has seen of remotes, where that is not in its usual place. */
  readonly memory?: RemoteMemory | undefined;
}

export interface RestoreReport {
  readonly url: string;
  readonly folder: string;
  readonly volumeId: string;
  readonly name: string;
  readonly generation: number;
  readonly root: string;
  /** When that root was made. */
  readonly timeMs: number;
  readonly fetchedFiles: number;
  readonly fetchedBytes: number;
  /** Chunk files that have to be rebuilt from the others. */
  readonly missing: readonly MissingMember[];
  /** What the user should know; one line each. */
  readonly notes: readonly string[];
  /** The keys, so that the volume can be opened without asking again. Never to be shown. */
  readonly unlocked: UnlockedVolume;
}

/**
 * The folder must be absent, empty but for local/, or left by an interrupted restore of this volume.
 * Throws ChunkvolError: 'exists' for any other folder, 'not-a-volume' when nothing is there to restore,
 * 'wrong-key' before anything but key files is fetched, 'lost' when no root has what it needs,
 * 'rollback' when all that do are older than expected; 'remote', 'missing-tool', 'interrupted', 'io',
 * 'no-space' as they come.
 */
export async function downloadVolume(
  environment: Environment,
  remote: Remote,
  folder: string,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const { files, clock } = environment;
  const memory = options.memory ?? new RemoteMemory(files);
  await claimTarget({ files, folder }, remote.url);
  const { unlocked, keyFiles } = await fetchKeys({ files, folder }, remote, options);
  const volumeId = unlocked.keyFile.volumeId;
  await nameTarget({ files, folder }, volumeId);
  const context: StoreContext = { ...environment, folder, volumeId, keys: unlocked.keys };

  const roots = await fetchRoots(context, remote, options);
  const notes = await refuseOlder(context, remote, roots, memory, options);
  const chunks = sizesOf(await remote.list(FOLDERS.chunks, options.signal));
  const choice = await chooseRoot(context, remote.url, roots, chunks);
  const seenBefore = await memory.recall(context.volumeId, remote.url);
  refuseOlderChoice(remote, choice, options.expectGeneration ?? seenBefore?.generation ?? 0);

  await clearTarget(context, choice.plan.downloads);
  const missing = await fetchChunks(context, remote, choice, options);
  await install(context, remote, choice, roots, keyFiles);
  await finishTarget(context);
  const seen = { generation: newestGeneration(roots), seenMs: clock.now() };
  await memory.record(volumeId, remote.url, seen).catch((error: unknown) => {
    if (!isChunkvolError(error)) throw error;
    notes.push(`it was not possible to remember what is there: ${error.message}`);
  });
  notes.push(...choice.notes, ...notesOnKeys(choice, unlocked), ...notesOnMissing(missing));
  return report(context, remote, choice, missing, notes, unlocked);
}

/** Fetches the key files and opens one. They stay where they were fetched to. */
async function fetchKeys(
  target: VolumeFolder,
  remote: Remote,
  options: RestoreOptions,
): Promise<{ unlocked: UnlockedVolume; keyFiles: RemoteFile[] }> {
  beginPhase(options, 'keys');
  const { signal } = options;
  const keyFiles = await listNamed(remote, FOLDERS.keys, MAX_KEY_FILE_BYTES, signal);
  if (keyFiles.length === 0) {
    throw new ChunkvolError('not-a-volume', `${remote.url} holds no volume: no key file is there`);
  }
  await fetchEach(target, remote, keyFiles, () => undefined, { keep: true, signal });
  const fetched = fetchFolder(target, remote.url);
  const unlocked = await unlock(target.files, fetched, options.credential).catch(
    (error: unknown) => {
      if (!isChunkvolError(error)) throw error;
      const message = error.message.replaceAll(fetched, remote.url);
      throw new ChunkvolError(error.code, message, { cause: error });
    },
  );
  return { unlocked, keyFiles };
}

/** Fetches all roots there and returns those of the volume; their files stay too. */
async function fetchRoots(
  context: StoreContext,
  remote: Remote,
  options: RestoreOptions,
): Promise<KnownRoot[]> {
  const { signal } = options;
  const files = await listNamed(remote, FOLDERS.roots, MAX_ROOT_FILE_BYTES, signal);
  beginPhase(options, 'roots', totalBytes(files));
  const roots: KnownRoot[] = [];
  const visit = (file: RemoteFile, bytes: Uint8Array | null): void => {
    const root = bytes && ownRoot(context, file, bytes);
    if (root) roots.push(knownRoot(file, root));
  };
  await fetchEach(context, remote, files, visit, { keep: true, signal });
  return roots;
}

/** Returns what is to be said of a remote that this machine does not know. */
async function refuseOlder(
  context: StoreContext,
  remote: Remote,
  roots: readonly KnownRoot[],
  memory: RemoteMemory,
  options: RestoreOptions,
): Promise<string[]> {
  if (roots.length === 0) {
    throw new ChunkvolError('lost', `${remote.url} holds no root of the volume that can be read`);
  }
  const { expectGeneration } = options;
  if (expectGeneration !== undefined) {
    const advice = (): string => 'try another remote, or expect an older generation';
    refuseRollback(remote.url, roots, expectGeneration, advice);
    return [];
  }
  const seen = await memory.recall(context.volumeId, remote.url);
  if (!seen) {
    return [
      `this machine has not seen ${remote.url} before and cannot tell whether the copy there went back in time; --expect-generation can`,
    ];
  }
  refuseRollback(remote.url, roots, seen.generation, (newest) => {
    return `to take that all the same, use --expect-generation ${newest}`;
  });
  return [];
}

/** A state may be there in time and not be whole: a host that keeps a root and drops its files. */
function refuseOlderChoice(remote: Remote, { root, notes }: Choice, expected: number): void {
  if (root.generation >= expected) return;
  throw new ChunkvolError(
    'rollback',
    `the newest whole state on ${remote.url} is generation ${root.generation}, not ${expected} (${notes[0] ?? ''}); try another remote, or take that one with --expect-generation ${root.generation}`,
  );
}

/** Two attempts; then what is missing is left to parity, as far as that goes. */
async function fetchChunks(
  context: StoreContext,
  remote: Remote,
  { groups, plan }: Choice,
  options: RestoreOptions,
): Promise<MissingMember[]> {
  const bytes = totalBytes(plan.downloads);
  beginPhase(options, 'chunks', bytes);
  let wanted = await absentFrom(context, plan.downloads);
  await requireSpace(context, totalBytes(wanted));
  let failure: ChunkvolError | null = null;
  for (let attempt = 0; attempt < 2 && wanted.length > 0; attempt++) {
    const paths = wanted.map((file) => file.path);
    failure = await remote
      .download(context.folder, paths, transferOptions(options, 'chunks', totalBytes(wanted)))
      .then(
        () => null,
        (error: unknown) => {
          if (isChunkvolError(error, 'remote')) return error;
          throw error;
        },
      );
    wanted = await absentFrom(context, wanted);
  }
  const absent = new Set(wanted.map((file) => file.path));
  const missing = groups.flatMap((group) => {
    const ofGroup = group.members.flatMap(({ path }, place) => {
      const gone = absent.has(path) || plan.missing.some((member) => member.path === path);
      return gone ? [{ path, group: group.label, ordinal: group.ordinal, place }] : [];
    });
    if (ofGroup.length <= group.geometry.parity) return ofGroup;
    throw failure ?? incomplete(remote, ofGroup[0]!.path);
  });
  await makeDurable(
    context,
    plan.downloads.filter((file) => !absent.has(file.path)),
  );
  return missing;
}

function incomplete(remote: Remote, path: string): ChunkvolError {
  return new ChunkvolError(
    'remote',
    `${path} did not come whole from ${remote.url}; run the restore again to go on`,
  );
}

async function absentFrom(
  context: StoreContext,
  wanted: readonly RemoteFile[],
): Promise<RemoteFile[]> {
  const absent: RemoteFile[] = [];
  for (const file of wanted) {
    const stat = await context.files.stat(`${context.folder}/${file.path}`);
    if (stat?.bytes !== file.bytes) absent.push(file);
  }
  return absent;
}

async function requireSpace(context: StoreContext, bytes: number): Promise<void> {
  const free = await context.files.freeBytes(context.folder);
  if (free >= bytes) return;
  throw new ChunkvolError(
    'no-space',
    `${context.folder} has room for ${free} bytes, and the volume's files need ${bytes}; free some and run the restore again`,
  );
}

/** Puts the roots that open with what is here into their place, then the key files; and tidies up. */
async function install(
  context: StoreContext,
  remote: Remote,
  choice: Choice,
  roots: readonly KnownRoot[],
  keyFiles: readonly RemoteFile[],
): Promise<void> {
  const { files, folder } = context;
  const fetched = fetchFolder(context, remote.url);
  for (const sub of [FOLDERS.roots, FOLDERS.keys]) await files.makeFolder(`${folder}/${sub}`);
  // The newest root comes last, so that no other one is ever the newest here.
  for (const file of [...(await keptRoots(context, remote.url, choice, roots)), choice.known]) {
    const bytes = await readWhole(files, `${fetched}/${file.path}`, file.bytes);
    if (bytes) await publishFile(files, `${folder}/${FOLDERS.roots}`, nameOf(file), bytes);
  }
  for (const file of keyFiles) {
    const bytes = await readWhole(files, `${fetched}/${file.path}`, file.bytes);
    if (!bytes || !isOwnKeyFile(context, file, bytes)) continue;
    await publishFile(files, `${folder}/${FOLDERS.keys}`, nameOf(file), bytes);
  }
  await removeEach(
    context,
    fetched,
    [...roots, ...keyFiles].map((file) => file.path),
  );
}

function notesOnKeys({ root }: Choice, { keyFile }: UnlockedVolume): string[] {
  if (keyFile.counter >= root.keyCounter) return [];
  return [
    'the key file there is older than the volume: passphrases changed or removed since then may count there as before',
  ];
}

function notesOnMissing(missing: readonly MissingMember[]): string[] {
  if (missing.length === 0) return [];
  return [`${missing.length} chunk files could not be had and have to be rebuilt from the others`];
}

function report(
  context: StoreContext,
  remote: Remote,
  { known, root, plan }: Choice,
  missing: readonly MissingMember[],
  notes: readonly string[],
  unlocked: UnlockedVolume,
): RestoreReport {
  const absent = new Set(missing.map((member) => member.path));
  const fetched = plan.downloads.filter((file) => !absent.has(file.path));
  return {
    url: remote.url,
    folder: context.folder,
    volumeId: toHex(context.volumeId),
    name: root.name,
    generation: root.generation,
    root: nameOf(known),
    timeMs: root.timeMs,
    fetchedFiles: fetched.length,
    fetchedBytes: totalBytes(fetched),
    missing,
    notes,
    unlocked,
  };
}
