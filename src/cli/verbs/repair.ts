/** `chunkvol repair`: rebuilds what is missing or damaged. */
import type { Command } from 'commander';
import { nodeFiles } from '../../base/node-files.js';
import { openRemote } from '../../sync/open-remote.js';
import { readRemoteBook, resolveRemote } from '../../sync/remotes.js';
import { perform } from '../access.js';
import { reportRepair } from '../mending-report.js';
import type { RepairOutcome } from '../mending.js';
import type { GlobalOptions } from '../options.js';
import { addCredentialOptions, type CredentialSources } from '../passphrase.js';
import { chosenFolder, existingVolume } from '../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly from?: string;
  readonly acceptLoss?: boolean;
}

export function addRepair(program: Command): void {
  const command = program
    .command('repair')
    .summary('rebuild missing and damaged files')
    .description(
      'Checks everything and rebuilds missing and damaged chunk files from the others of their group, ' +
        'byte for byte; puts roots and key files back. Ends with status 4, and names the ranges of the ' +
        'disk, when contents are lost. Works while the volume is attached.',
    )
    .option('--from <remote>', 'take from this remote (name or URL) what cannot be rebuilt')
    .option('--accept-loss', 'open although flushed writes are missing, and cut them off');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup repair --from offsite')
    .action(() => runRepair(command.optsWithGlobals()));
}

async function runRepair(options: Options): Promise<void> {
  const from = options.from === undefined ? null : await remoteUrl(options.from, options);
  const folder = existingVolume(options.volume, { mayLackKeys: from !== null });
  const outcome = await perform(folder, { ...options, keysFrom: from }, 'repair', { from });
  reportRepair(options, outcome as RepairOutcome);
}

/** Canonical, so that it means the same to a server in another folder. */
async function remoteUrl(text: string, options: Options): Promise<string> {
  const volume = { files: nodeFiles, folder: chosenFolder(options.volume) };
  return openRemote(await resolveRemote(nodeFiles, await readRemoteBook(volume), text)).url;
}
