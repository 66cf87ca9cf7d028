/**
 * Kernel file systems on an NBD export, without the kernel's nbd module: nbdfuse shows the export as a
 * file, a loop device makes a block device of the file, and the file system is mounted from that.
 *
 * A Mounts owns what it set up. Each step is undone in reverse by `releaseAll`, which belongs in an
 * afterEach: it never throws, and it copes with a test that stopped half-way, with a server that died,
 * and with steps that the test has undone itself. Suites that use it need MOUNT_NEEDS.
 *
 * Nothing here blocks the event loop, so the server may run in the test's own process.
 */
import { execFile, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Need } from './tools.js';

export type FileSystem = 'ext4' | 'xfs' | 'btrfs';

/** What attaching and mounting needs; the file system's own tools come on top. */
export const MOUNT_NEEDS: readonly Need[] = ['root', 'fuse', 'loop', 'nbdfuse', 'fusermount3'];

/** What each file system needs on top of that. */
export const FILE_SYSTEM_NEEDS: Readonly<Record<FileSystem, readonly Need[]>> = {
  ext4: ['mkfs.ext4', 'fsck.ext4'],
  xfs: ['mkfs.xfs', 'xfs_repair'],
  btrfs: ['mkfs.btrfs', 'btrfs'],
};

/** Longer than any of these programs takes, so that a hang fails the test and not the whole run. */
const COMMAND_TIMEOUT_MS = 120_000;
const ATTACH_TIMEOUT_MS = 10_000;

const execute = promisify(execFile);

export class Mounts {
  /** How to undo each step, by what it made, in the order in which the steps were taken. */
  readonly #releases = new Map<string, () => Promise<void>>();

  /** Shows the export on `socketPath` as a file, whose path it returns. */
  async attach(socketPath: string): Promise<string> {
    const folder = await this.folder();
    const file = join(folder, 'disk');
    closeSync(openSync(file, 'w'));
    const nbdfuse = spawn('nbdfuse', [file, '--unix', socketPath], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let complaint = '';
    nbdfuse.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
    const ended = new Promise<void>((resolve) => {
      nbdfuse.once('error', (error) => {
        complaint += error.message;
        resolve();
      });
      nbdfuse.once('close', () => {
        resolve();
      });
    });
    this.#releases.set(file, async () => {
      if (await isMounted(file)) await run('fusermount3', ['-u', file]);
      await Promise.race([ended, sleep(5_000).then(() => nbdfuse.kill('SIGKILL'))]);
    });

    const deadline = Date.now() + ATTACH_TIMEOUT_MS;
    while (!(await isMounted(file))) {
      const gone = nbdfuse.exitCode !== null || nbdfuse.pid === undefined;
      if (gone || Date.now() > deadline) throw new Error(`nbdfuse ${file} failed: ${complaint}`);
      await sleep(20);
    }
    return file;
  }

  /** Makes a block device of a file, past the page cache of the layer between; returns `/dev/loopN`. */
  async loop(file: string): Promise<string> {
    const device = await run('losetup', ['--find', '--show', '--direct-io=on', file]);
    this.#releases.set(device, async () => {
      if ((await run('losetup', ['--noheadings', '--output', 'BACK-FILE', device])) !== '') {
        await run('losetup', ['--detach', device]);
      }
    });
    return device;
  }

  /** Mounts a device (or, through a loop device of its own, a file) and returns the folder. */
  async mount(device: string, options = 'defaults'): Promise<string> {
    const folder = await this.folder();
    await run('mount', ['-o', options, device, folder]);
    this.#releases.set(`${folder} mounted`, async () => {
      for (let attempt = 0; attempt < 20 && (await isMounted(folder)); attempt++) {
        await run('umount', [folder]).catch(() => sleep(200));
      }
      if (await isMounted(folder)) await run('umount', ['--lazy', folder]);
    });
    return folder;
  }

  /** Attaches the export and mounts a new file system on it: `attach`, `loop`, `mkfs`, `mount`. */
  async mountNew(
    kind: FileSystem,
    socketPath: string,
  ): Promise<{ device: string; folder: string }> {
    const device = await this.loop(await this.attach(socketPath));
    await makeFileSystem(kind, device);
    return { device, folder: await this.mount(device) };
  }

  /** Unmounts a folder, in the way that fails if it is busy or the file system cannot write. */
  async unmount(folder: string): Promise<void> {
    await run('umount', [folder]);
    this.#releases.delete(`${folder} mounted`);
  }

  /** Gives a device of `loop` or a file of `attach` back, once nothing uses it. */
  async detach(deviceOrFile: string): Promise<void> {
    await this.#releases.get(deviceOrFile)?.();
    this.#releases.delete(deviceOrFile);
  }

  /** A new folder that goes away with the rest. */
  async folder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'chunkvol-mount-'));
    // If something would not unmount, a recursive rm would empty the file system in there.
    this.#releases.set(folder, async () => {
      if (!(await isMounted(folder)) && !(await isMounted(join(folder, 'disk')))) {
        await rm(folder, { recursive: true, force: true });
      }
    });
    return folder;
  }

  /** Has `release` called by `releaseAll`, before everything that was set up earlier. */
  defer(name: string, release: () => Promise<void>): void {
    this.#releases.set(name, release);
  }

  /** Undoes everything that is still there, newest first. What cannot be undone is named on stderr. */
  async releaseAll(): Promise<void> {
    const releases = [...this.#releases].reverse();
    this.#releases.clear();
    for (const [name, release] of releases) {
      try {
        await release();
      } catch (error) {
        console.error(`could not release ${name}: ${String(error)}`);
      }
    }
  }
}

/** Makes a file system on a device. */
export async function makeFileSystem(kind: FileSystem, device: string): Promise<void> {
  // btrfs and xfs refuse a device that looks used unless told; the caller's devices are scratch.
  const options = { ext4: ['-q', '-F'], xfs: ['-q', '-f'], btrfs: ['-q', '-f'] };
  await run(`mkfs.${kind}`, [...options[kind], device]);
}

/** Checks an unmounted file system without changing it; rejects, with what was found, if it is not clean. */
export async function checkFileSystem(kind: FileSystem, device: string): Promise<void> {
  if (kind === 'ext4') await run('fsck.ext4', ['-f', '-n', device]);
  else if (kind === 'xfs') await run('xfs_repair', ['-n', device]);
  else await run('btrfs', ['check', '--readonly', device]);
}

/** Tells the device what a mounted file system does not use; returns the bytes that it trimmed. */
export async function trimFileSystem(folder: string): Promise<number> {
  const line = await run('fstrim', ['--verbose', folder]);
  return Number(/\((\d+) bytes\)/.exec(line)?.[1]);
}

/** Runs a program and returns its trimmed stdout; rejects with its stderr. */
async function run(program: string, words: readonly string[]): Promise<string> {
  const path = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`;
  const { stdout } = await execute(program, words, {
    env: { ...process.env, PATH: path, LC_ALL: 'C' },
    timeout: COMMAND_TIMEOUT_MS,
    maxBuffer: 2 ** 26,
  });
  return stdout.trim();
}

async function isMounted(path: string): Promise<boolean> {
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  return mounts.split('\n').some((line) => line.split(' ')[1] === path);
}
