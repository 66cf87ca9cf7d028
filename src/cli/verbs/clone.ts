/** `chunkvol clone`: a volume of its own from a snapshot. */
import * as path from 'node:path';
import type { Command } from 'commander';
import { checkSnapshotName } from '../../volume/snapshots.js';
import { perform } from '../access.js';
import { remark, type GlobalOptions } from '../options.js';
import { addCredentialOptions, type CredentialSources } from '../passphrase.js';
import { checkVolumeName } from '../volume-arguments.js';
import { existingVolume, requireEmpty } from '../volume-folder.js';
import type { CloneArguments } from '../volume-operations.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly name?: string;
}

export function addClone(program: Command): void {
  const command = program
    .command('clone')
    .summary('make a volume of its own from a snapshot')
    .description(
      'Makes a volume in DIR whose disk is that of the snapshot, and which is written to independently ' +
        'from then on. The same passphrases and key files open it. Chunk files are shared (hard links) ' +
        'where both folders are on one file system, and copied otherwise.',
    )
    .argument('<snapshot>', 'as snapshot list shows it')
    .argument('<dir>', "the new volume's folder; empty, or not there")
    .option('--name <name>', "the new volume's name (default: that of its folder)");
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup clone monday ./experiment')
    .action((name: string, dir: string) => runClone(name, dir, command.optsWithGlobals()));
}

async function runClone(snapshot: string, dir: string, options: Options): Promise<void> {
  checkSnapshotName(snapshot);
  const target = path.resolve(dir);
  const name = checkVolumeName(options.name ?? path.basename(target));
  requireEmpty(target);
  const folder = existingVolume(options.volume);
  const args: CloneArguments = { snapshot, folder: target, name };
  await perform(folder, options, 'clone', args);
  remark(options, `${target} is a volume of its own now, from snapshot ${snapshot} of ${folder}`);
}
