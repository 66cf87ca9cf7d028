/** `chunkvol detach`: takes the device or file away, and ends the server when everything is sealed. */
import type { Command } from 'commander';
import { ChunkvolError } from '../../base/errors.js';
import { isFuseMounted } from '../attach-fuse.js';
import { isConnected } from '../attach-nbd.js';
import { parseTarget, type Attachment, type Target } from '../attachment.js';
import { ControlClient } from '../control-client.js';
import { remark, type GlobalOptions } from '../options.js';
import type { ServerFacts } from '../serve-process.js';
import { chosenFolder, isVolume, VOLUME_VARIABLE } from '../volume-folder.js';
import { disconnect } from './attach.js';

interface Server extends ServerFacts {
  readonly client: ControlClient;
}

export function addDetach(program: Command): void {
  const command = program
    .command('detach')
    .summary('undo attach: seal the volume and let go of it')
    .description(
      'Takes the device or file away; with the last one it ends the server, after everything has ' +
        'been written, made durable and sealed. Without TARGET: all of the chosen volume, or of the ' +
        'only one there is. What is mounted on it must be unmounted first. Asks for no passphrase.',
    )
    .argument('[target]', '/dev/nbdN, or the path of the file')
    .addHelpText('after', '\nExample:\n  umount /mnt && chunkvol detach /dev/nbd0')
    .action((target: string | undefined) => runDetach(target, command.optsWithGlobals()));
}

async function runDetach(text: string | undefined, options: GlobalOptions): Promise<void> {
  const server = text === undefined ? await onlyServer(options) : await serverAt(text);
  if (server === null) {
    await clearLeftover(text!);
    remark(options, `${text!} is free; its server was gone already`);
    return;
  }
  const chosen = text === undefined ? server.attachments : attachmentsAt(server, text);
  for (const attachment of chosen) await disconnect(attachment, { serverGone: false });
  const ended = await letGo(server, text === undefined ? null : chosen);
  if (ended) remark(options, `${server.folder} is detached`);
  else remark(options, `${text!} is detached; process ${server.pid} serves on`);
}

/** Whether that was the server's end: of all, or of the last place of one that `attach` has started. */
async function letGo(server: Server, places: readonly Target[] | null): Promise<boolean> {
  const targets = places?.map(({ target }) => target) ?? null;
  if (targets === null || server.background) {
    return (await server.client.call('stop', { targets })) as boolean;
  }
  for (const target of targets) await server.client.call('unregister', { target });
  return false;
}

function attachmentsAt({ attachments }: Server, text: string): readonly Attachment[] {
  const { target } = parseTarget(text);
  return attachments.filter((attachment) => attachment.target === target);
}

/** Those that answer: one may just be ending, or be of another version. */
async function allServers(): Promise<Server[]> {
  const clients = await ControlClient.all();
  const servers = await Promise.allSettled(
    clients.map(async (client) => ({
      client,
      ...((await client.call('attached')) as ServerFacts),
    })),
  );
  return servers.flatMap((server) => (server.status === 'fulfilled' ? [server.value] : []));
}

/** null when no server knows of the target. */
async function serverAt(text: string): Promise<Server | null> {
  const servers = await allServers();
  return servers.find((server) => attachmentsAt(server, text).length > 0) ?? null;
}

async function onlyServer(options: GlobalOptions): Promise<Server> {
  const servers = await allServers();
  const folder = chosenFolder(options.volume);
  const named = options.volume !== undefined || process.env[VOLUME_VARIABLE] || isVolume(folder);
  if (named) {
    const client = await ControlClient.find(folder);
    const own = servers.find((server) => server.client.path === client?.path);
    if (own) return own;
    throw new ChunkvolError('not-a-volume', `the volume in ${folder} is not attached`);
  }
  if (servers.length === 1) return servers[0]!;
  if (servers.length === 0) throw new ChunkvolError('not-a-volume', 'no volume is attached');
  const names = servers.flatMap(({ attachments, folder: other }) =>
    attachments.length === 0 ? [`-C ${other}`] : attachments.map(({ target }) => target),
  );
  throw new ChunkvolError('usage', `several volumes are attached; name one: ${names.join(', ')}`);
}

/** What a killed server has left behind: a device or mount that answers nothing but errors. */
async function clearLeftover(text: string): Promise<void> {
  const attachment: Attachment = { ...parseTarget(text), snapshot: null, createdFile: false };
  const { kind, target } = attachment;
  const present = kind === 'nbd' ? isConnected(target) : isFuseMounted(target);
  if (!present) throw new ChunkvolError('not-a-volume', `nothing is attached at ${target}`);
  await disconnect(attachment, { serverGone: true });
}
