/** `chunkvol hold`: keeps all files of the volume where they are while a command runs. */
import { spawn, type ChildProcess } from 'node:child_process';
import * as os from 'node:os';
import type { Command } from 'commander';
import { errnoOf, errorMessage } from '../../base/errors.js';
import { ToldFailure } from '../exit.js';
import { holdFiles } from '../hold.js';
import type { GlobalOptions } from '../options.js';
import { existingVolume } from '../volume-folder.js';

/** As shells have it. */
const CANNOT_RUN_STATUS = 126;
const NOT_FOUND_STATUS = 127;
const SIGNAL_STATUS = 128;

const FAILED_STATUS = 1;

export function addHold(program: Command): void {
  const command = program
    .command('hold')
    .summary('delete no file of the volume while a command runs')
    .description(
      'Seals what is open, runs a command, and has no chunk file and no root deleted until it ends: a ' +
        'copy that it makes of the folder opens, however long it takes. The disk can be used meanwhile. ' +
        'While nobody serves the volume, nobody else can open it until the command has ended. Ends with ' +
        'the status of the command, and asks for no passphrase.',
    )
    .argument('<command...>', 'behind --, a program and its arguments')
    .addHelpText('after', '\nExample:\n  chunkvol -C backup hold -- rsync -a backup/ nas:backup/')
    .action((words: string[]) => runHold(words, command.optsWithGlobals()));
}

async function runHold(words: readonly string[], options: GlobalOptions): Promise<void> {
  const folder = existingVolume(options.volume);
  const hold = await holdFiles(folder);
  let status: number;
  try {
    status = await runCommand(words);
  } finally {
    await hold.release();
  }
  if (hold.lost !== null) {
    const message = `files of ${folder} may have been deleted before the command was done`;
    process.stderr.write(`chunkvol: ${message}: ${hold.lost}\n`);
  }
  if (status !== 0) throw new ToldFailure(status);
  if (hold.lost !== null) throw new ToldFailure(FAILED_STATUS);
}

/** Runs it with our input and output; its exit status, or 128 and the number of the signal that ended it. */
async function runCommand([program, ...words]: readonly string[]): Promise<number> {
  let child: ChildProcess | null = null;
  // From before it runs: a signal must not end us and leave it behind.
  const stopPassing = passSignals((signal) => child?.kill(signal));
  try {
    return await new Promise<number>((resolve, reject) => {
      child = spawn(program!, words, { stdio: 'inherit' });
      child.once('error', reject);
      child.once('close', (status, signal) => {
        resolve(status ?? SIGNAL_STATUS + os.constants.signals[signal!]);
      });
    });
  } catch (error) {
    process.stderr.write(`chunkvol: cannot run ${program!}: ${errorMessage(error)}\n`);
    throw new ToldFailure(errnoOf(error) === 'ENOENT' ? NOT_FOUND_STATUS : CANNOT_RUN_STATUS);
  } finally {
    stopPassing();
  }
}

/** The terminal sends SIGINT to both; the others are meant for the command as well. */
function passSignals(pass: (signal: NodeJS.Signals) => void): () => void {
  const ignore = (): void => undefined;
  process.on('SIGINT', ignore).on('SIGTERM', pass).on('SIGHUP', pass);
  return () => {
    process.off('SIGINT', ignore).off('SIGTERM', pass).off('SIGHUP', pass);
  };
}
