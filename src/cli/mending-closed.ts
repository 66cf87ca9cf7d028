/**
 * Scrub and repair of a volume that does not open, because more is missing than it can do without:
 * on the groups of its newest closed root alone. After a repair the volume must open.
 */
import { ChunkvolError } from '../base/errors.js';
import { MAX_ROOT_FILE_BYTES, type Root } from '../format/root.js';
import { FOLDERS, type StoreContext } from '../store/context.js';
import { groupOfRoot } from '../store/group.js';
import { OpenFiles } from '../store/open-files.js';
import { publishFile, readWhole } from '../store/publish.js';
import { readRoots } from '../store/root-files.js';
import { SlotReader } from '../store/slot-reader.js';
import { openRemote } from '../sync/open-remote.js';
import type { Remote } from '../sync/remote.js';
import { listNamed, nameOf, ownRoot } from '../sync/survey.js';
import type { OperationContext } from './control-server.js';
import { runRepair, runScrub, type MendingHost, type ScrubOutcome } from './mending.js';
import type { RepairArguments } from './operations.js';
import type { HeldVolume } from './session.js';

export type MendingName = 'scrub' | 'repair';

/** Throws ChunkvolError('lost') when there is no closed root to go by, and all that mending throws. */
export async function mendClosed(
  held: HeldVolume,
  name: MendingName,
  args: object,
  context: OperationContext,
): Promise<ScrubOutcome> {
  const { from } = { from: null, ...(args as Partial<RepairArguments>) };
  const store = storeContext(held);
  const root = await newestClosedRoot(store, from === null ? null : openRemote(from), context);
  const openFiles = new OpenFiles(store.files);
  const groups = root.groups.map((entry) => groupOfRoot(store, entry));
  const host: MendingHost = {
    context: store,
    unlocked: held.unlocked,
    slots: new SlotReader(store, openFiles, false),
    groups: () => groups,
    lostRanges: null,
  };
  try {
    if (name === 'scrub') return await runScrub(host, context);
    return await runRepair(host, { from }, context);
  } finally {
    await openFiles.closeAll();
  }
}

function storeContext({ environment, folder, unlocked }: HeldVolume): StoreContext {
  const { keys, keyFile } = unlocked;
  return { ...environment, folder, volumeId: keyFile.volumeId, keys };
}

async function newestClosedRoot(
  store: StoreContext,
  remote: Remote | null,
  context: OperationContext,
): Promise<Root> {
  const here = await closedRootHere(store);
  if (here) return here;
  if (remote) await fetchRoots(store, remote, context);
  const fetched = remote && (await closedRootHere(store));
  if (fetched) return fetched;
  throw new ChunkvolError(
    'lost',
    `no closed root of the volume in ${store.folder} can be read; run chunkvol repair --from a remote`,
  );
}

async function closedRootHere(store: StoreContext): Promise<Root | undefined> {
  const { roots } = await readRoots(store);
  return roots.find(({ root }) => root.closed)?.root;
}

async function fetchRoots(
  store: StoreContext,
  remote: Remote,
  { signal }: OperationContext,
): Promise<void> {
  const staging = `${store.folder}/${FOLDERS.local}/fetched-repair`;
  const files = await listNamed(remote, FOLDERS.roots, MAX_ROOT_FILE_BYTES, signal);
  const paths = files.map((file) => file.path);
  await remote.download(staging, paths, { signal });
  await store.files.makeFolder(`${store.folder}/${FOLDERS.roots}`);
  for (const file of files) {
    const bytes = await readWhole(store.files, `${staging}/${file.path}`, file.bytes);
    if (bytes && ownRoot(store, file, bytes)) {
      await publishFile(store.files, `${store.folder}/${FOLDERS.roots}`, nameOf(file), bytes);
    }
    await store.files.remove(`${staging}/${file.path}`);
  }
}
