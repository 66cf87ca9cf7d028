/**
 * Scrub and repair of a volume that does not open in its newest state, because more is missing than it can do
 * without: on the groups of its newest closed root alone. After a repair the volume must open.
 */
import { MAX_ROOT_FILE_BYTES, type Root } from '../format/root.js';
import { FOLDERS, type StoreContext } from '../store/context.js';
import { groupOfRoot, type Group } from '../store/group.js';
import { isWhole } from '../store/member-stat.js';
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

/** null when there is no closed root to go by; `why` the volume does not open. Throws all that mending throws. */
export async function mendClosed(
  held: HeldVolume,
  name: MendingName,
  args: object,
  why: string,
  context: OperationContext,
): Promise<ScrubOutcome | null> {
  const { from } = { from: null, ...(args as Partial<RepairArguments>) };
  const store = storeContext(held);
  const root = await newestClosedRoot(store, from === null ? null : openRemote(from), context);
  if (!root) return null;
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
    if (name === 'scrub') {
      const outcome = await runScrub(host, context);
      // With all of its groups here that root would do: what is missing came after it.
      return { ...outcome, shut: (await areWhole(store, groups)) ? why : null };
    }
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
): Promise<Root | null> {
  const here = await closedRootHere(store);
  if (here) return here;
  if (remote) await fetchRoots(store, remote, context);
  return remote && closedRootHere(store);
}

async function closedRootHere(store: StoreContext): Promise<Root | null> {
  const { roots } = await readRoots(store);
  return roots.find(({ root }) => root.closed)?.root ?? null;
}

async function areWhole(store: StoreContext, groups: readonly Group[]): Promise<boolean> {
  for (const group of groups) if (!(await isWhole(store, group))) return false;
  return true;
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
