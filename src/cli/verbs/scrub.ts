/** `chunkvol scrub`: reads and verifies everything. */
import type { Command } from 'commander';
import { perform } from '../access.js';
import { reportRepair, reportScrub } from '../mending-report.js';
import type { RepairOutcome, ScrubOutcome } from '../mending.js';
import type { GlobalOptions } from '../options.js';
import { addCredentialOptions, type CredentialSources } from '../passphrase.js';
import { existingVolume } from '../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly repair?: boolean;
}

export function addScrub(program: Command): void {
  const command = program
    .command('scrub')
    .summary('read and verify everything')
    .description(
      'Reads every byte of every sealed chunk file and checks it; names each file and range that is ' +
        'damaged. Ends with status 1 when repair can mend all of it, with 4 when it cannot. Works ' +
        'while the volume is attached.',
    )
    .option('--repair', 'mend what is damaged, as chunkvol repair does');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup scrub --repair')
    .action(() => runScrub(command.optsWithGlobals()));
}

async function runScrub(options: Options): Promise<void> {
  const folder = existingVolume(options.volume);
  if (options.repair) {
    const outcome = await perform(folder, options, 'repair', { from: null });
    reportRepair(options, outcome as RepairOutcome);
  } else {
    const outcome = await perform(folder, { ...options, readOnly: true }, 'scrub');
    reportScrub(options, outcome as ScrubOutcome);
  }
}
