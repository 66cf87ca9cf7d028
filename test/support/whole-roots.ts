/** Which states of a volume a remote holds whole: the promise that every interruption must keep. */
import { FOLDERS, type StoreContext } from '../../src/store/context.js';
import { neededGroups, planRestore, sizesOf } from '../../src/sync/plan.js';
import { ownRoot } from '../../src/sync/survey.js';
import type { MemoryRemote } from './memory-remote.js';

/**
 * The generations of the closed roots there, oldest first. Throws when one of them lacks a file, or
 * when there is one and no key file.
 */
export function wholeRoots(context: StoreContext, remote: MemoryRemote): number[] {
  const chunks = sizesOf(
    remote.names(FOLDERS.chunks).map((path) => ({ path, bytes: remote.files.get(path)!.length })),
  );
  const generations: number[] = [];
  for (const path of remote.names(FOLDERS.roots)) {
    const bytes = remote.files.get(path)!;
    const root = ownRoot(context, { path, bytes: bytes.length }, bytes);
    if (!root?.closed) continue;
    const { lost } = planRestore(neededGroups(context, root), chunks);
    if (lost.length > 0) throw new Error(`${path}, generation ${root.generation}, is not whole`);
    generations.push(root.generation);
  }
  if (generations.length > 0 && remote.names(FOLDERS.keys).length === 0) {
    throw new Error('there are roots and no key file');
  }
  return generations.sort((a, b) => a - b);
}
