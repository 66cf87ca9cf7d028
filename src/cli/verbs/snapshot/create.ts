/** `chunkvol snapshot create`: keeps the disk as it is now. */
import type { Command } from 'commander';
import { checkSnapshotName, type SnapshotInfo } from '../../../volume/snapshots.js';
import { perform } from '../../access.js';
import { remark, type GlobalOptions } from '../../options.js';
import { addCredentialOptions, type CredentialSources } from '../../passphrase.js';
import { formatBytes } from '../../size.js';
import type { CreateArguments } from '../../snapshot-operations.js';
import { existingVolume } from '../../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {}

export function addSnapshotCreate(snapshot: Command): void {
  const command = snapshot
    .command('create')
    .summary('keep the disk as it is now')
    .description(
      'Keeps the disk as it is now, with all that has been written to it, under NAME. A file system ' +
        'that is mounted meanwhile finds it as after a power cut; fsfreeze makes it clean.',
    )
    .argument(
      '[name]',
      'up to 255 bytes, without / and @ (default: the time, as 2026-11-25T022206Z)',
    );
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup snapshot create before-upgrade')
    .action((name: string | undefined) => runCreate(name ?? null, command.optsWithGlobals()));
}

async function runCreate(name: string | null, options: Options): Promise<void> {
  if (name !== null) checkSnapshotName(name);
  const folder = existingVolume(options.volume);
  const args: CreateArguments = { name };
  const made = (await perform(folder, options, 'create-snapshot', args)) as SnapshotInfo;
  remark(options, `created snapshot ${made.name}: ${formatBytes(made.mappedBytes)} in use`);
}
