/**
 * Runs operations on a volume: through the process that serves it, without asking for a passphrase,
 * or, when nobody does, by opening the volume for them. A volume that does not open can still be
 * mended.
 */
import { errorMessage, isChunkvolError, type ChunkvolError } from '../base/errors.js';
import type { Tolerance } from '../volume/recovery.js';
import { ControlClient } from './control-client.js';
import type { OperationContext } from './control-server.js';
import { mendClosed } from './mending-closed.js';
import type { RepairOutcome } from './mending.js';
import { operationsOf, type OperationName } from './operations.js';
import { remarkOn, type GlobalOptions } from './options.js';
import { ProgressDisplay } from './progress.js';
import {
  holdVolume,
  openHeld,
  useSession,
  type HeldVolume,
  type Session,
  type SessionOptions,
} from './session.js';
import { interruptible } from './signals.js';

export interface AccessOptions extends SessionOptions, GlobalOptions {}

/** The operation's result, and before it the parts that it sends; the caller knows their types. */
export type Call = (
  name: OperationName,
  args?: object,
  onPart?: (part: unknown) => void,
) => Promise<unknown>;

/** The operation's result; the caller knows its type. Progress goes to standard error. */
export function perform(
  folder: string,
  options: AccessOptions,
  name: OperationName,
  args: object = {},
): Promise<unknown> {
  if (name === 'scrub' || name === 'repair') return mend(folder, options, name, args);
  return withVolume(folder, options, (call) => call(name, args));
}

/** Works with several operations, for which the volume is opened once where nobody serves it. */
export function withVolume<T>(
  folder: string,
  options: AccessOptions,
  work: (call: Call) => Promise<T>,
): Promise<T> {
  return access(folder, options, work, (held, context) => workHere(held, options, context, work));
}

function mend(
  folder: string,
  options: AccessOptions,
  name: 'scrub' | 'repair',
  args: object,
): Promise<unknown> {
  const work = (call: Call): Promise<unknown> => call(name, args);
  return access(folder, options, work, async (held, context) => {
    const session = await openIfWhole(held, options);
    if (!isChunkvolError(session)) return workIn(session, context, work);
    const silent = { ...context, send: () => Promise.resolve() };
    const closed = await mendClosed(held, name, args, session.message, silent);
    const open = (tolerance: Tolerance): Promise<unknown> =>
      workHere(held, { ...options, tolerance }, context, work);
    if (closed === null) return open('torn-copy');
    if (name === 'repair') return repairOpened(closed as RepairOutcome, open);
    // Where all chunk files of the newest closed root are good, it is the log's end that is missing.
    if (closed.damages.length === 0) return open('torn-copy');
    const isTorn = closed.shut !== null && (await opensAsCopy(held, options));
    return isTorn ? { ...closed, shut: null } : closed;
  });
}

/**
 * Why, where it does not open in its newest state: an older one, which a copy and whoever only reads are
 * given, would be found good, or be mended, in its stead.
 */
async function openIfWhole(
  held: HeldVolume,
  options: AccessOptions,
): Promise<Session | ChunkvolError> {
  const notices: string[] = [];
  const onNotice = (line: string): void => void notices.push(line);
  const session = await tryOpen(held, { ...options, tolerance: 'none', onNotice });
  if (!isChunkvolError(session)) notices.forEach(remarkOn(options));
  return session;
}

/** Whether it is a copy made by hand, of which no more is missing than its end. */
async function opensAsCopy(held: HeldVolume, options: AccessOptions): Promise<boolean> {
  const onNotice = (): void => undefined;
  const settings = { ...options, readOnly: true, tolerance: 'torn-copy' as const, onNotice };
  const session = await tryOpen(held, settings);
  if (isChunkvolError(session)) return false;
  await session.close();
  return true;
}

/** Without accepting a loss: why not, where more is missing than is tolerated. */
async function tryOpen(
  held: HeldVolume,
  options: SessionOptions,
): Promise<Session | ChunkvolError> {
  try {
    return await openHeld(held, { ...options, acceptLoss: false });
  } catch (error) {
    if (isChunkvolError(error, 'lost', 'flushed-data-missing')) return error;
    throw error;
  }
}

/** What has been repaired must open, and goes through the ordinary repair then. */
async function repairOpened(
  closed: RepairOutcome,
  open: (tolerance: Tolerance) => Promise<unknown>,
): Promise<RepairOutcome> {
  const tolerance = closed.unrepaired.length === 0 ? 'torn-copy' : 'none';
  try {
    return bothRepairs(closed, (await open(tolerance)) as RepairOutcome);
  } catch (error) {
    if (!isChunkvolError(error, 'lost', 'flushed-data-missing')) throw error;
    return { ...closed, shut: errorMessage(error) };
  }
}

type Context = Omit<OperationContext, 'send'>;

/** Works through the server when there is one, else on the folder, which is locked meanwhile. */
async function access<T>(
  folder: string,
  options: AccessOptions,
  throughServer: (call: Call) => Promise<T>,
  here: (held: HeldVolume, context: Context) => Promise<T>,
): Promise<T> {
  const display = new ProgressDisplay(options.quiet ?? false);
  try {
    return await interruptible(async (signal) => {
      const context = { signal, onProgress: display.update };
      const server = await ControlClient.find(folder);
      if (server) {
        return await throughServer((name, args, onPart) =>
          server.call(name, args, { ...context, onPart }),
        );
      }
      const held = await holdVolume(folder, options);
      try {
        return await here(held, context);
      } finally {
        await held.lock.release();
      }
    });
  } finally {
    display.end();
  }
}

async function workHere<T>(
  held: HeldVolume,
  options: AccessOptions,
  context: Context,
  work: (call: Call) => Promise<T>,
): Promise<T> {
  return workIn(await openHere(held, options), context, work);
}

function openHere(held: HeldVolume, options: AccessOptions): Promise<Session> {
  return openHeld(held, { ...options, onNotice: remarkOn(options) });
}

function workIn<T>(
  session: Session,
  context: Context,
  work: (call: Call) => Promise<T>,
): Promise<T> {
  return useSession(session, (open) => {
    const operations = operationsOf({ ...open, server: null, attachments: [], served: null });
    return work((name, args = {}, onPart) => {
      const send = (part: unknown): Promise<void> => {
        onPart?.(part);
        return Promise.resolve();
      };
      return operations[name](args, { ...context, send });
    });
  });
}

function bothRepairs(first: RepairOutcome, second: RepairOutcome): RepairOutcome {
  const both = <Key extends keyof RepairOutcome>(key: Key): RepairOutcome[Key][] => [
    first[key],
    second[key],
  ];
  return {
    ...second,
    damages: both('damages').flat(),
    damagedFiles: first.damagedFiles + second.damagedFiles,
    rebuiltFiles: both('rebuiltFiles').flat(),
    mendedFiles: both('mendedFiles').flat(),
    fetchedFiles: both('fetchedFiles').flat(),
    restoredRoots: both('restoredRoots').flat(),
    restoredKeyFile: first.restoredKeyFile || second.restoredKeyFile,
    notes: both('notes').flat(),
  };
}
