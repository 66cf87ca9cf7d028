/**
 * An ext4 that is worked on as developers do: packages installed and removed, a git repository that is
 * checked out back and forth, and a trim now and then. Whatever is written over and deleted, what is
 * dead in the log stays within a quarter of what is alive, and what is written to the log within a
 * bound for each byte that the file system has written.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { StatusReport } from '../../src/cli/status-report.js';
import { garbageShare, untilCollected } from '../support/garbage.js';
import {
  FILE_SYSTEM_NEEDS,
  makeFileSystem,
  MOUNT_NEEDS,
  Mounts,
  trimFileSystem,
} from '../support/mount.js';
import { Sandbox } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';
import { seededRandom } from '../support/versioned-disk.js';

const MIB = 2 ** 20;
/** A thirty-second of the disk, and as much garbage as is always borne with. */
const GROUP_BYTES = 4 * 4 * MIB;
const ROUNDS = 60;
const TRIM_EVERY = 10;
const MAX_GARBAGE_SHARE = 0.25;
const MAX_AMPLIFICATION = 4;
/** Folders that packages are installed to. */
const PLACES = 16;
const MODULES = resolve(import.meta.dirname, '../../node_modules');
const PACKAGES = ['typescript', 'vitest', 'prettier', '@typescript-eslint', '@types', 'rolldown'];

const execute = promisify(execFile);
const mounts = new Mounts();
let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(async () => {
  await mounts.releaseAll();
  await sandbox.release();
});

describeWith([...MOUNT_NEEDS, ...FILE_SYSTEM_NEEDS.ext4, 'fstrim', 'git'], 'years of work', () => {
  it('leave garbage within a quarter of what is alive', async () => {
    const volume = sandbox.path('volume');
    await sandbox.create(volume, '--size', '512M', '--chunk-size', '4M');
    const status = async (): Promise<StatusReport> => {
      const { stdout } = await sandbox.succeed(sandbox.on(volume, 'status', '--json'));
      return JSON.parse(stdout) as StatusReport;
    };
    const file = join(await mounts.folder(), 'disk');
    mounts.defer(file, async () => {
      await sandbox.succeed(['detach', file]);
    });
    await sandbox.succeed(sandbox.on(volume, 'attach', file));
    const device = await mounts.loop(file);
    await makeFileSystem('ext4', device);
    const folder = await mounts.mount(device);

    const project = new Project(folder);
    await project.begin();
    let worst = 0;
    for (let round = 1; round <= ROUNDS; round++) {
      await project.work();
      if (round % TRIM_EVERY === 0) await trimFileSystem(folder);
      await execute('sync', ['--file-system', folder]);
      worst = Math.max(worst, garbageShare(await status()));
      await untilCollected(status, isBorneWith);
    }
    const { writeAmplification, writtenBytes, storedBytes, garbageBytes } = await status();
    const figures = { worst, writeAmplification, writtenBytes, storedBytes, garbageBytes };
    console.log(`years of work: ${JSON.stringify(figures)}`);
    expect(writeAmplification).toBeLessThan(MAX_AMPLIFICATION);

    await execute('git', ['-C', project.repository, 'fsck', '--full']);
    await mounts.unmount(folder);
    await execute('fsck.ext4', ['-fn', device]);
    await mounts.detach(device);
    await mounts.detach(file);
    await sandbox.succeed(sandbox.on(volume, 'scrub'));
  });
});

/** Within its share, or no more than is always borne with. */
function isBorneWith(report: StatusReport): boolean {
  return garbageShare(report) < MAX_GARBAGE_SHARE || report.garbageBytes < GROUP_BYTES;
}

/** A project with its packages and its history, in a folder of the file system. */
class Project {
  readonly repository: string;
  readonly #random = seededRandom(1);
  readonly #commits: string[] = [];

  constructor(private readonly folder: string) {
    this.repository = join(folder, 'repository');
  }

  async begin(): Promise<void> {
    await mkdir(this.repository);
    await this.#git('init', '--quiet');
    await this.#git('config', 'user.name', 'somebody');
    await this.#git('config', 'user.email', 'somebody@example.org');
    for (const name of PACKAGES.slice(1)) {
      await cp(join(MODULES, name), join(this.repository, name), { recursive: true });
      await this.#git('add', '--all', '--force');
      await this.#git('commit', '--quiet', '--message', name);
      this.#commits.push(await this.#git('rev-parse', 'HEAD'));
    }
  }

  /** Goes to another commit, and installs one package anew. */
  async work(): Promise<void> {
    const commit = this.#pick(this.#commits);
    await this.#git('checkout', '--quiet', '--force', commit);
    const place = join(this.folder, 'installed', `${Math.floor(this.#random() * PLACES)}`);
    await rm(place, { recursive: true, force: true });
    await cp(join(MODULES, this.#pick(PACKAGES)), place, { recursive: true });
  }

  #pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.#random() * values.length)]!;
  }

  async #git(...words: string[]): Promise<string> {
    const { stdout } = await execute('git', ['-C', this.repository, ...words]);
    return stdout.trim();
  }
}
