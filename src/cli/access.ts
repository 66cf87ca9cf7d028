/**
 * Runs operations on a volume: through the process that serves it, without asking for a passphrase,
 * or, when nobody does, by opening the volume for them. A volume that does not open can still be
 * mended.
 */
import { isChunkvolError } from '../base/errors.js';
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
    const session = await openUnlessLost(held, options);
    if (session) return workIn(session, context, work);
    const first = await mendClosed(held, name, args, { ...context, send: () => Promise.resolve() });
    if (name === 'scrub') return first;
    // What has been repaired must open, and goes through the ordinary repair then.
    const second = (await workHere(held, options, context, work)) as RepairOutcome;
    return bothRepairs(first as RepairOutcome, second);
  });
}

/** null where more is missing than the volume can be opened without. */
async function openUnlessLost(held: HeldVolume, options: AccessOptions): Promise<Session | null> {
  try {
    return await openHere(held, options);
  } catch (error) {
    if (isChunkvolError(error, 'lost', 'flushed-data-missing')) return null;
    throw error;
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
