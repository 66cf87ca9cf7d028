/**
 * What a loss leaves behind is kept, out of the way, in local/set-aside: the volume goes on without it, and
 * tells of it no more, but whoever finds that the loss was none still has every byte.
 */
import { MIB } from '../base/bytes.js';
import { memberBytes } from '../erasure/stripe.js';
import { chunkFolder, FOLDERS, rootFolder, type StoreContext } from './context.js';
import type { Group } from './group.js';

/** Moves files there. */
export async function setAside(context: StoreContext, paths: readonly string[]): Promise<void> {
  const folder = await makeFolder(context);
  for (const path of paths) await context.files.rename(path, placeIn(folder, path));
  for (const each of [folder, chunkFolder(context), rootFolder(context)]) {
    await context.files.syncFolder(each);
  }
}

/** Renames a file, in the place of whatever bears the name; a folder, which cannot be replaced, is moved there. */
export async function takeName(context: StoreContext, from: string, to: string): Promise<void> {
  const present = await context.files.stat(to).catch(() => null);
  if (present?.kind === 'folder') await setAside(context, [to]);
  await context.files.rename(from, to);
  await context.files.syncFolder(chunkFolder(context));
}

/**
 * Copies there what the data files of a group hold behind its end, each under its own name and the byte at
 * which the copy begins. Throws 'no-space' where there is no room for it.
 */
export async function setTailAside(context: StoreContext, group: Group): Promise<void> {
  const { geometry, end, paths } = group;
  const folder = await makeFolder(context);
  for (const [member, path] of paths.slice(0, geometry.data).entries()) {
    const from = memberBytes(geometry, end, member);
    const stat = await context.files.stat(path);
    if ((stat?.bytes ?? 0) > from) await copyTail(context, path, from, placeIn(folder, path));
  }
  await context.files.syncFolder(folder);
}

async function copyTail(
  { files }: StoreContext,
  path: string,
  from: number,
  place: string,
): Promise<void> {
  const kept = `${place}.from-${from}`;
  // What an earlier try did not finish.
  await files.remove(kept);
  const [source, target] = [await files.open(path, 'read'), await files.open(kept, 'create')];
  try {
    const bytes = new Uint8Array(MIB);
    for (let at = from; ; at += MIB) {
      const got = await source.read(bytes, at);
      if (got > 0) await target.write(bytes.subarray(0, got), at - from);
      if (got < MIB) break;
    }
    await target.sync();
  } finally {
    await Promise.all([source.close(), target.close()]);
  }
}

export function asideFolder({ folder }: StoreContext): string {
  return `${folder}/${FOLDERS.local}/set-aside`;
}

async function makeFolder(context: StoreContext): Promise<string> {
  const path = asideFolder(context);
  await context.files.makeFolder(path);
  return path;
}

function placeIn(folder: string, path: string): string {
  return `${folder}/${path.slice(path.lastIndexOf('/') + 1)}`;
}
