/** `chunkvol remote`: names for the places that a volume is synced to. */
import type { Command } from 'commander';
import { nodeFiles } from '../../base/node-files.js';
import {
  addRemote as nameRemote,
  readRemoteBook,
  receiptOf,
  removeRemote,
} from '../../sync/remotes.js';
import { parseRemoteUrl } from '../../sync/url.js';
import { print, remark, type GlobalOptions } from '../options.js';
import { existingVolume } from '../volume-folder.js';

const URLS = `
A URL is one of
  FOLDER                         a local folder
  rsync:[USER@]HOST:PATH         a folder on a host reached by ssh
  rsync://HOST/MODULE/PATH       a folder of an rsync daemon
  rclone:REMOTE:PATH             anything in your rclone configuration`;

export function addRemote(program: Command): void {
  const remote = program
    .command('remote')
    .summary('name the places that the volume is synced to')
    .description('Names for the places that the volume is synced to. Nothing is reached or copied.')
    .addHelpText(
      'after',
      `${URLS}\n\nExample:\n  chunkvol remote add offsite rclone:b2:my-bucket/backup`,
    );

  const add = remote
    .command('add')
    .description('Adds a remote.')
    .argument('<name>', 'what to call it')
    .argument('<url>', 'where it is')
    .addHelpText('after', `${URLS}\n\nExample:\n  chunkvol remote add nas rsync:me@nas:/srv/backup`)
    .action((name: string, url: string) => runAdd(name, url, add.optsWithGlobals()));

  const list = remote
    .command('list')
    .description('Lists the remotes, with the time and generation of their last sync.')
    .addHelpText('after', '\nExample:\n  chunkvol remote list')
    .action(() => runList(list.optsWithGlobals()));

  const remove = remote
    .command('remove')
    .description('Forgets a remote; what was copied there stays.')
    .argument('<name>', 'as remote list shows it')
    .addHelpText('after', '\nExample:\n  chunkvol remote remove nas')
    .action((name: string) => runRemove(name, remove.optsWithGlobals()));
}

function volumeOf(options: GlobalOptions): { files: typeof nodeFiles; folder: string } {
  return { files: nodeFiles, folder: existingVolume(options.volume) };
}

async function runAdd(name: string, text: string, options: GlobalOptions): Promise<void> {
  const url = parseRemoteUrl(text).text;
  await nameRemote(volumeOf(options), name, url);
  remark(options, `added ${name}: ${url}`);
}

async function runList(options: GlobalOptions): Promise<void> {
  const book = await readRemoteBook(volumeOf(options));
  const widest = Math.max(0, ...book.remotes.map(({ name }) => name.length));
  for (const { name, url } of book.remotes) {
    const receipt = receiptOf(book, url);
    const last = receipt
      ? `${new Date(receipt.timeMs).toISOString()}, generation ${receipt.generation}`
      : 'never synced';
    print(`${name.padEnd(widest)}  ${url}  (${last})`);
  }
}

async function runRemove(name: string, options: GlobalOptions): Promise<void> {
  await removeRemote(volumeOf(options), name);
  remark(options, `removed ${name}`);
}
