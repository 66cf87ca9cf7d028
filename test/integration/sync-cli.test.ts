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
import { contentsOf, seededRandom, UNIT_BYTES, VersionedDisk } from '../support/versioned-disk.js';
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
        await syncs.loseFiles(2);
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
  const UNITS = 8 * 1024;

  /** Requests one after the other, so that each state of the disk has one place in their order. */
  async function writeOn(
    disk: VersionedDisk,
    client: NbdClient,
    isOver: () => boolean,
  ): Promise<void> {
    const random = seededRandom(7);
    for (let count = 0; !isOver(); count++) {
      const units = 1 + Math.floor(random() * 24);
      const operation = disk.begin('data', Math.floor(random() * (UNITS - units)), units);
      await client.write(operation.firstUnit * UNIT_BYTES, contentsOf(operation));
      disk.acknowledge(operation, false);
      if (count % 16 !== 0) continue;
      const onFlushed = disk.beginFlush();
      await client.flush();
      onFlushed();
    }
  }

  /** In the folder's own order as `cp -r` does, or the newest roots first or last, and slowly. */
  const COPIERS: [how: string, copy: (from: string, to: string) => Promise<void>][] = [
    ['cp -r', (from, to) => finished(spawn('cp', ['-r', from, to]))],
    ['roots first', (from, to) => copySlowly(from, to, ['roots', 'keys', 'local', 'chunks'])],
    ['roots last', (from, to) => copySlowly(from, to, ['chunks', 'local', 'keys', 'roots'])],
  ];

  it.each(COPIERS)('%s: opens at a state between the last sync and now', async (_, copy) => {
    const volume = await sandbox.create(sandbox.path('volume'));
    const disk = new VersionedDisk(UNITS);
    const server = await sandbox.serve(volume);
    const client = await server.connect();
    let over = false;
    const writing = writeOn(disk, client, () => over);
    await delay(500);
    const floor = disk.acknowledged();
    await sandbox.succeed(sandbox.on(volume, 'sync', sandbox.path('remote')));
    await delay(300);
    await copy(volume, sandbox.path('copy'));
    over = true;
    await writing;

    const copied = await sandbox.serve(sandbox.path('copy'));
    const reader = await copied.connect();
    const shown = await disk.check((offset, bytes) => reader.read(offset, bytes), floor);
    expect(disk.isOnePoint(shown), 'is the state between two requests').toBe(true);
    expect((await copied.stop()).status).toBe(0);
    await sandbox.succeed(sandbox.on(sandbox.path('copy'), 'scrub'));

    await disk.check((offset, bytes) => client.read(offset, bytes), disk.acknowledged());
    expect((await server.stop()).status).toBe(0);
  });
});

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
