/**
 * `chunkvol attach`: the disk, or a snapshot of it, as a block device or as a file: by the server that
 * runs already, or by one that is started for it. On failure nothing is left running.
 */
import type { Command } from 'commander';
import { ChunkvolError, isChunkvolError } from '../../base/errors.js';
import { checkSnapshotName } from '../../volume/snapshots.js';
import { connectFuse, disconnectFuse, prepareFuse, removeFuseFile } from '../attach-fuse.js';
import { connectNbd, disconnectNbd, prepareNbd } from '../attach-nbd.js';
import { BackgroundServer } from '../attach-server.js';
import { parseTarget, type Attachment, type Target } from '../attachment.js';
import type { AttachedSize } from '../attachments.js';
import { ControlClient } from '../control-client.js';
import { remark, type GlobalOptions } from '../options.js';
import { addCredentialOptions, readCredential, type CredentialSources } from '../passphrase.js';
import { newSocketPath } from '../runtime-folder.js';
import type { ServerFacts } from '../serve-process.js';
import { serverLogPath } from '../server-log.js';
import { interruptible } from '../signals.js';
import { existingVolume } from '../volume-folder.js';
import { inUseBy } from './serve.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly snapshot?: string;
  readonly readOnly?: boolean;
  readonly acceptLoss?: boolean;
}

export function addAttach(program: Command): void {
  const command = program
    .command('attach')
    .summary('show the volume, or a snapshot, as a block device or a file')
    .description(
      'Serves the volume in the background and shows it at TARGET: as a block device if that is ' +
        '/dev/nbdN (needs root, nbd-client and the nbd module), and as a file for any other path ' +
        '(needs nbdfuse). Returns when it can be used. Snapshots can be attached beside the disk, ' +
        'read-only. What the server has to say later goes to local/serve.log in the folder of the ' +
        'volume.',
    )
    .argument('<target>', '/dev/nbdN, or the path of a file')
    .option('--snapshot <name>', 'show this snapshot, not the disk as it is now')
    .option('--read-only', 'refuse writes')
    .option('--accept-loss', 'open although flushed writes are missing, and cut them off');
  addCredentialOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n  chunkvol -C backup attach /dev/nbd0 && mount /dev/nbd0 /mnt\n' +
        '  chunkvol -C backup attach ./disk && mount -o loop ./disk /mnt\n' +
        '  chunkvol -C backup attach --snapshot monday /dev/nbd1 && ' +
        'mount -o ro,noload /dev/nbd1 /mnt2',
    )
    .action((target: string) => runAttach(target, command.optsWithGlobals()));
}

async function runAttach(text: string, options: Options): Promise<void> {
  const snapshot = options.snapshot ?? null;
  if (snapshot !== null) checkSnapshotName(snapshot);
  const folder = existingVolume(options.volume);
  const target = parseTarget(text);
  // What is missing or in the way is said before a passphrase is asked for.
  const control = await ControlClient.find(folder);
  if (control) requireFree(folder, await factsOf(control), options);
  const attachment: Attachment = { ...target, snapshot, ...prepare(target) };
  try {
    await interruptible((signal) =>
      control
        ? show(folder, control, attachment, options, signal)
        : serveAndShow(folder, attachment, options, signal),
    );
  } catch (error) {
    removeFuseFile(attachment);
    throw error;
  }
  const what = snapshot === null ? folder : `snapshot ${snapshot} of ${folder}`;
  remark(options, `${what} is attached at ${attachment.target}`);
}

async function factsOf(control: ControlClient): Promise<ServerFacts> {
  return (await control.call('attached')) as ServerFacts;
}

/** The server has the last word in this, but it has it late. */
function requireFree(folder: string, facts: ServerFacts, options: Options): void {
  if (options.snapshot !== undefined) return;
  const isShown = facts.attachments.some(({ snapshot }) => snapshot === null);
  if (isShown) throw inUseBy(folder, facts.pid, facts.uri);
  if (!facts.readOnly || options.readOnly) return;
  throw new ChunkvolError(
    'read-only',
    `process ${facts.pid} serves ${folder} read-only; add --read-only, or run chunkvol detach first`,
  );
}

function prepare({ kind, target }: Target): Pick<Attachment, 'createdFile'> {
  if (kind === 'fuse') return prepareFuse(target);
  prepareNbd(target);
  return { createdFile: false };
}

async function serveAndShow(
  folder: string,
  attachment: Attachment,
  options: Options,
  signal: AbortSignal,
): Promise<void> {
  const credential = await readCredential(options);
  const { readOnly = false, acceptLoss = false } = options;
  const settings = { socket: newSocketPath(folder, 'nbd'), readOnly, acceptLoss };
  const server = await BackgroundServer.start(folder, credential, settings, signal);
  try {
    const control = ControlClient.at(newSocketPath(folder, 'control'));
    await show(folder, control, attachment, options, signal);
  } catch (error) {
    await server.stop();
    throw error;
  }
  server.release();
}

/** Has the server remember the attachment first, which reserves the disk for it. */
async function show(
  folder: string,
  control: ControlClient,
  attachment: Attachment,
  options: Options,
  signal: AbortSignal,
): Promise<void> {
  const { kind, target, snapshot } = attachment;
  const { pid, address } = await factsOf(control);
  const { sizeBytes } = await register(control, attachment).catch((error: unknown) => {
    if (!isChunkvolError(error, 'in-use')) throw error;
    throw inUseBy(folder, pid, error.message);
  });
  try {
    const readOnly = snapshot !== null || (options.readOnly ?? false);
    const connection = { readOnly, sizeBytes, log: serverLogPath(folder), signal };
    if (kind === 'nbd') await connectNbd(attachment, address, connection);
    else await connectFuse(attachment, address, connection);
  } catch (error) {
    await disconnect(attachment, { serverGone: false }).catch(() => undefined);
    await control.call('unregister', { target }).catch(() => undefined);
    throw error;
  }
}

async function register(control: ControlClient, attachment: Attachment): Promise<AttachedSize> {
  return (await control.call('register', attachment)) as AttachedSize;
}

/** Takes the device or file away from the server. Throws ChunkvolError('in-use') while it is used. */
export function disconnect(
  attachment: Attachment,
  state: { readonly serverGone: boolean },
): Promise<void> {
  return attachment.kind === 'nbd' ? disconnectNbd(attachment, state) : disconnectFuse(attachment);
}
