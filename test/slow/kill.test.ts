/**
 * kill -9 of a serving process, fifty times ($CHUNKVOL_KILLS) at random moments: while it serves a load of
 * random requests, while it starts and recovers from the kill before, while it seals for a sync, and while
 * it shuts down. Ten more times with an ext4 file system mounted on it.
 *
 * Each time it must open again by itself, and every byte that a FLUSH or FUA has covered must be there;
 * what was not flushed shows an old or a new version, unit by unit. What has been read once after a
 * crash must not change by the next one.
 */
import { mkdirSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  checkFileSystem,
  FILE_SYSTEM_NEEDS,
  makeFileSystem,
  MOUNT_NEEDS,
  Mounts,
} from '../support/mount.js';
import { delay, Sandbox, type Running, type ServedVolume } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';
import {
  Load,
  seededRandom,
  UNIT_BYTES,
  VersionedDisk,
  type LoadOptions,
} from '../support/versioned-disk.js';

const ROUNDS = Number(process.env['CHUNKVOL_KILLS'] ?? 50);
const EXT4_ROUNDS = 10;
const MAX_LOAD_MS = 1_200;
const DISK_BYTES = 24 * 2 ** 20;
const CONNECTIONS = 3;
/** A group of this load is full after about a second; recovery reads no more than that. */
const CHUNK_SIZE = '8M';

const reopenMs: number[] = [];

afterAll(() => {
  const sorted = [...reopenMs].sort((a, b) => a - b);
  const at = (part: number): string => sorted[Math.floor(part * (sorted.length - 1))]!.toFixed(0);
  console.log(`opened ${sorted.length} times: median ${at(0.5)} ms, at most ${at(1)} ms`);
});

describe('kill -9 of a server under load', () => {
  const seed = Date.now() % 2 ** 31;
  const random = seededRandom(seed);
  const disk = new VersionedDisk(DISK_BYTES / UNIT_BYTES);
  let sandbox: Sandbox;
  let volume: string;

  beforeAll(async () => {
    sandbox = new Sandbox();
    volume = await sandbox.create(sandbox.path('volume'), '--chunk-size', CHUNK_SIZE);
  });

  afterAll(() => sandbox.release());

  it(`keeps what was flushed, ${ROUNDS} times (seed ${seed})`, async () => {
    const tally = { answered: 0, beforeReady: 0, whileStopping: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      // Some are killed before they are ready: recovery must bear being interrupted too.
      if (random() < 0.15) {
        const { running } = sandbox.startServer(volume);
        await delay(random() * 700);
        await running.kill();
        tally.beforeReady++;
        continue;
      }
      const server = await sandbox.serve(volume);
      reopenMs.push(server.readyMs);
      await checkAndSettle(disk, server);
      tally.answered += await loadAndKill(server, random, tally);
    }
    const server = await sandbox.serve(volume);
    await checkAndSettle(disk, server);
    expect((await server.stop()).status).toBe(0);
    await sandbox.succeed(sandbox.on(volume, 'scrub'));
    console.log(`seed ${seed}: ${JSON.stringify(tally)}, ${disk.version} versions`);
    expect(tally.answered).toBeGreaterThan(ROUNDS);
  });

  async function loadAndKill(
    server: ServedVolume,
    random: LoadOptions['random'],
    tally: { whileStopping: number },
  ): Promise<number> {
    const clients = await Promise.all(Array.from({ length: CONNECTIONS }, () => server.connect()));
    const load = new Load(disk, clients, { random });
    await delay(random() * MAX_LOAD_MS);
    const dice = random();
    let sync: Running | null = null;
    if (dice < 0.15) {
      server.running.signal('SIGTERM');
      tally.whileStopping++;
      await delay(random() * 300);
    } else if (dice < 0.35) {
      sync = sandbox.start(sandbox.on(volume, 'sync', sandbox.path('copy')));
      await delay(300 + random() * 500);
    }
    await server.kill();
    // Without a server it would open the volume itself.
    await sync?.kill();
    await load.stop();
    expect(load.refusals.filter((refusal) => !/shutting down/i.test(refusal.message))).toEqual([]);
    return load.answered;
  }
});

async function checkAndSettle(disk: VersionedDisk, server: ServedVolume): Promise<void> {
  const client = await server.connect();
  disk.settleOn(await disk.check((offset, bytes) => client.read(offset, bytes)));
  await client.disconnect();
}

describeWith(
  [...MOUNT_NEEDS, ...FILE_SYSTEM_NEEDS.ext4],
  'kill -9 of a server under a mounted ext4',
  () => {
    const mounts = new Mounts();
    let sandbox: Sandbox;

    beforeAll(() => {
      sandbox = new Sandbox();
    });

    afterEach(() => mounts.releaseAll());
    afterAll(() => sandbox.release());

    it(`passes fsck and keeps files that were fsynced, ${EXT4_ROUNDS} times`, async () => {
      const volume = await sandbox.create(sandbox.path('volume'), '--chunk-size', CHUNK_SIZE);
      const files = new SyncedFiles();
      for (let round = 0; round < EXT4_ROUNDS; round++) {
        const server = await sandbox.serve(volume);
        reopenMs.push(server.readyMs);
        const device = await mounts.loop(await mounts.attach(server.socket));
        if (round === 0) await makeFileSystem('ext4', device);
        const folder = await mounts.mount(device);
        if (round > 0) {
          await files.check(folder);
          await mounts.unmount(folder);
          await checkFileSystem('ext4', device);
        }
        const again = round === 0 ? folder : await mounts.mount(device);
        const writing = files.write(again, round);
        await delay(300 + Math.random() * MAX_LOAD_MS);
        await server.kill();
        await writing;
        await mounts.releaseAll();
      }
      expect(files.count).toBeGreaterThan(EXT4_ROUNDS);
      console.log(`${files.count} files were fsynced`);
    });
  },
);

/** Files of a mounted folder, each with the word that its bytes repeat, once fsync has answered for it. */
class SyncedFiles {
  readonly #words = new Map<string, { word: string; repeats: number }>();

  get count(): number {
    return this.#words.size;
  }

  /** Writes files, one after the other in each of three rows, until the device fails. */
  async write(folder: string, round: number): Promise<void> {
    await Promise.all([0, 1, 2].map((row) => this.#writeRow(join(folder, `${round}-${row}`))));
  }

  async check(folder: string): Promise<void> {
    for (const [name, { word, repeats }] of this.#words) {
      const text = await fs.readFile(join(folder, name), 'utf8');
      expect(text === word.repeat(repeats), `${name} as it was fsynced`).toBe(true);
    }
  }

  async #writeRow(folder: string): Promise<void> {
    try {
      mkdirSync(folder);
      for (let count = 0; ; count++) {
        const path = join(folder, `${count}`);
        const repeats = 1 + Math.floor(Math.random() * 20_000);
        await writeDurably(path, `${count} `.repeat(repeats));
        await syncFolder(folder);
        await syncFolder(join(folder, '..'));
        const name = path.split('/').slice(-2).join('/');
        this.#words.set(name, { word: `${count} `, repeats });
      }
    } catch (error) {
      expect(String(error)).toMatch(/EIO|EROFS/);
    }
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const file = await fs.open(path, 'w');
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await fs.open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
