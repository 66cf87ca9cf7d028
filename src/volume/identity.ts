/**
 * Which folder on which machine this is (local/identity): a folder that was copied by hand, perhaps
 * while it was in use, is told from the original. Never synced.
 *
 * It is known by inode numbers and not by the device: that has another number after many a boot, and
 * an original that is taken for a copy has its torn end cut off. Two folders, because at the top of a disk the
 * first has the same number everywhere.
 */
import { FOLDERS, type Environment } from '../store/context.js';
import { publishFile, readWhole } from '../store/publish.js';

const NAME = 'identity';
const MAX_BYTES = 4096;
const MACHINE_ID_PATH = '/etc/machine-id';

/** same: the folder that was written here. copied: written elsewhere. unknown: nothing is written down. */
export type FolderIdentity = 'same' | 'copied' | 'unknown';

/** Throws what the disk throws. */
export async function folderIdentity(
  environment: Pick<Environment, 'files'>,
  folder: string,
): Promise<FolderIdentity> {
  const path = `${folder}/${FOLDERS.local}/${NAME}`;
  const bytes = await readWhole(environment.files, path, MAX_BYTES);
  if (!bytes) return 'unknown';
  const written = Buffer.from(bytes).toString('utf8').trim();
  return written === (await describe(environment, folder)) ? 'same' : 'copied';
}

export async function writeIdentity(
  environment: Pick<Environment, 'files'>,
  folder: string,
): Promise<void> {
  const text = `${await describe(environment, folder)}\n`;
  await publishFile(
    environment.files,
    `${folder}/${FOLDERS.local}`,
    NAME,
    Buffer.from(text, 'utf8'),
  );
}

async function describe(environment: Pick<Environment, 'files'>, folder: string): Promise<string> {
  const machine = await readWhole(environment.files, MACHINE_ID_PATH, MAX_BYTES).catch(() => null);
  const machineId = Buffer.from(machine ?? new Uint8Array(0))
    .toString('utf8')
    .trim();
  const stats = await Promise.all(
    [folder, `${folder}/${FOLDERS.local}`].map((path) => environment.files.stat(path)),
  );
  return [machineId || 'unknown machine', ...stats.map((stat) => stat?.inode ?? '')].join(' ');
}
