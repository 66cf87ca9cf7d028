/**
 * Sync and restore as a user sees them: how much a small change costs, what a copy by hand is worth,
 * what comes back with a passphrase alone, and each kind of remote once. Kills are in test/slow/sync.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { NbdClient } from '../../src/nbd/client.js';
import { KilledSyncs } from '../support/killed-syncs.js';
import { LOCAL_FOLDER, S3, SFTP, SSH_HOST } from '../support/remote-places.js';
import { delay, fingerprint, type RunOptions, Sandbox, ServedVolume } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';
import {
  contentsOf,
  seededRandom,
  UNIT_BYTES,
  VersionedDisk,
  type Marks,
} from '../support/versioned-disk.js';
import { patterned } from '../support/volumes.js';

const MIB = 2 ** 20;

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox.release());

for (const kind of [LOCAL_FOLDER, SSH_HOST, SFTP, S3]) {
  describeWith(kind.needs, `sync to ${kind.title}`, () => {
    it('brings back what was written, with two files of each group missing there', async () => {
      const place = await kind.open(sandbox);
      try {
        const syncs = await KilledSyncs.begin(sandbox, place, seededRandom(1));
        if (kind === LOCAL_FOLDER) {
          await syncs.killOne();
          await syncs.finish();
        }
        await syncs.loseFiles(2, await syncs.restoreAll());
        await syncs.restoreAll('--verify');
      } finally {
        await place.close();
      }
    });
  });
}

describeWith(['rsync'], 'a change of 4 KiB', () => {
  const MAX_UPLOAD_BYTES = 150_000;

  it('uploads kilobytes', async () => {
    const volume = await sandbox.create(sandbox.path('volume'), '--chunk-size', '16M');
    const copy = sandbox.path('copy');
    await sandbox.withServer(volume, async (client) => {
      for (let seed = 0; seed < 32; seed++) await client.write(seed * MIB, patterned(MIB, seed));
      await sandbox.succeed(sandbox.on(volume, 'sync', copy));
      const before = fingerprint(copy);

      await client.write(5 * MIB, patterned(4096, 99));
      const { stdout } = await sandbox.succeed(sandbox.on(volume, 'sync', copy));
      const uploaded = [...fingerprint(copy)].filter(([name]) => !before.has(name));
      const bytes = uploaded.reduce((sum, [, text]) => sum + Number(text.split(' ')[0]), 0);
      console.log(`4 KiB changed: ${uploaded.length} files, ${bytes} bytes; ${stdout.trim()}`);
      expect(bytes).toBeGreaterThan(4096);
      expect(bytes).toBeLessThan(MAX_UPLOAD_BYTES);
      for (const [name, text] of before) expect(fingerprint(copy).get(name)).toBe(text);
    });
  });
});

describeWith(['rsync'], 'a restore with nothing but the passphrase', () => {
  it('brings the volume back on a machine that has never seen it', async () => {
    const secret = { environment: { CHUNKVOL_PASSPHRASE: 'nothing else is left' } };
    const volume = sandbox.path('volume');
    const copy = sandbox.path('copy');
    await sandbox.succeed(['create', volume, '--size', '64M', '--chunk-size', '1M'], secret);
    const contents = patterned(8 * MIB, 1);
    await withPassphraseServer(volume, secret, async (client) => {
      await client.write(0, contents);
      await sandbox.succeed(['-C', volume, 'sync', copy]);
    });
    fs.rmSync(volume, { recursive: true });
    fs.rmSync(sandbox.path('state'), { recursive: true });

    const restored = sandbox.path('restored');
    const { stdout } = await sandbox.succeed(['restore', copy, restored, '--verify'], secret);
    expect(stdout).toMatch(/read 8\.\d+ MiB back, all good/);
    await withPassphraseServer(restored, secret, async (client) => {
      expect(Buffer.compare(await client.read(0, contents.length), contents)).toBe(0);
    });
  });

  async function withPassphraseServer(
    volume: string,
    secret: RunOptions,
    work: (client: NbdClient) => Promise<void>,
  ): Promise<void> {
    const socket = sandbox.path('socket');
    const running = sandbox.start(['-C', volume, 'serve', '--socket', socket], secret);
    const server = await ServedVolume.ready(running, socket);
    const client = await server!.connect();
    await work(client);
    expect((await server!.stop()).status).toBe(0);
  }
});

describe('a copy by hand, of a volume that is being written', () => {
  const UNITS = 64 * 1024;
  const MAX_UNITS = 96;
  /** What is written during a copy that nothing is held for: far less than may stay undeleted. */
  const SMALL_BYTES = 2 * MIB;

  let volume: string;
  let disk: VersionedDisk;
  let server: ServedVolume;
  let client: NbdClient;
  let writtenBytes: number;

  beforeEach(async () => {
    volume = await sandbox.create(sandbox.path('volume'));
    disk = new VersionedDisk(UNITS);
    server = await sandbox.serve(volume);
    client = await server.connect();
    writtenBytes = 0;
    for (let unit = 0; unit < UNITS; unit += 1024) await write(unit, 1024);
  });

  async function write(firstUnit: number, units: number): Promise<void> {
    const operation = disk.begin('data', firstUnit, units);
    await client.write(operation.firstUnit * UNIT_BYTES, contentsOf(operation));
    disk.acknowledge(operation, false);
    writtenBytes += units * UNIT_BYTES;
  }

  /** Requests one after the other, so that their order, and that of the flushes, is known. */
  async function writeOn(isOver: () => boolean): Promise<void> {
    const random = seededRandom(7);
    for (let count = 0; !isOver(); count++) {
      const units = 1 + Math.floor(random() * MAX_UNITS);
      await write(Math.floor(random() * (UNITS - units)), units);
      if (count % 16 !== 0) continue;
      const onFlushed = disk.beginFlush();
      await client.flush();
      onFlushed();
    }
  }

  /** The copy opens at a state of the disk that is no older than `floor`. */
  async function checkCopy(floor: Marks): Promise<void> {
    const copied = await sandbox.serve(sandbox.path('copy'));
    const reader = await copied.connect();
    const shown = await disk.check((offset, bytes) => reader.read(offset, bytes), floor);
    expect(disk.isInOrder(shown), 'shows all from before a flush, or nothing from after').toBe(
      true,
    );
    expect((await copied.stop()).status).toBe(0);
  }

  async function checkVolume(): Promise<void> {
    await disk.check((offset, bytes) => client.read(offset, bytes), disk.acknowledged());
    expect((await server.stop()).status).toBe(0);
  }

  /** In the folder's own order as `cp -r` does, or the newest roots first or last, and slowly. */
  const COPIERS: [how: string, copy: (from: string, to: string) => Promise<void>][] = [
    ['cp -r', (from, to) => finished(spawn('cp', ['-r', from, to]))],
    ['roots first', (from, to) => copySlowly(from, to, ['roots', 'keys', 'local', 'chunks'])],
    ['roots last', (from, to) => copySlowly(from, to, ['chunks', 'local', 'keys', 'roots'])],
  ];

  it.each(COPIERS)('%s: opens, when little is written meanwhile', async (_, copy) => {
    // As much garbage as is borne with, so that groups are collected during the copy.
    await writeOn(() => writtenBytes > 80 * MIB);
    await sandbox.succeed(sandbox.on(volume, 'sync', sandbox.path('remote')));
    const floor = disk.acknowledged();
    const copying = copy(volume, sandbox.path('copy'));
    const end = writtenBytes + SMALL_BYTES;
    await writeOn(() => writtenBytes > end);
    await copying;

    await checkCopy(floor);
    await sandbox.succeed(sandbox.on(sandbox.path('copy'), 'scrub'));
    await checkVolume();
  });

  it.each(COPIERS)('%s: opens under hold, however much is written', async (_, copy) => {
    let over = false;
    const writing = writeOn(() => over);
    await delay(300);
    const floor = disk.acknowledged();
    await sandbox.succeed(sandbox.on(volume, 'sync', sandbox.path('remote')));
    await whileHeld(volume, () => copy(volume, sandbox.path('copy')));
    over = true;
    await writing;

    await checkCopy(floor);
    await checkVolume();
  });
});

/** Does `work` while `chunkvol hold` runs a command. */
async function whileHeld(volume: string, work: () => Promise<void>): Promise<void> {
  const begun = sandbox.path('begun');
  const done = sandbox.path('done');
  const script = 'touch "$0"; while [ ! -e "$1" ]; do sleep 0.05; done';
  const words = ['-C', volume, 'hold', '--', 'sh', '-c', script, begun, done];
  const holding = sandbox.start(words);
  while (!fs.existsSync(begun)) await delay(5);
  await work();
  fs.writeFileSync(done, '');
  expect(await holding.ended()).toMatchObject({ status: 0 });
}

async function finished(child: ChildProcess): Promise<void> {
  const [status] = (await once(child, 'close')) as [number | null];
  // Files that vanish meanwhile are no failure of the copy.
  expect([0, 1]).toContain(status);
}

async function copySlowly(from: string, to: string, folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    fs.mkdirSync(path.join(to, folder), { recursive: true });
    for (const name of fs.readdirSync(path.join(from, folder))) {
      const source = path.join(from, folder, name);
      if (fs.existsSync(source))
        fs.cpSync(source, path.join(to, folder, name), { recursive: true });
      await delay(5);
    }
  }
}
