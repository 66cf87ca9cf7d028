/**
 * Whether the files of a group are there, as far as can be told without opening them. What is no file counts for
 * nothing, and so does one of which the disk does not even give the size: damage, as for a reader.
 */
import { tellsDamage } from '../base/errors.js';
import type { Files, FileStat } from '../base/files.js';
import type { StoreContext } from './context.js';
import type { Group } from './group.js';
import { plausibleSize } from './seal.js';

export async function statMember(files: Files, path: string): Promise<FileStat | null> {
  try {
    return fileOrNull(await files.stat(path));
  } catch (error) {
    if (tellsDamage(error)) return null;
    throw error;
  }
}

/**
 * Whether so many members of a sealed group have a plausible size that parity replaces the others. Throws the
 * disk's error where it is that which leaves too few: they may be there all the same.
 */
export async function isWhole(
  { files }: Pick<StoreContext, 'files'>,
  group: Group,
): Promise<boolean> {
  const stats = await Promise.allSettled(group.paths.map((path) => files.stat(path)));
  const failures = stats.flatMap((each) =>
    each.status === 'rejected' ? [each.reason as Error] : [],
  );
  const healthy = stats.filter((each, place) => {
    const stat = each.status === 'fulfilled' ? fileOrNull(each.value) : null;
    return stat !== null && plausibleSize(group, place, stat.bytes);
  });
  const isEnough = healthy.length >= group.geometry.data;
  const failure = failures.find((error) => !isEnough || !tellsDamage(error));
  if (failure) throw failure;
  return isEnough;
}

function fileOrNull(stat: FileStat | null): FileStat | null {
  return stat?.kind === 'file' ? stat : null;
}
