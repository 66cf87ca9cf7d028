/** `chunkvol status`: what the volume holds, how healthy it is, where it is attached and synced. */
import type { Command } from 'commander';
import { perform } from '../access.js';
import { print, type GlobalOptions } from '../options.js';
import { addCredentialOptions, type CredentialSources } from '../passphrase.js';
import { describeStatus } from '../status-text.js';
import type { StatusReport } from '../status-report.js';
import { existingVolume } from '../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly json?: boolean;
}

export function addStatus(program: Command): void {
  const command = program
    .command('status')
    .summary('show what the volume holds and how it is')
    .description(
      'Size and contents, groups and their health, where the volume is attached, and what the remotes ' +
        'have of it. Asks for no passphrase while the volume is attached, and changes nothing.',
    )
    .option('--json', 'as JSON; docs/cli.md describes the schema');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup status --json | jq .unprotectedBytes')
    .action(() => runStatus(command.optsWithGlobals()));
}

async function runStatus(options: Options): Promise<void> {
  const folder = existingVolume(options.volume);
  const report = (await perform(folder, { ...options, readOnly: true }, 'status')) as StatusReport;
  if (options.json) print(JSON.stringify(report, null, 2));
  else describeStatus(report).forEach(print);
}
