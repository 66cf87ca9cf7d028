/**
 * What a file system deletes and trims comes back: filled, emptied and trimmed, and after one collection
 * the volume's folder is within 10 % of what it was before, parity included. CHUNKVOL_TRIM_MIB sets how
 * much is written (4096 for a long look).
 */
import { execFile } from 'node:child_process';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { StatusReport } from '../../src/cli/status-report.js';
import {
  FILE_SYSTEM_NEEDS,
  makeFileSystem,
  MOUNT_NEEDS,
  Mounts,
  trimFileSystem,
  type FileSystem,
} from '../support/mount.js';
import { delay, Sandbox } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';

const FILL_MIB = Number(process.env['CHUNKVOL_TRIM_MIB'] ?? 768);
const KEPT_MIB = 96;
const TRIM_TIMEOUT_MS = 60_000;

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

for (const kind of ['ext4', 'xfs', 'btrfs'] as const) {
  describeWith([...MOUNT_NEEDS, ...FILE_SYSTEM_NEEDS[kind], 'fstrim'], `trim with ${kind}`, () => {
    it(`gives back what ${kind} has deleted`, () => fillAndTrim(kind));
  });
}

async function fillAndTrim(kind: FileSystem): Promise<void> {
  const volume = sandbox.path('volume');
  await sandbox.create(volume, '--size', `${FILL_MIB + 1024}M`, '--chunk-size', '1G');
  const run = async (verb: string, ...words: string[]): Promise<string> =>
    (await sandbox.succeed(sandbox.on(volume, verb, ...words))).stdout;
  const mapped = async (): Promise<number> =>
    (JSON.parse(await run('status', '--json')) as StatusReport).mappedBytes;
  const file = join(await mounts.folder(), 'disk');
  mounts.defer(file, async () => {
    await sandbox.succeed(['detach', file]);
  });
  await run('attach', file);
  const device = await mounts.loop(file);
  await makeFileSystem(kind, device);
  const folder = await mounts.mount(device);
  await write(join(folder, 'kept'), KEPT_MIB);
  await trimFileSystem(folder);
  await run('gc');
  const mappedBefore = await mapped();
  const before = await folderBytes(volume);

  await write(join(folder, 'filled'), FILL_MIB);
  expect(await folderBytes(volume)).toBeGreaterThan(before + FILL_MIB * 2 ** 20 * 1.4);
  await rm(join(folder, 'filled'));
  // A file system frees in its own time what was deleted, XFS some seconds later.
  const deadlineMs = Date.now() + TRIM_TIMEOUT_MS;
  do {
    await delay(500);
    await execute('sync', ['--file-system', folder]);
    await trimFileSystem(folder);
  } while ((await mapped()) > mappedBefore * 1.08 && Date.now() < deadlineMs);
  await run('gc');
  expect(await folderBytes(volume)).toBeLessThan(before * 1.1);

  await mounts.unmount(folder);
  await mounts.detach(device);
  await mounts.detach(file);
  await run('scrub');
}

async function write(path: string, mib: number): Promise<void> {
  const words = ['if=/dev/urandom', `of=${path}`, 'bs=1M', `count=${mib}`, 'conv=fsync'];
  await execute('dd', words);
}

async function folderBytes(volume: string): Promise<number> {
  const folder = join(volume, 'chunks');
  const stats = await Promise.all((await readdir(folder)).map((name) => stat(join(folder, name))));
  return stats.reduce((sum, { blocks }) => sum + blocks * 512, 0);
}
