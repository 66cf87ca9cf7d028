/** `chunkvol attach`: the volume as a block device or as a file. On failure nothing is left running. */
import type { Command } from 'commander';
import { connectFuse, disconnectFuse, prepareFuse, removeFuseFile } from '../attach-fuse.js';
import { connectNbd, disconnectNbd, prepareNbd } from '../attach-nbd.js';
import { BackgroundServer } from '../attach-server.js';
import { parseTarget, type Attachment } from '../attachment.js';
import { ControlClient } from '../control-client.js';
import { remark, type GlobalOptions } from '../options.js';
import { addCredentialOptions, readCredential, type CredentialSources } from '../passphrase.js';
import { newSocketPath } from '../runtime-folder.js';
import type { ServerFacts } from '../serve-process.js';
import { serverLogPath } from '../server-log.js';
import { interruptible } from '../signals.js';
import { existingVolume } from '../volume-folder.js';
import { refuseSecond } from './serve.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly readOnly?: boolean;
  readonly acceptLoss?: boolean;
}

export function addAttach(program: Command): void {
  const command = program
    .command('attach')
    .summary('show the volume as a block device or as a file')
    .description(
      'Serves the volume in the background and shows it at TARGET: as a block device if that is ' +
        '/dev/nbdN (needs root, nbd-client and the nbd module), and as a file for any other path ' +
        '(needs nbdfuse). Returns when it can be used. What the server has to say later goes to ' +
        'local/serve.log in the folder of the volume.',
    )
    .argument('<target>', '/dev/nbdN, or the path of a file')
    .option('--read-only', 'refuse writes')
    .option('--accept-loss', 'open although flushed writes are missing, and cut them off');
  addCredentialOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n  chunkvol -C backup attach /dev/nbd0 && mount /dev/nbd0 /mnt\n' +
        '  chunkvol -C backup attach ./disk && mount -o loop ./disk /mnt',
    )
    .action((target: string) => runAttach(target, command.optsWithGlobals()));
}

async function runAttach(text: string, options: Options): Promise<void> {
  const folder = existingVolume(options.volume);
  const { kind, target } = parseTarget(text);
  // What is missing is said before a passphrase is asked for.
  await refuseSecond(folder);
  const attachment = kind === 'nbd' ? prepareNbd(target) : prepareFuse(target);
  try {
    await interruptible((signal) => attach(folder, attachment, options, signal));
  } catch (error) {
    removeFuseFile(attachment);
    throw error;
  }
  remark(options, `${folder} is attached at ${attachment.target}`);
}

async function attach(
  folder: string,
  attachment: Attachment,
  options: Options,
  signal: AbortSignal,
): Promise<void> {
  const credential = await readCredential(options);
  const readOnly = options.readOnly ?? false;
  const socket = newSocketPath(folder, 'nbd');
  const settings = { socket, readOnly, acceptLoss: options.acceptLoss ?? false };
  const server = await BackgroundServer.start(folder, credential, settings, signal);
  try {
    const control = ControlClient.at(newSocketPath(folder, 'control'));
    const { sizeBytes } = (await control.call('attached')) as ServerFacts;
    const connection = { readOnly, sizeBytes, log: serverLogPath(folder), signal };
    if (attachment.kind === 'nbd') await connectNbd(attachment, socket, connection);
    else await connectFuse(attachment, socket, connection);
    await control.call('attached', { register: attachment });
  } catch (error) {
    await disconnect(attachment, { serverGone: false }).catch(() => undefined);
    await server.stop();
    throw error;
  }
  server.release();
}

/** Takes the device or file away from the server. Throws ChunkvolError('in-use') while it is used. */
export function disconnect(
  attachment: Attachment,
  state: { readonly serverGone: boolean },
): Promise<void> {
  return attachment.kind === 'nbd' ? disconnectNbd(attachment, state) : disconnectFuse(attachment);
}
