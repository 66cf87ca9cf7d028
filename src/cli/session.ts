/**
 * A volume opened by this very process: the credential is checked first, before anything else of the
 * volume is read or written, then the folder is locked, then the volume opens. Where it is the key files that are
 * damaged, they come from a remote once the folder is locked.
 */
import { isChunkvolError } from '../base/errors.js';
import type { Files } from '../base/files.js';
import { systemLocks, type FolderLock } from '../base/lock.js';
import type { Environment } from '../store/context.js';
import {
  lockKeyFiles,
  removeOlderKeyFiles,
  unlock,
  type UnlockedVolume,
} from '../store/key-files.js';
import { openRemote } from '../sync/open-remote.js';
import { openVolume } from '../volume/open.js';
import type { Tolerance } from '../volume/recovery.js';
import { giveUpReserve } from '../volume/space.js';
import type { Volume } from '../volume/volume.js';
import { systemEnvironment } from './environment.js';
import { unlockFrom } from './key-rescue.js';
import { readCredential, type CredentialSources } from './passphrase.js';

export interface OpenSettings {
  readonly readOnly?: boolean | undefined;
  readonly acceptLoss?: boolean | undefined;
  /** Without `acceptLoss`; otherwise as for `openVolume`. */
  readonly tolerance?: Tolerance | undefined;
  readonly onNotice?: (line: string) => void;
}

/** Where key files come from when those of the folder open nothing; canonical URL. */
export interface KeySource {
  readonly keysFrom?: string | null;
}

export interface SessionOptions extends CredentialSources, OpenSettings, KeySource {}

/** A volume that is this process's to work on, open or not. */
export interface HeldVolume {
  readonly environment: Environment;
  readonly folder: string;
  /** With what it is opened. */
  readonly unlocked: UnlockedVolume;
  readonly lock: FolderLock;
}

export interface Session extends Omit<HeldVolume, 'lock'> {
  readonly volume: Volume;
  /** Closes the volume, which makes everything durable. */
  close(): Promise<void>;
}

/** Throws ChunkvolError: 'wrong-key', 'in-use', 'io'. The caller releases the lock. */
export async function holdVolume(
  folder: string,
  sources: CredentialSources & KeySource,
): Promise<HeldVolume> {
  const environment = systemEnvironment();
  const { files } = environment;
  const credential = await readCredential(sources);
  const unlocked = await unlock(files, folder, credential).catch((error: unknown) => {
    const isOfKeys = isChunkvolError(error, 'wrong-key', 'damaged', 'not-a-volume');
    if (isOfKeys && sources.keysFrom) return error;
    throw error;
  });
  const lock = await lockFolder(folder, files);
  if (!(unlocked instanceof Error)) return { environment, folder, unlocked, lock };
  try {
    const remote = openRemote(sources.keysFrom!);
    const rescued = await unlockFrom(environment, folder, remote, credential, unlocked);
    return { environment, folder, unlocked: rescued, lock };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** On a full disk there is no room for the lock either, unless the reserve makes some. */
async function lockFolder(folder: string, files: Files): Promise<FolderLock> {
  try {
    return await systemLocks.acquire(folder);
  } catch (error) {
    if (!isChunkvolError(error, 'no-space') || !(await giveUpReserve(files, folder))) throw error;
    return systemLocks.acquire(folder);
  }
}

/** Opens the volume; the lock stays the caller's, who releases it when the session is closed. */
export async function openHeld(
  held: Omit<HeldVolume, 'lock'>,
  options: OpenSettings,
): Promise<Session> {
  const { environment, folder, unlocked } = held;
  const { readOnly = false, acceptLoss = false, tolerance, onNotice } = options;
  // They open nothing any more; one that cannot be removed now keeps nobody out.
  if (!readOnly) await tidyKeys(held).catch(() => undefined);
  const volume = await openVolume(environment, folder, {
    unlocked,
    readOnly,
    tolerance: acceptLoss ? 'loss' : tolerance,
    ...(onNotice && { onNotice }),
  });
  return { environment, folder, volume, unlocked, close: () => volume.close() };
}

/** Removes what a change of keys that was cut short has left. */
async function tidyKeys({
  environment,
  folder,
  unlocked,
}: Omit<HeldVolume, 'lock'>): Promise<void> {
  const { files } = environment;
  const lock = await lockKeyFiles(files, folder);
  try {
    await removeOlderKeyFiles({ files, folder, keys: unlocked.keys });
  } finally {
    await lock.release();
  }
}

/** Throws ChunkvolError: 'wrong-key', 'in-use', and all that `openVolume` throws. Closing releases the folder. */
export async function openSession(folder: string, options: SessionOptions): Promise<Session> {
  const { lock, ...held } = await holdVolume(folder, options);
  try {
    const session = await openHeld(held, options);
    return { ...session, close: () => session.close().finally(() => lock.release()) };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** Works with a session and closes it. A failure to close counts when the work itself went well. */
export async function useSession<T>(
  session: Session,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  let result: T;
  try {
    result = await work(session);
  } catch (error) {
    await session.close().catch(() => undefined);
    throw error;
  }
  await session.close();
  return result;
}
