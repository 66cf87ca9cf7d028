/**
 * The servers that are compared: chunkvol, and what people would use in its place today, each in the
 * way its manual suggests and with its own defaults. All serve a fresh, empty disk on a Unix socket.
 * docs/benchmarks.md says what each protects.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Server, startDaemon, startServer } from './server.js';

export interface Peer {
  /** How the tables call it. */
  readonly name: string;
  /** The programs it consists of. */
  readonly programs: readonly string[];
  /** Makes a disk of `sizeBytes` in the empty folder and serves it on a socket in `socketFolder`. */
  start(folder: string, socketFolder: string, sizeBytes: number): Promise<Server>;
}

/** Good enough for a disk that lives a minute. */
const PASSPHRASE = 'benchmark';
const CHUNKVOL = fileURLToPath(new URL('../../dist/cli/start.cjs', import.meta.url));

export const CHUNKVOL_NAME = 'chunkvol 4 + 2';

export const peers: readonly Peer[] = [
  {
    name: 'nbdkit memory',
    programs: ['nbdkit'],
    start(_folder, socketFolder, sizeBytes) {
      const socketPath = join(socketFolder, 'nbdkit-memory');
      const command = [...nbdkit(socketPath), 'memory', `size=${sizeBytes}`] as const;
      return startServer({ command, socketPath });
    },
  },
  {
    name: 'nbd-server',
    programs: ['nbd-server'],
    start(folder, socketFolder, sizeBytes) {
      const image = makeImage(folder, sizeBytes);
      const socketPath = join(socketFolder, 'nbd-server');
      const configuration = join(folder, 'nbd-server.conf');
      const pidPath = join(folder, 'nbd-server.pid');
      writeFileSync(
        configuration,
        `[generic]\nunixsock = ${socketPath}\n[disk]\nexportname = ${image}\nflush = true\nfua = true\n`,
      );
      const command = ['nbd-server', '-C', configuration, '-p', pidPath] as const;
      return startDaemon({ command, socketPath, exportName: 'disk' }, pidPath);
    },
  },
  {
    name: 'nbdkit file',
    programs: ['nbdkit'],
    start(folder, socketFolder, sizeBytes) {
      const socketPath = join(socketFolder, 'nbdkit-file');
      const image = makeImage(folder, sizeBytes);
      return startServer({ command: [...nbdkit(socketPath), 'file', image], socketPath });
    },
  },
  {
    name: 'qemu-nbd LUKS',
    programs: ['qemu-nbd', 'qemu-img'],
    start(folder, socketFolder, sizeBytes) {
      const socketPath = join(socketFolder, 'qemu-nbd');
      const image = makeLuksImage(folder, sizeBytes);
      const command = ['qemu-nbd', '--persistent', '--shared=8', '--cache=writeback'] as const;
      const disk = `driver=luks,key-secret=key,file.driver=file,file.filename=${image}`;
      return startServer({
        command: [...command, '-k', socketPath, ...LUKS_SECRET, '--image-opts', disk],
        socketPath,
      });
    },
  },
  {
    name: 'nbdkit + luks',
    programs: ['nbdkit', 'qemu-img'],
    start(folder, socketFolder, sizeBytes) {
      const socketPath = join(socketFolder, 'nbdkit-luks');
      const image = makeLuksImage(folder, sizeBytes);
      const filter = ['--filter=luks', 'file', image, `passphrase=${PASSPHRASE}`];
      return startServer({ command: [...nbdkit(socketPath), ...filter], socketPath });
    },
  },
  {
    name: CHUNKVOL_NAME,
    programs: [],
    start(folder, socketFolder, sizeBytes) {
      const volume = join(folder, 'volume');
      const socketPath = join(socketFolder, 'chunkvol');
      const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
      const create = [CHUNKVOL, 'create', volume, '--size', `${sizeBytes / 2 ** 20}M`];
      execFileSync(process.execPath, create, {
        env: { ...process.env, ...env },
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      const serve = [CHUNKVOL, '-C', volume, 'serve', '--socket', socketPath];
      return startServer({ command: [process.execPath, ...serve], socketPath, env });
    },
  },
];

const MAX_LUKS_ATTEMPTS = 20;
const LUKS_SECRET = ['--object', `secret,id=key,data=${PASSPHRASE}`] as const;

function nbdkit(socketPath: string): [string, ...string[]] {
  return ['nbdkit', '--foreground', '--unix', socketPath];
}

function makeImage(folder: string, sizeBytes: number): string {
  const image = join(folder, 'disk');
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  return image;
}

/** LUKS1, which is what both qemu-nbd and nbdkit can serve. */
function makeLuksImage(folder: string, sizeBytes: number): string {
  mkdirSync(folder, { recursive: true });
  const image = join(folder, 'disk.luks');
  // A short key derivation: it happens once, before anything is measured.
  const options = 'key-secret=key,iter-time=100';
  const words = ['create', '-q', ...LUKS_SECRET, '-f', 'luks', '-o', options, image];
  for (let attempt = 1; ; attempt++) {
    try {
      execFileSync('qemu-img', [...words, `${sizeBytes}`], { stdio: 'ignore' });
      return image;
    } catch (error) {
      // It times its key derivation, and gives up where the machine is too busy for that.
      if (attempt === MAX_LUKS_ATTEMPTS) throw error;
      rmSync(image, { force: true });
    }
  }
}
