/**
 * Runs an operation on a volume: through the process that serves it, without asking for a passphrase,
 * or, when nobody does, by opening the volume for it. A volume that does not open can still be mended.
 */
import { isChunkvolError } from '../base/errors.js';
import { ControlClient } from './control-client.js';
import type { OperationContext } from './control-server.js';
import { mendClosed } from './mending-closed.js';
import type { RepairOutcome } from './mending.js';
import { operationsOf, type OperationName } from './operations.js';
import { remarkOn, type GlobalOptions } from './options.js';
import { ProgressDisplay } from './progress.js';
import { holdVolume, openHeld, useSession, type SessionOptions } from './session.js';
import { interruptible } from './signals.js';

export interface AccessOptions extends SessionOptions, GlobalOptions {}

/** The operation's result; the caller knows its type. Progress goes to standard error. */
export async function perform(
  folder: string,
  options: AccessOptions,
  name: OperationName,
  args: object = {},
): Promise<unknown> {
  const display = new ProgressDisplay(options.quiet ?? false);
  try {
    return await interruptible(async (signal) => {
      const context = { signal, onProgress: display.update };
      const server = await ControlClient.find(folder);
      return server
        ? server.call(name, args, context)
        : performHere(folder, options, name, args, context);
    });
  } finally {
    display.end();
  }
}

async function performHere(
  folder: string,
  options: AccessOptions,
  name: OperationName,
  args: object,
  context: OperationContext,
): Promise<unknown> {
  const held = await holdVolume(folder, options);
  const work = async (): Promise<unknown> => {
    const session = await openHeld(held, { ...options, onNotice: remarkOn(options) });
    return useSession(session, (open) =>
      operationsOf({ ...open, server: null, attachments: [] })[name](args, context),
    );
  };
  try {
    return await work().catch(async (error: unknown) => {
      const mends = name === 'scrub' || name === 'repair';
      if (!mends || !isChunkvolError(error, 'lost', 'flushed-data-missing')) throw error;
      const first = await mendClosed(held, name, args, context);
      if (name === 'scrub') return first;
      // What has been repaired must open, and goes through the ordinary repair then.
      return bothRepairs(first as RepairOutcome, (await work()) as RepairOutcome);
    });
  } finally {
    await held.lock.release();
  }
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
