/** `chunkvol resize`: another size for the disk. */
import type { Command } from 'commander';
import { errorMessage } from '../../base/errors.js';
import { perform } from '../access.js';
import { resizeNbd } from '../attach-nbd.js';
import type { Attachment } from '../attachment.js';
import { print, remark, type GlobalOptions } from '../options.js';
import { addCredentialOptions, type CredentialSources } from '../passphrase.js';
import { formatBytes } from '../size.js';
import { parseDiskSize } from '../volume-arguments.js';
import { existingVolume } from '../volume-folder.js';
import type { ResizeArguments, ResizeOutcome } from '../volume-operations.js';

interface Options extends GlobalOptions, CredentialSources {}

export function addResize(program: Command): void {
  const command = program
    .command('resize')
    .summary('change the size of the disk')
    .description(
      'Makes the disk larger, or smaller if nothing is stored in what is cut off: shrink the file ' +
        'system first, and trim. NBD clients that connect from now on see the new size, and those that ' +
        'are connected may use it. A device /dev/nbdN gets it at once; a file of attach keeps the size ' +
        'that it had until it is detached and attached again. Then grow the file system (resize2fs, ' +
        'xfs_growfs, btrfs filesystem resize).',
    )
    .argument('<size>', 'the new size, up to 1P; rounded up to whole blocks');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup resize 200G')
    .action((size: string) => runResize(size, command.optsWithGlobals()));
}

async function runResize(text: string, options: Options): Promise<void> {
  const args: ResizeArguments = { sizeBytes: parseDiskSize(text, 'size') };
  const folder = existingVolume(options.volume);
  const outcome = (await perform(folder, options, 'resize', args)) as ResizeOutcome;
  const { oldSizeBytes, sizeBytes, attachments } = outcome;
  const isNew = sizeBytes !== oldSizeBytes;
  const since = isNew ? `now, and had ${formatBytes(oldSizeBytes)}` : 'already';
  remark(options, `the disk has ${formatBytes(sizeBytes)} ${since}`);
  // A device may have been left behind when this was run without the right to change it.
  const stale = attachments.filter(({ kind }) => isNew || kind === 'nbd');
  for (const attachment of stale) await showSize(attachment, sizeBytes, folder, options);
}

/** Makes what shows the disk show its new size, or says how that is done. */
async function showSize(
  attachment: Attachment,
  sizeBytes: number,
  folder: string,
  options: Options,
): Promise<void> {
  const { kind, target } = attachment;
  try {
    if (kind === 'fuse') throw new Error('nbdfuse asks for it only once');
    await resizeNbd(attachment, sizeBytes);
    remark(options, `${target} has the new size`);
  } catch (error) {
    print(
      `${target} keeps the old size (${errorMessage(error)}); to change that, umount what is on it, ` +
        `chunkvol detach ${target} and chunkvol -C ${folder} attach ${target}`,
    );
  }
}
