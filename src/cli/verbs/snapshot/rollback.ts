/** `chunkvol snapshot rollback`: the disk as it was, and a way back. */
import type { Command } from 'commander';
import { checkSnapshotName } from '../../../volume/snapshots.js';
import { perform } from '../../access.js';
import { print, remark, type GlobalOptions } from '../../options.js';
import { addCredentialOptions, type CredentialSources } from '../../passphrase.js';
import { formatBytes } from '../../size.js';
import type { RollbackArguments, RollbackOutcome } from '../../snapshot-operations.js';
import { existingVolume } from '../../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {}

export function addSnapshotRollback(snapshot: Command): void {
  const command = snapshot
    .command('rollback')
    .summary('make the disk again what it was')
    .description(
      'Makes the disk again what it was in the snapshot NAME, its size included. The state before is ' +
        'kept as a snapshot of its own, whose name it prints: rolling back to that undoes it. Refused ' +
        'while the disk is attached or has NBD clients (status 5).',
    )
    .argument('<name>', 'as snapshot list shows it');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup snapshot rollback before-upgrade')
    .action((name: string) => runRollback(name, command.optsWithGlobals()));
}

async function runRollback(name: string, options: Options): Promise<void> {
  checkSnapshotName(name);
  const folder = existingVolume(options.volume);
  const args: RollbackArguments = { name };
  const outcome = (await perform(folder, options, 'rollback', args)) as RollbackOutcome;
  const { kept, sizeBytes, oldSizeBytes } = outcome;
  print(`the disk is what it was in ${name}; the state before is kept as ${kept.name}`);
  if (sizeBytes !== oldSizeBytes) {
    remark(
      options,
      `its size is ${formatBytes(sizeBytes)} again, not ${formatBytes(oldSizeBytes)}`,
    );
  }
}
