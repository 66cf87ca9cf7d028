/**
 * Kernel file systems with tens of thousands of files on an attached volume, of which any two of the six chunk
 * files of every group are lost: deleted while it is detached, damaged while it is attached (deleted
 * then, they would live on in open descriptors), or one of each. Every file must read back right, and
 * after a repair every chunk file must be what it was, byte for byte.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type { StatusReport } from '../../src/cli/status-report.js';
import { groupFiles } from '../support/group-files.js';
import {
  checkFileSystem,
  FILE_SYSTEM_NEEDS,
  makeFileSystem,
  MOUNT_NEEDS,
  Mounts,
  trimFileSystem,
  type FileSystem,
} from '../support/mount.js';
import { delay, Sandbox } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';
import {
  differences,
  digestFiles,
  digestTree,
  makeTree,
  type TreeDigest,
} from '../support/trees.js';

const MINIMUM = { files: 20_000, bytes: 500e6 };
const SIZES = ['--size', '3G', '--data', '4', '--parity', '2', '--chunk-size', '32M'];
const MEMBERS = 6;
const KINDS_OF_DAMAGE = 3;
const TRIM_TIMEOUT_MS = 60_000;
const TRIM_INTERVAL_MS = 500;

/** How many members of each group are lost, and when; together as many as there are parity members. */
interface Losses {
  readonly deletedWhileDetached: number;
  readonly damagedWhileAttached: number;
  /** Rotates which members those are, so that no two file systems lose the same. */
  readonly firstPlace: number;
}

const LOSSES: Readonly<Record<FileSystem, Losses>> = {
  ext4: { deletedWhileDetached: 2, damagedWhileAttached: 0, firstPlace: 0 },
  xfs: { deletedWhileDetached: 0, damagedWhileAttached: 2, firstPlace: 3 },
  btrfs: { deletedWhileDetached: 1, damagedWhileAttached: 1, firstPlace: 5 },
};

const execute = promisify(execFile);
const mounts = new Mounts();
let sandbox: Sandbox;
let sourceFolder = '';
let source: TreeDigest = new Map();

beforeAll(async () => {
  sourceFolder = await mkdtemp(join(tmpdir(), 'chunkvol-tree-'));
  await makeTree(join(sourceFolder, 'tree'), MINIMUM);
  source = await digestTree(join(sourceFolder, 'tree'));
});

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(async () => {
  await mounts.releaseAll();
  await sandbox.release();
});

afterAll(async () => {
  await rm(sourceFolder, { recursive: true, force: true });
});

for (const kind of ['ext4', 'xfs', 'btrfs'] as const) {
  describeWith(
    [...MOUNT_NEEDS, ...FILE_SYSTEM_NEEDS[kind], 'fstrim'],
    `a volume with ${kind}`,
    () => {
      it(`reads ${kind} back right without any two files of each group`, () => survive(kind));
    },
  );
}

async function survive(kind: FileSystem): Promise<void> {
  const disk = new Disk(kind);
  const chunks = await disk.fill();
  const { deletedWhileDetached, damagedWhileAttached } = LOSSES[kind];
  const victims = (await disk.groups()).map((paths, group) => lostMembers(kind, paths, group));
  expect(victims.length).toBeGreaterThanOrEqual(KINDS_OF_DAMAGE);

  for (const paths of victims) {
    for (const path of paths.slice(0, deletedWhileDetached)) await rm(path);
  }
  await disk.attach();
  for (const [group, paths] of victims.entries()) {
    for (const path of paths.slice(deletedWhileDetached))
      await damage(path, group % KINDS_OF_DAMAGE);
  }
  await disk.mount();
  await disk.expectTree(source);
  const { healed } = await disk.status();
  expect(healed.reconstructedSlots).toBeGreaterThan(1000);
  expect(await trimFileSystem(disk.folder)).toBeGreaterThan(0);
  await disk.unmount();
  await checkFileSystem(kind, disk.device);

  // Repair works on an attached volume as on one that is not.
  const repairDetached = damagedWhileAttached === 0;
  if (repairDetached) await disk.detach();
  await disk.run('repair');
  expect(differences(chunks, await digestFiles([...chunks.keys()]))).toEqual([]);
  if (repairDetached) await disk.attach();
  await disk.mount();
  await disk.expectTree(source);
  await disk.expectRoomBack();
  await disk.unmount();
  await disk.detach();
  await disk.run('scrub');
}

