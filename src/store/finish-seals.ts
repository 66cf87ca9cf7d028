/**
 * After a crash: what was decided is finished, and what never counted is removed.
 *
 * A group is sealed as soon as one member bears its final name. All footers were durable before, so
 * the other members need their rename and no more.
 */
import type { Catalog, FoundFile, FoundGroup } from './catalog.js';
import { footerAt } from './catalog.js';
import { chunkFolder, type StoreContext } from './context.js';
import { memberPaths, memberName } from './group.js';
import type { Manifest } from '../format/footer.js';

/** Returns whether anything in the folder was changed. The caller holds the lock. */
export async function finishSeals(context: StoreContext, catalog: Catalog): Promise<boolean> {
  let changed = false;
  for (const found of catalog.groups.values()) {
    const work = found.manifest ? finishOne(context, found, found.manifest) : clean(context, found);
    if (await work) changed = true;
  }
  if (changed) await context.files.syncFolder(chunkFolder(context));
  return changed;
}

/** Gives every member that has its footer its final name; removes what a sealed member leaves behind. */
async function finishOne(
  context: StoreContext,
  found: FoundGroup,
  manifest: Manifest,
): Promise<boolean> {
  const final = memberPaths(context, found.id, manifest.sealId, manifest.geometry, '');
  const unfinished = found.files.filter(({ stage }) => stage !== 'final');
  for (const file of unfinished) {
    const { place } = file.header;
    const name = memberName(context, found.id, manifest.sealId, place);
    if (await context.files.stat(final[place]!)) {
      await context.files.remove(file.path);
    } else if (await footerAt(context, file.path, name)) {
      await context.files.rename(file.path, final[place]!);
    }
  }
  return unfinished.length > 0;
}

/** Files of a group that was never born, and of a seal that was never decided. */
async function clean(context: StoreContext, found: FoundGroup): Promise<boolean> {
  const opened = found.files.some(({ stage }) => stage === 'open');
  const dead = found.files.filter(
    (file) => file.stage === 'new' && !(opened && isCreators(context, file)),
  );
  for (const { path } of dead) await context.files.remove(path);
  return dead.length > 0;
}

/** Whether a `.new` file is one that its group was being born with, not one made for a later seal. */
function isCreators(context: StoreContext, { header, name }: FoundFile): boolean {
  return memberName(context, header.groupId, header.sealId, header.place) === name;
}
