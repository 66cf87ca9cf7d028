/** `chunkvol gc`: gives back the space of what nothing needs any more. */
import type { Command } from 'commander';
import type { CollectReport } from '../../volume/collector.js';
import { perform } from '../access.js';
import { remark, type GlobalOptions } from '../options.js';
import { addCredentialOptions, type CredentialSources } from '../passphrase.js';
import { formatBytes } from '../size.js';
import type { CollectArguments } from '../volume-operations.js';
import { existingVolume } from '../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly aggressive?: boolean;
}

export function addGc(program: Command): void {
  const command = program
    .command('gc')
    .summary('give back the space of what was overwritten and deleted')
    .description(
      'Collects garbage now: moves what is still needed out of groups that hold much else, and deletes ' +
        'their files. That also happens by itself, in the background, while the volume is attached. What ' +
        'a snapshot holds is needed; so are, for a while, files that the newest roots name. Works ' +
        'while the volume is attached.',
    )
    .option('--aggressive', 'move everything out of every group that holds garbage at all');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup gc')
    .action(() => runGc(command.optsWithGlobals()));
}

async function runGc(options: Options): Promise<void> {
  const folder = existingVolume(options.volume);
  const args: CollectArguments = { aggressive: options.aggressive ?? false };
  const report = (await perform(folder, options, 'collect', args)) as CollectReport;
  const { removedGroups, freedBytes, movedBytes, garbageBytes, liveBytes } = report;
  const groups = `${removedGroups} group${removedGroups === 1 ? '' : 's'}`;
  remark(
    options,
    `deleted ${groups}, ${formatBytes(freedBytes)} of files; moved ${formatBytes(movedBytes)}`,
  );
  remark(
    options,
    `${formatBytes(liveBytes)} are in use now, ${formatBytes(garbageBytes)} are garbage`,
  );
}