/** Which members a group loses: a pair for each file system and group, over all distances. */
function lostMembers(kind: FileSystem, paths: readonly string[], group: number): string[] {
  const { firstPlace } = LOSSES[kind];
  const place = (firstPlace + group) % MEMBERS;
  const distance = 1 + ((firstPlace + group) % (MEMBERS - 1));
  return [paths[place]!, paths[(place + distance) % MEMBERS]!];
}

/** Damages a file in place: garbage all over it, its end cut off, or one bit of every other page turned. */
async function damage(path: string, kind: number): Promise<void> {
  const { size } = await stat(path);
  if (kind === 1) {
    await truncate(path, Math.floor(size / 3));
    return;
  }
  const file = await open(path, 'r+');
  try {
    if (kind === 0) {
      await file.write(randomBytes(size), 0, size, 0);
    } else {
      const bytes = await file.readFile();
      for (let at = 2048; at < size; at += 8192) bytes[at] = bytes[at]! ^ 1;
      await file.write(bytes, 0, size, 0);
    }
  } finally {
    await file.close();
  }
}

/** A volume with a file system on it: attached as a file, that as a loop device, that mounted. */
class Disk {
  device = '';
  folder = '';
  private file = '';
  private readonly volume: string = sandbox.path('volume');

  constructor(private readonly kind: FileSystem) {}

  /** Copies the tree to a new file system; returns the digests of the chunk files that it takes. */
  async fill(): Promise<TreeDigest> {
    await sandbox.create(this.volume, ...SIZES);
    await this.attach();
    await makeFileSystem(this.kind, this.device);
    await this.mount();
    await execute('cp', ['-a', join(sourceFolder, 'tree'), this.folder]);
    await this.unmount();
    await this.detach();
    return digestFiles((await this.groups()).flat());
  }

  groups(): Promise<string[][]> {
    return groupFiles(this.volume, sandbox.keyFile);
  }

  /** Runs a verb on the volume; returns what it printed. */
  async run(verb: string, ...words: string[]): Promise<string> {
    return (await sandbox.succeed(sandbox.on(this.volume, verb, ...words))).stdout;
  }

  async status(): Promise<StatusReport> {
    return JSON.parse(await this.run('status', '--json')) as StatusReport;
  }

  async attach(): Promise<void> {
    this.file = join(await mounts.folder(), 'disk');
    mounts.defer(this.file, async () => {
      await sandbox.succeed(['detach', this.file]);
    });
    await this.run('attach', this.file);
    this.device = await mounts.loop(this.file);
  }

  async detach(): Promise<void> {
    await mounts.detach(this.device);
    await mounts.detach(this.file);
  }

  async mount(): Promise<void> {
    this.folder = await mounts.mount(this.device);
  }

  async unmount(): Promise<void> {
    await mounts.unmount(this.folder);
  }

  async expectTree(expected: TreeDigest): Promise<void> {
    expect(differences(expected, await digestTree(join(this.folder, 'tree')))).toEqual([]);
  }

  /** Deletes the files; what they took must not be mapped any more once the file system has trimmed. */
  async expectRoomBack(): Promise<void> {
    const wanted = (await this.status()).mappedBytes / 3;
    await rm(join(this.folder, 'tree'), { recursive: true });
    // A file system frees in its own time what was deleted, XFS some seconds later.
    const deadlineMs = Date.now() + TRIM_TIMEOUT_MS;
    let mappedBytes: number;
    do {
      await delay(TRIM_INTERVAL_MS);
      await execute('sync', ['--file-system', this.folder]);
      await trimFileSystem(this.folder);
      ({ mappedBytes } = await this.status());
    } while (mappedBytes > wanted && Date.now() < deadlineMs);
    expect(mappedBytes).toBeLessThanOrEqual(wanted);
  }
}
