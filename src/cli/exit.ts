/**
 * The one place where the program ends: an error becomes one line on standard error and the exit
 * status that docs/cli.md lists.
 */
import { CommanderError } from 'commander';
import { ChunkvolError, errnoOf, errorMessage, exitStatus, fromSystem } from '../base/errors.js';

const USAGE_STATUS = 2;
const DEBUG_VARIABLE = 'CHUNKVOL_DEBUG';

/** The table of docs/cli.md, for `chunkvol --help`. */
export const EXIT_STATUSES: readonly (readonly [number, string])[] = [
  [0, 'done'],
  [1, 'failed'],
  [2, 'wrong usage'],
  [3, 'wrong passphrase or key'],
  [4, 'data lost, or damage beyond repair'],
  [5, 'volume in use'],
  [6, 'remote refused: fork or rollback'],
  [7, 'a needed program is missing'],
];

/** Ends the program with a status whose reason the user has been told already. */
export class ToldFailure extends Error {
  constructor(readonly status: number) {
    super(`ended with status ${status}`);
    this.name = 'ToldFailure';
  }
}

/** Runs the program to its end and sets the exit status. */
export async function runToEnd(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    process.exitCode = report(error);
  }
}

/** Tells the user about `error`; returns the exit status. */
export function report(error: unknown): number {
  if (error instanceof CommanderError) {
    // Commander has said what it had to say: help was asked for, or the usage was wrong.
    return error.exitCode === 0 ? 0 : USAGE_STATUS;
  }
  if (error instanceof ToldFailure) return error.status;
  process.stderr.write(`${errorLine(error)}\n`);
  if (process.env[DEBUG_VARIABLE] && error instanceof Error) {
    process.stderr.write(`${withCauses(error)}\n`);
  }
  return exitStatus(error);
}

/** `chunkvol: …`, always one line. */
export function errorLine(error: unknown): string {
  const bug = error instanceof ChunkvolError ? '' : `unexpected failure (a bug, or a limit): `;
  return `chunkvol: ${bug}${errorMessage(error).split('\n', 1)[0]!}`;
}

function withCauses(error: Error): string {
  const own = error.stack ?? error.message;
  return error.cause instanceof Error ? `${own}\ncaused by ${withCauses(error.cause)}` : own;
}

/**
 * Output to a pipe or terminal whose reader is gone is dropped, so that `chunkvol status | head -1` ends
 * quietly and a server outlives the terminal that it was started from. Output that cannot be written
 * for another reason makes the program fail, in the end.
 */
export function watchOutput(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error) => {
      if (['EPIPE', 'EIO'].includes(errnoOf(error))) return;
      process.exitCode = exitStatus(error);
      if (stream === process.stdout) report(fromSystem(error, 'write', 'standard output'));
    });
  }
}
