/** `chunkvol snapshot delete`: gives up states that were kept. */
import type { Command } from 'commander';
import { checkSnapshotName } from '../../../volume/snapshots.js';
import { perform } from '../../access.js';
import { remark, type GlobalOptions } from '../../options.js';
import { addCredentialOptions, type CredentialSources } from '../../passphrase.js';
import type { NamesArguments } from '../../snapshot-operations.js';
import { existingVolume } from '../../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {}

export function addSnapshotDelete(snapshot: Command): void {
  const command = snapshot
    .command('delete')
    .summary('give up snapshots')
    .description(
      'Deletes snapshots: all that are named, or none when one of them does not exist or is in use. ' +
        'Asks for no confirmation. The space comes back with the next collection (see gc).',
    )
    .argument('<name...>', 'as snapshot list shows them');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup snapshot delete monday tuesday')
    .action((names: string[]) => runDelete([...new Set(names)], command.optsWithGlobals()));
}

async function runDelete(names: readonly string[], options: Options): Promise<void> {
  names.forEach(checkSnapshotName);
  const folder = existingVolume(options.volume);
  const args: NamesArguments = { names };
  await perform(folder, options, 'delete-snapshots', args);
  for (const name of names) remark(options, `deleted snapshot ${name}`);
}
