/**
 * What a loss leaves behind is kept, out of the way, in local/set-aside: the volume goes on without it, and
 * tells of it no more, but whoever finds that the loss was none still has every byte.
 */
import { memberBytes } from '../erasure/stripe.js';
import { chunkFolder, FOLDERS, rootFolder, type StoreContext } from './context.js';
import { copyFile } from './copy-file.js';
import type { Group } from './group.js';

/** Moves files there. */
export async function setAside(context: StoreContext, paths: readonly string[]): Promise<void> {
  const folder = await makeFolder(context);
  for (const path of paths) await context.files.rename(path, await freePlace(context, path));
  for (const each of [folder, chunkFolder(context), rootFolder(context)]) {
    await context.files.syncFolder(each);
  }
}

/** Moves a folder there that bears the name of a file: a rename replaces anything else. */
export async function makeWay(context: StoreContext, path: string): Promise<void> {
  const present = await context.files.stat(path).catch(() => null);
  if (present?.kind === 'folder') await setAside(context, [path]);
}

/** Renames a file durably, in the place of whatever bears the name. */
export async function takeName(context: StoreContext, from: string, to: string): Promise<void> {
  await makeWay(context, to);
  await context.files.rename(from, to);
  await context.files.syncFolder(chunkFolder(context));
}

/**
 * Copies there what the data files of a group hold behind its end, each under its own name and the byte at
 * which the copy begins; false when there is nothing. Throws 'no-space' where there is no room for it, 'io'.
 */
export async function setTailAside(context: StoreContext, group: Group): Promise<boolean> {
  const { geometry, end, paths } = group;
  let isAny = false;
  for (const [member, path] of paths.slice(0, geometry.data).entries()) {
    const from = memberBytes(geometry, end, member);
    const stat = await context.files.stat(path);
    if ((stat?.bytes ?? 0) <= from) continue;
    const folder = await makeFolder(context);
    const kept = placeOf(context, `${path}.from-${from}`);
    // Of an earlier try.
    await context.files.remove(kept);
    await copyFile(context.files, path, kept, from);
    await context.files.syncFolder(folder);
    isAny = true;
  }
  return isAny;
}

export function asideFolder({ folder }: StoreContext): string {
  return `${folder}/${FOLDERS.local}/set-aside`;
}

async function makeFolder(context: StoreContext): Promise<string> {
  const path = asideFolder(context);
  await context.files.makeFolder(path);
  return path;
}

function placeOf(context: StoreContext, path: string): string {
  return `${asideFolder(context)}/${path.slice(path.lastIndexOf('/') + 1)}`;
}

/** Under the name that it had, with a number behind it where something is kept under that already. */
async function freePlace(context: StoreContext, path: string): Promise<string> {
  const place = placeOf(context, path);
  for (let number = 1; ; number++) {
    const free = number === 1 ? place : `${place}-${number}`;
    if ((await context.files.stat(free)) === null) return free;
  }
}
