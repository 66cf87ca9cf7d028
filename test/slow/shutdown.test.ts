/**
 * The file system under the volume goes down in the middle of a load, as at a power cut: the kernel drops
 * what has not reached the disk, and replays its journal when it is mounted again. Everything that a FLUSH
 * or FUA has covered must be there then; a server that only says that it flushed is found out.
 *
 * No system call of the server is under way at that moment. An fdatasync that meets the shutdown of an ext4
 * returns 0 at times although what it was to write is lost: a race of the kernel's (6.18: in one of six
 * rounds of a C program that does nothing but append, fdatasync and count) that no power cut has.
 */
import { readdirSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { makeFileSystem, MOUNT_NEEDS, Mounts } from '../support/mount.js';
import { delay, Sandbox, type ServedVolume } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';
import { Load, seededRandom, UNIT_BYTES, VersionedDisk } from '../support/versioned-disk.js';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const ROUNDS = Number(process.env['CHUNKVOL_SHUTDOWNS'] ?? 8);
const MAX_LOAD_MS = 800;
const DISK_BYTES = 16 * 2 ** 20;
const HOST_BYTES = 4096 * 2 ** 20;
const CONNECTIONS = 2;

const execute = promisify(execFile);

describeWith(
  [...MOUNT_NEEDS, 'mkfs.ext4', 'mkfs.xfs', 'xfs_io'],
  'a file system that goes down under the volume',
  () => {
    const mounts = new Mounts();
    let sandbox: Sandbox;

    beforeAll(() => {
      sandbox = new Sandbox();
    });
    afterEach(() => mounts.releaseAll());
    afterAll(() => sandbox.release());

    it.each(['ext4', 'xfs'] as const)(
      `%s: keeps what was flushed, ${ROUNDS} times`,
      async (kind) => {
        const seed = Date.now() % 2 ** 31;
        const random = seededRandom(seed);
        const disk = new VersionedDisk(DISK_BYTES / UNIT_BYTES);
        const image = join(await mounts.folder(), 'image');
        truncateSync(await made(image), HOST_BYTES);
        const device = await mounts.loop(image);
        await makeFileSystem(kind, device);
        let answered = 0;
        for (let round = 0; round <= ROUNDS; round++) {
          const folder = await mounts.mount(device);
          const volume = join(folder, 'volume');
          if (round === 0) await sandbox.create(volume, '--chunk-size', '4M', '--size', '16M');
          const server = await sandbox.serve(volume);
          const reader = await server.connect();
          const shown = await disk
            .check((offset, bytes) => reader.read(offset, bytes))
            .catch((error: unknown) => {
              throw new Error(`seed ${seed}, round ${round}: ${String(error)}`, { cause: error });
            });
          disk.settleOn(shown);
          await reader.disconnect();
          const clients = await Promise.all(
            Array.from({ length: CONNECTIONS }, () => server.connect()),
          );
          const load = new Load(disk, clients, { random });
          await delay(100 + random() * MAX_LOAD_MS);
          await stopped(server);
          await execute('xfs_io', ['-x', '-c', 'shutdown', folder]);
          await server.kill();
          await load.stop();
          answered += load.answered;
          await mounts.unmount(folder);
        }
        console.log(`${kind}, seed ${seed}: ${answered} requests, ${disk.version} versions`);
        expect(answered).toBeGreaterThan(ROUNDS);
      },
    );
  },
);

/** An empty file. */
async function made(path: string): Promise<string> {
  await execute('touch', [path]);
  return path;
}

/** Stops all threads of a server where they are, once the calls that they are in have returned. */
async function stopped(server: ServedVolume): Promise<void> {
  const { running } = server;
  running.signal('SIGSTOP');
  const threads = `/proc/${running.child.pid!}/task`;
  const isStopped = (thread: string): boolean =>
    /^State:\tT/m.test(readFileSync(join(threads, thread, 'status'), 'utf8'));
  while (!readdirSync(threads).every(isStopped)) await delay(1);
}
