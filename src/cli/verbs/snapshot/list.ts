/** `chunkvol snapshot list`: what is kept, and what it costs. */
import type { Command } from 'commander';
import { perform } from '../../access.js';
import { print, type GlobalOptions } from '../../options.js';
import { addCredentialOptions, type CredentialSources } from '../../passphrase.js';
import type { MeasuredSnapshot } from '../../snapshot-operations.js';
import { snapshotTable } from '../../snapshot-text.js';
import { snapshotStatus } from '../../status-report.js';
import { existingVolume } from '../../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly json?: boolean;
}

const LIST_SCHEMA = 1;

export function addSnapshotList(snapshot: Command): void {
  const command = snapshot
    .command('list')
    .summary('list the snapshots, and what they hold')
    .description(
      'Lists the snapshots, the oldest first: name, time, how much of the disk was in use, and how ' +
        'much deleting this one alone would free (before parity). What several snapshots share is ' +
        'freed by none of them alone.',
    )
    .option('--json', 'as JSON; docs/cli.md describes the schema');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup snapshot list')
    .action(() => runList(command.optsWithGlobals()));
}

async function runList(options: Options): Promise<void> {
  const folder = existingVolume(options.volume);
  const all = (await perform(folder, options, 'measure-snapshots')) as MeasuredSnapshot[];
  if (options.json) {
    print(JSON.stringify({ schema: LIST_SCHEMA, snapshots: all.map(snapshotStatus) }, null, 2));
  } else {
    snapshotTable(all).forEach(print);
  }
}
