/**
 * After a crash: what was decided is finished, and what never counted is removed.
 *
 * A group is sealed as soon as one member bears its final name. All footers were durable before, so
 * the other members need their rename and no more.
 */
import type { Catalog, FoundFile, FoundGroup } from './catalog.js';
import { footerAt } from './catalog.js';
import { chunkFolder, NAME_PATTERN, type StoreContext } from './context.js';
import { memberPaths, memberName, NEW_SUFFIX } from './group.js';
import { statMember } from './member-stat.js';
import { makeWay } from './set-aside.js';
import type { Manifest } from '../format/footer.js';
import type { RootGroup } from '../format/root.js';
import { toHex } from '../base/bytes.js';

type Seal = Pick<Manifest, 'sealId' | 'geometry'>;

/**
 * Returns whether anything in the folder was changed. `known` are groups of which a root tells more than
 * the catalog, which leaves their sealed files out. The caller holds the lock.
 */
export async function finishSeals(
  context: StoreContext,
  catalog: Catalog,
  known: readonly RootGroup[],
): Promise<boolean> {
  const sealed = new Map<string, Seal>();
  for (const group of known) {
    if (group.state === 'sealed') sealed.set(toHex(group.groupId), group);
  }
  let changed = false;
  for (const [id, found] of catalog.groups) {
    const seal = found.manifest ?? sealed.get(id);
    const work = seal ? finishOne(context, found, seal) : clean(context, found);
    if (await work) changed = true;
  }
  // Nobody can tell whose they were: a crash came before their headers were durable.
  for (const entry of catalog.foreign.filter(isUnborn)) {
    await context.files.remove(`${chunkFolder(context)}/${entry}`);
    changed = true;
  }
  if (changed) await context.files.syncFolder(chunkFolder(context));
  return changed;
}

/** Gives every member that has its footer its final name; removes what a sealed member leaves behind. */
async function finishOne(
  context: StoreContext,
  found: FoundGroup,
  { sealId, geometry }: Seal,
): Promise<boolean> {
  const final = memberPaths(context, found.id, sealId, geometry, '');
  const unfinished = found.files.filter(({ stage }) => stage !== 'final');
  for (const file of unfinished) {
    const { place } = file.header;
    const name = memberName(context, found.id, sealId, place);
    const isDone = (await statMember(context.files, final[place]!)) !== null;
    if (!isDone && (await footerAt(context, file.path, name))) {
      await makeWay(context, final[place]!);
      await context.files.rename(file.path, final[place]!);
    }
  }
  for (const file of unfinished) {
    const isDone = (await statMember(context.files, final[file.header.place]!)) !== null;
    if (isDone) await context.files.remove(file.path);
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

function isUnborn(entry: string): boolean {
  return entry.endsWith(NEW_SUFFIX) && NAME_PATTERN.test(entry.slice(0, -NEW_SUFFIX.length));
}

/** Whether a `.new` file is one that its group was being born with, not one made for a later seal. */
function isCreators(context: StoreContext, { header, name }: FoundFile): boolean {
  return memberName(context, header.groupId, header.sealId, header.place) === name;
}
