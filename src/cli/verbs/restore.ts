/** `chunkvol restore`: a volume from a remote and a passphrase alone. */
import * as path from 'node:path';
import type { Command } from 'commander';
import { ChunkvolError } from '../../base/errors.js';
import { systemLocks } from '../../base/lock.js';
import { sealedOnly } from '../../repair/scrub.js';
import { hasSoundEnds } from '../../store/member-check.js';
import { openRemote } from '../../sync/open-remote.js';
import { downloadVolume, type RestoreReport } from '../../sync/restore.js';
import type { Volume } from '../../volume/volume.js';
import type { OperationContext } from '../control-server.js';
import { systemEnvironment } from '../environment.js';
import { ToldFailure } from '../exit.js';
import { reportRepair } from '../mending-report.js';
import type { RepairOutcome } from '../mending.js';
import { operationsOf } from '../operations.js';
import { print, remark, remarkOn, type GlobalOptions } from '../options.js';
import { addCredentialOptions, readCredential, type CredentialSources } from '../passphrase.js';
import { ProgressDisplay } from '../progress.js';
import { openHeld, useSession, type Session } from '../session.js';
import { interruptible } from '../signals.js';
import { count, formatBytes } from '../size.js';
import { readEverything } from '../verify.js';
import { requireRestorable } from '../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly verify?: boolean;
  readonly expectGeneration?: string;
}

const LOST_STATUS = 4;

export function addRestore(program: Command): void {
  const command = program
    .command('restore')
    .summary('bring a volume back from a remote')
    .description(
      'Makes a volume in DIR from what is at URL, with nothing else than a passphrase or key file of ' +
        'the volume. Chunk files that the remote has lost are rebuilt. Run it again to go on after an ' +
        'interruption.',
    )
    .argument('<url>', 'as for remote add')
    .argument('<dir>', 'folder to restore to; empty, or not there')
    .option('--verify', 'check every file and read the whole disk back')
    .option('--expect-generation <n>', 'refuse a state that is older than this generation');
  addCredentialOptions(command)
    .addHelpText(
      'after',
      '\nExample:\n  chunkvol restore rclone:b2:my-bucket/backup ./backup --verify',
    )
    .action((url: string, folder: string) => runRestore(url, folder, command.optsWithGlobals()));
}

async function runRestore(url: string, dir: string, options: Options): Promise<void> {
  const expectGeneration = parseGeneration(options.expectGeneration);
  const remote = openRemote(url);
  const folder = path.resolve(dir);
  requireRestorable(folder);
  const credential = await readCredential(options);
  const environment = systemEnvironment();
  await environment.files.makeFolder(folder);
  const lock = await systemLocks.acquire(folder);
  const display = new ProgressDisplay(options.quiet ?? false);
  await interruptible(async (signal) => {
    const send = (): Promise<void> => Promise.resolve();
    const context: OperationContext = { signal, onProgress: display.update, send };
    const settings = { ...context, credential, expectGeneration };
    const report = await downloadVolume(environment, remote, folder, settings);
    display.end();
    showReport(options, report);
    const held = { environment, folder, unlocked: report.unlocked, lock };
    const session = await openHeld(held, { onNotice: remarkOn(options) });
    await useSession(session, () => complete(session, report, options, context));
  }).finally(async () => {
    display.end();
    await lock.release();
  });
  remark(options, `the volume in ${folder} is restored`);
}

/** Rebuilds what did not come, or came damaged, and reads everything back when that is asked for. */
async function complete(
  session: Session,
  report: RestoreReport,
  options: Options,
  context: OperationContext,
): Promise<void> {
  const isWhole = report.missing.length === 0 && (await haveSoundEnds(session.volume));
  if (isWhole && !options.verify) return;
  const host = { ...session, server: null, attachments: [], served: null };
  const outcome = await operationsOf(host).repair({ from: null }, context);
  reportRepair(options, outcome as RepairOutcome);
  if (!options.verify) return;
  const { mappedBytes } = await session.volume.status();
  const bad = await readEverything(session.volume, mappedBytes, context);
  for (const { offset, bytes } of bad)
    print(`cannot be read: bytes ${offset} to ${offset + bytes}`);
  if (bad.length > 0) throw new ToldFailure(LOST_STATUS);
  remark(options, `read ${formatBytes(mappedBytes)} back, all good`);
}

/** Takes a few reads for each file, and finds what is none of the volume's; --verify looks at every byte. */
async function haveSoundEnds(volume: Volume): Promise<boolean> {
  for (const group of sealedOnly(volume.groups())) {
    if (!(await hasSoundEnds(volume.context, group))) return false;
  }
  return true;
}

function parseGeneration(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new ChunkvolError('usage', `--expect-generation ${JSON.stringify(text)} is not a number`);
}

function showReport(options: GlobalOptions, report: RestoreReport): void {
  const { name, generation, timeMs, fetchedFiles, fetchedBytes } = report;
  remark(
    options,
    `${name}, generation ${generation} of ${new Date(timeMs).toISOString()}: ${count(fetchedFiles, 'file')}, ${formatBytes(fetchedBytes)}`,
  );
  for (const note of report.notes) remark(options, note);
}
