/**
 * A volume opened by this very process: the credential is checked first, before anything else of the
 * volume is read or written, then the folder is locked, then the volume opens.
 */
import { systemLocks, type FolderLock } from '../base/lock.js';
import type { Environment } from '../store/context.js';
import { unlock, type UnlockedVolume } from '../store/key-files.js';
import { openVolume } from '../volume/open.js';
import type { Volume } from '../volume/volume.js';
import { systemEnvironment } from './environment.js';
import { readCredential, type CredentialSources } from './passphrase.js';

export interface OpenSettings {
  readonly readOnly?: boolean | undefined;
  readonly acceptLoss?: boolean | undefined;
  readonly onNotice?: (line: string) => void;
}

export interface SessionOptions extends CredentialSources, OpenSettings {}

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
  /** Closes the volume, which makes everything durable, and releases the folder in any case. */
  close(): Promise<void>;
}

/** Throws ChunkvolError: 'wrong-key', 'in-use', 'io'. The caller releases the lock. */
export async function holdVolume(folder: string, sources: CredentialSources): Promise<HeldVolume> {
  const environment = systemEnvironment();
  const credential = await readCredential(sources);
  const unlocked = await unlock(environment.files, folder, credential);
  const lock = await systemLocks.acquire(folder);
  return { environment, folder, unlocked, lock };
}

/** From here on the session has the lock, unless this throws: then the caller still has it. */
export async function openHeld(held: HeldVolume, options: OpenSettings): Promise<Session> {
  const { environment, folder, unlocked, lock } = held;
  const { readOnly = false, acceptLoss = false, onNotice } = options;
  const volume = await openVolume(environment, folder, {
    unlocked,
    readOnly,
    acceptLoss,
    ...(onNotice && { onNotice }),
  });
  const close = (): Promise<void> => volume.close().finally(() => lock.release());
  return { environment, folder, volume, unlocked, close };
}

/** Throws ChunkvolError: 'wrong-key', 'in-use', and all that `openVolume` throws. */
export async function openSession(folder: string, options: SessionOptions): Promise<Session> {
  const held = await holdVolume(folder, options);
  try {
    return await openHeld(held, options);
  } catch (error) {
    await held.lock.release();
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
