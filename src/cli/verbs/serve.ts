/** `chunkvol serve`: an NBD server in the foreground. `attach` runs it in the background. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { type Command, Option } from 'commander';
import { ChunkvolError, errorMessage, fromSystem } from '../../base/errors.js';
import type { NbdAddress } from '../../nbd/address.js';
import { ControlClient } from '../control-client.js';
import { errorLine, report } from '../exit.js';
import { print, type GlobalOptions } from '../options.js';
import { addCredentialOptions, type CredentialSources } from '../passphrase.js';
import { makePrivateFolder, newSocketPath } from '../runtime-folder.js';
import { serve, type ServerFacts } from '../serve-process.js';
import { openServerLog } from '../server-log.js';
import { existingVolume } from '../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly socket?: string;
  readonly port?: string;
  readonly bind?: string;
  readonly insecure?: boolean;
  readonly readOnly?: boolean;
  readonly acceptLoss?: boolean;
  readonly background?: boolean;
}

export function addServe(program: Command): void {
  const command = program
    .command('serve')
    .summary('serve the volume over NBD, in the foreground')
    .description(
      'Serves the volume over NBD, under the export names "" and the name of the volume, and each ' +
        'of its snapshots, read-only, under "@" and its name. Prints one line "ready URI" when it accepts clients. SIGTERM and SIGINT make everything ' +
        'durable and end it.',
    )
    .addOption(new Option('--socket <path>', 'listen on this Unix socket').conflicts('port'))
    .option('--port <n>', 'listen on a TCP port instead, 0 for any')
    .option('--bind <addr>', 'the address for --port (default: 127.0.0.1)')
    .option('--insecure', 'allow --bind addresses that others can reach; nothing is encrypted')
    .option('--read-only', 'refuse writes')
    .option('--accept-loss', 'open although flushed writes are missing, and cut them off')
    .addOption(new Option('--background').hideHelp());
  addCredentialOptions(command)
    .addHelpText(
      'after',
      '\nExample:\n  chunkvol -C backup serve --socket /run/user/1000/disk.sock\n' +
        "  nbdinfo 'nbd+unix:///?socket=/run/user/1000/disk.sock'",
    )
    .action(() => runServe(command.optsWithGlobals()));
}

async function runServe(options: Options): Promise<void> {
  const folder = existingVolume(options.volume);
  const address = chooseAddress(folder, options);
  await refuseSecond(folder);
  const log = new Notices(folder);
  await serve(folder, {
    ...options,
    address,
    background: options.background ?? false,
    controlPath: newSocketPath(folder, 'control'),
    onNotice: log.write,
    onReady: (uri) => {
      print(`ready ${uri}`);
      if (options.background) log.moveToFile(uri);
    },
  }).catch((error: unknown) => {
    log.lastWords(error);
    throw error;
  });
}

/** Asked before the passphrase is; what comes in between is refused by the lock. */
async function refuseSecond(folder: string): Promise<void> {
  const server = await ControlClient.find(folder);
  if (!server) return;
  const { pid, uri } = (await server.call('attached')) as ServerFacts;
  throw inUseBy(folder, pid, uri);
}

/** `how`: where it is served, or what is in the way. */
export function inUseBy(folder: string, pid: number, how: string): ChunkvolError {
  return new ChunkvolError('in-use', `the volume in ${folder} is in use by process ${pid}: ${how}`);
}

function chooseAddress(folder: string, options: Options): NbdAddress {
  const { port, bind = '127.0.0.1', insecure = false, socket } = options;
  if (port === undefined) {
    if (options.bind !== undefined)
      throw new ChunkvolError('usage', '--bind is of no use without --port');
    if (socket === undefined) return { kind: 'unix', path: newSocketPath(folder, 'nbd') };
    return { kind: 'unix', path: checkSocketFolder(path.resolve(socket)) };
  }
  const number = Number(port);
  if (!/^\d{1,5}$/.test(port) || number > 65535) {
    throw new ChunkvolError('usage', `--port ${port} is no port; use 0 to 65535`);
  }
  if (!isLoopback(bind) && !insecure) {
    throw new ChunkvolError(
      'usage',
      `--bind ${bind} can be reached by others, unencrypted and without a password; add --insecure if that is meant`,
    );
  }
  return { kind: 'tcp', host: bind, port: number };
}

function isLoopback(address: string): boolean {
  return /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(address) || ['::1', 'localhost'].includes(address);
}

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** Creates the socket's folder, 0700; refuses one in which others could put a socket in its place. */
function checkSocketFolder(socket: string): string {
  const folder = path.dirname(socket);
  makePrivateFolder(folder);
  try {
    const { mode } = fs.statSync(folder);
    if ((mode & WRITABLE_BY_OTHERS) === 0 || (mode & STICKY) !== 0) return socket;
  } catch (error) {
    throw fromSystem(error, 'open', folder);
  }
  throw new ChunkvolError(
    'usage',
    `others may write to ${folder} and could take the socket's place; chmod go-w ${folder}, or choose another`,
  );
}

/** Standard error at first; in the background the log, as nobody reads standard error any more. */
class Notices {
  #inFile = false;
  #say = (line: string): void => {
    process.stderr.write(`chunkvol: ${line}\n`);
  };

  constructor(private readonly folder: string) {}

  readonly write = (line: string): void => {
    this.#say(line);
  };

  /** For the log; on standard error the program itself says why it ends. */
  lastWords(error: unknown): void {
    if (this.#inFile) this.write(errorLine(error));
  }

  moveToFile(uri: string): void {
    this.#inFile = true;
    this.#say = openServerLog(this.folder);
    this.write(`process ${process.pid} serves at ${uri}`);
    process.on('exit', (status) => {
      this.write(`process ${process.pid} ends with status ${status}`);
    });
    process.on('uncaughtException', (error) => {
      this.write(`unexpected failure: ${error.stack ?? errorMessage(error)}`);
      process.exit(report(error));
    });
  }
}
