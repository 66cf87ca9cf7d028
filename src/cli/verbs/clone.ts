/** `chunkvol clone`: a volume of its own from a snapshot. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Command } from 'commander';
import { FOLDERS } from '../../store/context.js';
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
  const isNew = !fs.existsSync(target);
  try {
    await perform(folder, options, 'clone', args);
  } catch (error) {
    removeEmptyFolders(target, isNew);
    throw error;
  }
  remark(options, `${target} is a volume of its own now, from snapshot ${snapshot} of ${folder}`);
}

/** A clone that failed leaves no files, but folders that would be in the way of another try. */
function removeEmptyFolders(target: string, isNew: boolean): void {
  const folders = Object.values(FOLDERS).map((name) => path.join(target, name));
  for (const folder of isNew ? [...folders, target] : folders) {
    try {
      fs.rmdirSync(folder);
    } catch {
      // It is not there, or not empty.
    }
  }
}
