/**
 * Bringing back closed roots from the replicas that sealed groups carry.
 *
 * The newest two replicas are enough: a root that is not among the newest closed ones is there for
 * comfort, and no group is kept for the sake of an older replica. Closed roots that are larger than a
 * group would bear have none: what is older than two that are there is left alone.
 */
import { isChunkvolError } from '../base/errors.js';
import type { RootReplica } from '../format/footer.js';
import type { StoreContext } from '../store/context.js';
import type { Group } from '../store/group.js';
import { readGroupManifest } from '../store/member-check.js';
import { openRoot, publishRoot, readRoots } from '../store/root-files.js';
import { readRootReplica } from '../store/root-replica.js';
import type { SlotReader } from '../store/slot-reader.js';
import { sealedOnly } from './scrub.js';

const REPLICAS = 2;

export interface RootRepair {
  /** Names of the roots that were published again. */
  readonly restored: readonly string[];
  /** Generations that roots/ lacks and whose replica cannot be read. */
  readonly lostGenerations: readonly number[];
}

interface FoundReplica {
  readonly group: Group;
  readonly replica: RootReplica;
}

/** Makes sure that the roots of the newest two replicas are in roots/. */
export async function repairRoots(
  context: StoreContext,
  groups: readonly Group[],
  slots: SlotReader,
): Promise<RootRepair> {
  const { roots } = await readRoots(context);
  const present = new Set(roots.map(({ root }) => root.generation));
  const closed = roots.filter(({ root }) => root.closed);
  const needless = closed[REPLICAS - 1]?.root.generation ?? 0;
  const restored: string[] = [];
  const lostGenerations: number[] = [];
  for (const { group, replica } of await newestReplicas(context, groups)) {
    if (present.has(replica.generation) || replica.generation < needless) continue;
    const name = await restoreRoot(context, slots, group, replica);
    if (name === null) lostGenerations.push(replica.generation);
    else restored.push(name);
  }
  return { restored, lostGenerations };
}

async function newestReplicas(
  context: StoreContext,
  groups: readonly Group[],
): Promise<FoundReplica[]> {
  const found: FoundReplica[] = [];
  for (const group of sealedOnly(groups)) {
    const replica = (await readGroupManifest(context, group))?.manifest.root;
    if (replica) found.push({ group, replica });
  }
  return found.sort((a, b) => b.replica.generation - a.replica.generation).slice(0, REPLICAS);
}

/** The name of the restored root; null when its replica cannot be read, or is not what it should be. */
async function restoreRoot(
  context: StoreContext,
  slots: SlotReader,
  group: Group,
  replica: RootReplica,
): Promise<string | null> {
  const bytes = await readRootReplica(slots, group, replica).catch((error: unknown) => {
    if (isChunkvolError(error, 'lost', 'damaged')) return null;
    throw error;
  });
  const root = bytes && openRoot(context.keys, bytes);
  if (root?.generation !== replica.generation) return null;
  return publishRoot(context, root, bytes!);
}
