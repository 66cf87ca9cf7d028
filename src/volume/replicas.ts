/** Roots from their replicas in sealed groups: the way in when roots/ is lost, and what recovery passes. */
import type { RootReplica } from '../format/footer.js';
import { readCatalog } from '../store/catalog.js';
import type { StoreContext } from '../store/context.js';
import { makeGroup, type Group } from '../store/group.js';
import { openRoot, rootName, type RootFile } from '../store/root-files.js';
import { readRootReplica } from '../store/root-replica.js';
import type { SlotReader } from '../store/slot-reader.js';

/** Every root that a sealed group in the folder carries, the newest first. */
export async function rootsFromReplicas(
  context: StoreContext,
  slots: SlotReader,
): Promise<RootFile[]> {
  const catalog = await readCatalog(context, new Set());
  const roots: RootFile[] = [];
  for (const { manifest } of catalog.groups.values()) {
    if (!manifest?.root) continue;
    const { groupId: id } = manifest;
    const group = makeGroup(context, { ...manifest, id, survived: 0, state: 'sealed' });
    const root = await readReplicatedRoot(context, slots, group, manifest.root);
    if (root) roots.push(root);
  }
  return roots.sort((a, b) => b.root.generation - a.root.generation);
}

/** The root that a sealed group carries; null when it cannot be read. */
export async function readReplicatedRoot(
  context: StoreContext,
  slots: SlotReader,
  group: Group,
  replica: RootReplica,
): Promise<RootFile | null> {
  const bytes = await readRootReplica(slots, group, replica).catch(() => null);
  const root = bytes && openRoot(context.keys, bytes);
  if (!root) return null;
  return { name: rootName(context.keys.maintenance, root.session, bytes), bytes, root };
}
