/**
 * Real servers for the tests of src/sync, each on loopback, on a port of its own and in a folder of
 * its own: sshd (for rsync and for rclone's sftp), an rsync daemon, an S3 server. Each is a child
 * of the test and is gone when `stop()` has returned.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as net from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { pathOf } from './tools.js';

const START_TIMEOUT_MS = 10_000;
const POLL_MS = 25;

export interface Server {
  readonly port: number;
  stop(): Promise<void>;
}

export interface SshServer extends Server {
  /** For CHUNKVOL_SSH: reaches the server under the host name "loop" without asking anything. */
  readonly sshCommand: string;
  /** An rclone remote on the same server, up to and including the colon before the path. */
  readonly rcloneSftp: string;
}

export interface S3Server extends Server {
  readonly bucket: string;
  /** RCLONE_CONFIG_* variables that make the server the rclone remote `name`. */
  environment(name: string, secret?: string): Record<string, string>;
}

/** A new folder below the system's temporary folder, its name free of symbolic links. */
export function makeTestFolder(): string {
  return fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'chunkvol-remote-')));
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/**
 * `path`: the only folder in which commands on the host find programs, instead of the usual ones.
 * `command`: what the user's key may start, instead of anything ("command=" of authorized_keys).
 */
export async function startSshd(
  folder: string,
  options: { path?: string; command?: string } = {},
): Promise<SshServer> {
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const port = await freePort();
  const hostKey = makeSshKey(path.join(folder, 'host_key'));
  const userKey = makeSshKey(path.join(folder, 'user_key'));
  const authorizedKeys = path.join(folder, 'authorized_keys');
  const restriction = options.command === undefined ? '' : `command="${options.command}" `;
  writeLines(authorizedKeys, [restriction + fs.readFileSync(`${userKey}.pub`, 'utf8').trim()]);
  const user = os.userInfo().username;
  if (process.getuid?.() === 0) fs.mkdirSync('/run/sshd', { recursive: true });
  writeLines(path.join(folder, 'sshd_config'), [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${hostKey}`,
    `PidFile ${path.join(folder, 'sshd.pid')}`,
    `AuthorizedKeysFile ${authorizedKeys}`,
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'UsePAM no',
    'StrictModes no',
    'PermitRootLogin yes',
    'Subsystem sftp internal-sftp',
    // To bash it is not the first shell then: it leaves out the start-up files of whoever runs the tests.
    `SetEnv SHLVL=1${options.path === undefined ? '' : ` PATH=${options.path}`}`,
  ]);
  const knownHosts = path.join(folder, 'known_hosts');
  const hostPublicKey = fs.readFileSync(`${hostKey}.pub`, 'utf8').trim();
  writeLines(knownHosts, [`[127.0.0.1]:${port} ${hostPublicKey}`]);
  const clientConfig = path.join(folder, 'ssh_config');
  writeLines(clientConfig, [
    'Host loop',
    '  HostName 127.0.0.1',
    `  Port ${port}`,
    `  User ${user}`,
    `  IdentityFile ${userKey}`,
    '  IdentitiesOnly yes',
    `  UserKnownHostsFile ${knownHosts}`,
    '  BatchMode yes',
    // One connection for all commands; it ends by itself should the test not come to stop().
    '  ControlMaster auto',
    `  ControlPath ${path.join(folder, 'c')}`,
    '  ControlPersist 20',
  ]);
  const sftpOptions = [
    'host=127.0.0.1',
    `port=${port}`,
    `user=${user}`,
    `key_file=${userKey}`,
    `known_hosts_file=${knownHosts}`,
    // Else rclone starts a command on the host for each file, over half a second together.
    'md5sum_command=none',
    'sha1sum_command=none',
  ];
  // sshd insists on being started by its full path.
  const server = await startServer(port, pathOf('sshd'), [
    '-D',
    '-f',
    path.join(folder, 'sshd_config'),
  ]);
  return {
    port,
    stop: async () => {
      spawnSync('ssh', ['-F', clientConfig, '-O', 'exit', 'loop']);
      await server.stop();
    },
    sshCommand: `ssh -F ${clientConfig}`,
    rcloneSftp: `:sftp,${sftpOptions.join(',')}:`,
  };
}

function makeSshKey(file: string): string {
  const made = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
  if (made.status !== 0) throw new Error(`ssh-keygen failed: ${String(made.stderr)}`);
  return file;
}

/** An rsync daemon with the modules "write" and "read" (read only), both showing `shared`. */
export async function startRsyncDaemon(folder: string, shared: string): Promise<Server> {
  fs.mkdirSync(folder, { recursive: true });
  fs.mkdirSync(shared, { recursive: true });
  const port = await freePort();
  const config = path.join(folder, 'rsyncd.conf');
  const identity =
    process.getuid?.() === 0 ? ['uid = 0', 'gid = 0', 'use chroot = no'] : ['use chroot = no'];
  writeLines(config, [
    ...identity,
    `pid file = ${path.join(folder, 'rsyncd.pid')}`,
    `log file = ${path.join(folder, 'rsyncd.log')}`,
    `motd file = ${path.join(folder, 'motd')}`,
    '[write]',
    `path = ${shared}`,
    'read only = no',
    '[read]',
    `path = ${shared}`,
    'read only = yes',
  ]);
  writeLines(path.join(folder, 'motd'), ['-rw-r--r-- 77 1970/01/01 00:00:00 not-a-file']);
  const args = ['--daemon', '--no-detach', `--config=${config}`, '--address=127.0.0.1'];
  return startServer(port, 'rsync', [...args, `--port=${port}`]);
}

/** s3rver with one bucket; its only key pair is S3RVER and S3RVER. */
export async function startS3(folder: string): Promise<S3Server> {
  const port = await freePort();
  const bucket = 'volumes';
  const script = createRequire(import.meta.url).resolve('s3rver/bin/s3rver.js');
  const args = [script, '-s', '-a', '127.0.0.1', '-p', String(port), '-d', folder];
  const server = await startServer(port, process.execPath, [...args, '--configure-bucket', bucket]);
  return {
    ...server,
    bucket,
    environment(name, secret = 'S3RVER') {
      const prefix = `RCLONE_CONFIG_${name.toUpperCase()}_`;
      return {
        [`${prefix}TYPE`]: 's3',
        [`${prefix}PROVIDER`]: 'Other',
        [`${prefix}ENDPOINT`]: `http://127.0.0.1:${port}`,
        [`${prefix}FORCE_PATH_STYLE`]: 'true',
        [`${prefix}ACCESS_KEY_ID`]: 'S3RVER',
        [`${prefix}SECRET_ACCESS_KEY`]: secret,
      };
    },
  };
}

async function startServer(port: number, command: string, args: string[]): Promise<Server> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaints = '';
  child.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await answers(port))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await stopChild(child);
      throw new Error(`${command} did not start: ${complaints}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return { port, stop: () => stopChild(child) };
}

async function answers(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), 2000);
  await gone;
  clearTimeout(force);
}

function writeLines(file: string, lines: readonly string[]): void {
  fs.writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
}
