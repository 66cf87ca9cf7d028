/** `chunkvol sync`: brings remotes to the present state. */
import type { Command } from 'commander';
import { ChunkvolError } from '../../base/errors.js';
import { nodeFiles } from '../../base/node-files.js';
import { bandwidthBytes } from '../../sync/remote.js';
import { readRemoteBook, resolveRemote } from '../../sync/remotes.js';
import type { SyncReport } from '../../sync/report.js';
import { parseRemoteUrl } from '../../sync/url.js';
import { perform } from '../access.js';
import { ToldFailure } from '../exit.js';
import type { SyncArguments, SyncOutcome } from '../operations.js';
import { print, remark, type GlobalOptions } from '../options.js';
import { addCredentialOptions, type CredentialSources } from '../passphrase.js';
import { count, formatBytes } from '../size.js';
import { existingVolume } from '../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly bwlimit?: string;
  readonly dryRun?: boolean;
  readonly acceptFork?: boolean;
  readonly acceptRollback?: boolean;
}

export function addSync(program: Command): void {
  const command = program
    .command('sync')
    .summary('copy what is new to the remotes')
    .description(
      'Seals what has been written so far and copies what the remotes lack, the root last: whatever ' +
        'interrupts it, the state that was there before stays whole, and running it again goes on. ' +
        'Works while the volume is attached. Without arguments: all remotes.',
    )
    .argument('[remote...]', 'names or URLs of remotes')
    .option('--bwlimit <rate>', 'bytes per second at most, for example 2M')
    .option('--dry-run', 'say what would be copied, and copy nothing')
    .option('--accept-fork', 'go on although another copy of the volume has been synced there')
    .option('--accept-rollback', 'go on although the remote is older than it was');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup sync offsite --bwlimit 2M')
    .action((remotes: string[]) => runSyncVerb(remotes, command.optsWithGlobals()));
}

async function runSyncVerb(remotes: readonly string[], options: Options): Promise<void> {
  if (options.bwlimit !== undefined) bandwidthBytes(options.bwlimit);
  const folder = existingVolume(options.volume);
  const args: SyncArguments = {
    urls: await chooseUrls(folder, remotes),
    bandwidthLimit: options.bwlimit ?? null,
    dryRun: options.dryRun ?? false,
    acceptFork: options.acceptFork ?? false,
    acceptRollback: options.acceptRollback ?? false,
  };
  const outcomes = (await perform(folder, options, 'sync', args)) as SyncOutcome[];
  let status = 0;
  for (const outcome of outcomes) {
    if ('report' in outcome) showReport(options, outcome.report);
    else {
      process.stderr.write(`chunkvol: ${outcome.failure}\n`);
      status ||= outcome.status;
    }
  }
  if (status !== 0) throw new ToldFailure(status);
}

/** Canonical and each once, so that they mean the same to a server in another folder. */
async function chooseUrls(folder: string, remotes: readonly string[]): Promise<string[]> {
  const book = await readRemoteBook({ files: nodeFiles, folder });
  const texts =
    remotes.length === 0
      ? book.remotes.map(({ url }) => url)
      : await Promise.all(remotes.map((text) => resolveRemote(nodeFiles, book, text)));
  if (texts.length === 0) {
    throw new ChunkvolError(
      'usage',
      'there is no remote; name a URL, or add one with chunkvol remote add',
    );
  }
  return [...new Set(texts.map((text) => parseRemoteUrl(text).text))];
}

function showReport(options: GlobalOptions, report: SyncReport): void {
  const { url, dryRun, generation, copiedFiles, copiedBytes, replacedFiles } = report;
  const files = `${count(copiedFiles, 'file')}, ${formatBytes(copiedBytes)}`;
  if (dryRun) print(`${url}: would copy ${files} (to generation ${generation})`);
  else remark(options, `${url}: copied ${files}; generation ${generation} is there`);
  if (replacedFiles > 0)
    remark(options, `${url}: of these, ${replacedFiles} had been copied in part`);
  for (const note of report.notes) remark(options, `${url}: ${note}`);
}
