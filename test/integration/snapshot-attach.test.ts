/** Yesterday beside today: snapshots attached through nbdfuse, several at once, and mounted. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/client.js';
import { CliWorld, PASSPHRASE } from '../support/cli.js';
import { makeFileSystem, MOUNT_NEEDS, Mounts } from '../support/mount.js';
import { eventually, pattern } from '../support/nbd-harness.js';
import { describeWith } from '../support/tools.js';

const MIB = 2 ** 20;
const withPassphrase = { env: { CHUNKVOL_PASSPHRASE: PASSPHRASE } };

let world: CliWorld;
let volume: string;
let mounts: Mounts;

beforeEach(async () => {
  world = new CliWorld();
  mounts = new Mounts();
  volume = await world.create('volume', '--size', '48M');
});

afterEach(async () => {
  await mounts.releaseAll();
  world.releaseAll();
});

async function chunkvol(...words: string[]): Promise<string> {
  return (await world.ok(['-C', volume, ...words])).stdout;
}

/** A snapshot that holds a pattern at its start; the volume is served meanwhile. */
async function snapshotOf(name: string, bytes: Buffer): Promise<void> {
  const { child, socket } = await world.serve(volume);
  const client = await NbdClient.connect({ kind: 'unix', path: socket });
  await client.write(0, bytes);
  await client.disconnect();
  await chunkvol('snapshot', 'create', name);
  await world.end(child);
}

function start(file: string, bytes: number): Buffer {
  const into = Buffer.alloc(bytes);
  const fd = fs.openSync(file, 'r');
  fs.readSync(fd, into, 0, bytes, 0);
  fs.closeSync(fd);
  return into;
}

describeWith(['nbdfuse', 'fusermount3', 'fuse'], 'attach --snapshot', () => {
  it('starts a server, which more can be attached to, and which ends with the last', async () => {
    await snapshotOf('one', pattern(MIB, 1));
    await snapshotOf('two', pattern(MIB, 2));
    const [disk, one, two] = ['disk', 'one', 'two'].map((name) => world.path(name)) as [
      string,
      string,
      string,
    ];
    expect(await chunkvol('attach', '--snapshot', 'one', one)).toBe(
      `snapshot one of ${volume} is attached at ${one}\n`,
    );
    const [pid] = world.serverPids();
    // No passphrase: the server is there.
    for (const words of [[disk], [two, '--snapshot', 'two']]) {
      const result = await world.run(['-C', volume, 'attach', ...words]);
      expect(result).toMatchObject({ status: 0, stderr: '' });
    }
    expect(world.serverPids()).toEqual([pid]);
    expect((await world.status(volume)).attached).toEqual([
      { kind: 'fuse', target: one, snapshot: 'one' },
      { kind: 'fuse', target: disk, snapshot: null },
      { kind: 'fuse', target: two, snapshot: 'two' },
    ]);
    fs.writeFileSync(disk, pattern(MIB, 3), { flag: 'r+' });
    for (const [at, file] of [one, two, disk].entries()) {
      expect(start(file, MIB).equals(pattern(MIB, at + 1)), file).toBe(true);
    }
    expect(() => {
      fs.writeFileSync(one, 'no', { flag: 'r+' });
    }).toThrow(/EACCES|EROFS|EPERM/);

    const first = await world.run(['detach', disk]);
    expect(first).toMatchObject({
      status: 0,
      stdout: `${disk} is detached; process ${pid!} serves on\n`,
    });
    expect(fs.existsSync(disk)).toBe(false);
    await world.ok(['detach', one]);
    expect(start(two, MIB).equals(pattern(MIB, 2))).toBe(true);
    expect((await world.ok(['detach', two])).stdout).toBe(`${volume} is detached\n`);
    await eventually(() => world.serverPids().length === 0);
  });

  it('takes everything away with detach without a target', async () => {
    await snapshotOf('one', pattern(MIB, 1));
    await chunkvol('attach', world.path('disk'));
    for (const name of ['one', 'again']) {
      await chunkvol('attach', '--snapshot', 'one', world.path(name));
    }
    expect((await world.run(['-C', volume, 'detach'])).status).toBe(0);
    await eventually(() => world.serverPids().length === 0);
    for (const name of ['disk', 'one', 'again'])
      expect(fs.existsSync(world.path(name))).toBe(false);
  });

  it('leaves a server of somebody’s own running', async () => {
    await snapshotOf('one', pattern(MIB, 1));
    const { child, socket } = await world.serve(volume);
    await chunkvol('attach', '--snapshot', 'one', world.path('one'));
    await chunkvol('attach', world.path('disk'));
    for (const name of ['one', 'disk']) await world.ok(['detach', world.path(name)]);
    const client = await NbdClient.connect({ kind: 'unix', path: socket });
    await client.disconnect();
    expect(await world.end(child)).toBe(0);
  });

  it('shows the disk once only, and not beside a client', async () => {
    const { socket } = await world.serve(volume);
    const client = await NbdClient.connect({ kind: 'unix', path: socket });
    const refused = await world.run(['-C', volume, 'attach', world.path('disk')]);
    expect(refused).toMatchObject({ status: 5 });
    expect(refused.stderr).toMatch(
      /^chunkvol: the volume in .* is in use by process \d+: the disk has other clients; .*\n$/,
    );
    expect(fs.existsSync(world.path('disk'))).toBe(false);
    await client.disconnect();
    await chunkvol('attach', world.path('disk'));
    const second = await world.run(['-C', volume, 'attach', world.path('second')]);
    expect(second).toMatchObject({ status: 5 });
    expect(fs.existsSync(world.path('second'))).toBe(false);
  });

  it('of what is not there leaves nothing running', async () => {
    const words = ['-C', volume, 'attach', '--snapshot', 'none', world.path('none')];
    const result = await world.run(words, withPassphrase);
    expect(result).toMatchObject({ status: 1, stdout: '' });
    expect(result.stderr).toMatch(/^chunkvol: there is no snapshot "none".*\n$/);
    await eventually(() => world.serverPids().length === 0);
    expect(fs.existsSync(world.path('none'))).toBe(false);
  });

  it('fails without harm to what is attached already', async () => {
    await snapshotOf('one', pattern(MIB, 1));
    await chunkvol('attach', world.path('disk'));
    const none = await world.run(['-C', volume, 'attach', '--snapshot', 'none', world.path('x')]);
    expect(none).toMatchObject({ status: 1 });
    const twice = ['-C', volume, 'attach', '--snapshot', 'one', world.path('disk')];
    expect(await world.run(twice)).toMatchObject({ status: 1 });
    expect((await world.status(volume)).attached).toHaveLength(1);
    fs.writeFileSync(world.path('disk'), pattern(MIB, 3), { flag: 'r+' });
    expect(start(world.path('disk'), MIB).equals(pattern(MIB, 3))).toBe(true);
  });

  it('keeps a snapshot from being deleted, and the disk from being rolled back', async () => {
    await snapshotOf('one', pattern(MIB, 1));
    const [disk, one] = [world.path('disk'), world.path('one')];
    await chunkvol('attach', '--snapshot', 'one', one);
    await chunkvol('attach', disk);
    const kept = await world.run(['-C', volume, 'snapshot', 'delete', 'one']);
    expect(kept).toMatchObject({
      status: 5,
      stderr: `chunkvol: snapshot one is attached at ${one}; detach it first: chunkvol detach ${one}\n`,
    });
    const refused = await world.run(['-C', volume, 'snapshot', 'rollback', 'one']);
    expect(refused).toMatchObject({
      status: 5,
      stderr: `chunkvol: the disk is attached at ${disk}; detach it first: chunkvol detach ${disk}\n`,
    });
    fs.writeFileSync(disk, pattern(MIB, 9), { flag: 'r+' });
    await world.ok(['detach', disk]);
    await chunkvol('snapshot', 'rollback', 'one');
    await world.ok(['detach', one]);
    await chunkvol('snapshot', 'delete', 'one');
    await chunkvol('attach', disk);
    expect(start(disk, MIB).equals(pattern(MIB, 1))).toBe(true);
  });
});

describeWith([...MOUNT_NEEDS, 'mkfs.ext4', 'mount'], 'a mounted ext4', () => {
  it('shows yesterday beside today, goes back, and comes forth again', async () => {
    const disk = world.path('disk');
    await chunkvol('attach', disk);
    const today = await mountDisk(disk, true);
    fs.writeFileSync(path.join(today.folder, 'letter'), 'written yesterday');
    fs.writeFileSync(path.join(today.folder, 'photo'), pattern(5 * MIB, 1));
    await chunkvol('snapshot', 'create', 'yesterday');
    fs.writeFileSync(path.join(today.folder, 'letter'), 'changed today');
    fs.rmSync(path.join(today.folder, 'photo'));

    const shown = world.path('yesterday');
    await chunkvol('attach', '--snapshot', 'yesterday', shown);
    const loop = await mounts.loop(shown);
    // Made while it was mounted: its journal would have to be replayed, which it cannot be.
    const yesterday = await mounts.mount(loop, 'ro,noload');
    // What had not been synced is not in it, but a file system always is.
    expect(fs.readdirSync(yesterday)).toContain('lost+found');
    await mounts.unmount(yesterday);
    await mounts.detach(loop);
    await world.ok(['detach', shown]);
    await today.release();
    await world.ok(['detach', disk]);

    await chunkvol('snapshot', 'create', 'evening');
    await chunkvol('attach', disk);
    const changed = await mountDisk(disk);
    expect(fs.readFileSync(path.join(changed.folder, 'letter'), 'utf8')).toBe('changed today');
    fs.writeFileSync(path.join(changed.folder, 'letter'), 'changed at night');
    await changed.release();

    await chunkvol('attach', '--snapshot', 'evening', shown);
    const second = await mounts.loop(shown);
    const evening = await mounts.mount(second, 'ro');
    const night = await mountDisk(disk);
    expect(fs.readFileSync(path.join(evening, 'letter'), 'utf8')).toBe('changed today');
    expect(fs.readFileSync(path.join(night.folder, 'letter'), 'utf8')).toBe('changed at night');
    await mounts.unmount(evening);
    await mounts.detach(second);
    await night.release();
    await world.ok(['-C', volume, 'detach']);

    const said = await chunkvol('snapshot', 'rollback', 'evening');
    const kept = /kept as (\S+)$/m.exec(said)![1]!;
    expect(await letter()).toBe('changed today');
    await chunkvol('snapshot', 'rollback', kept);
    expect(await letter()).toBe('changed at night');
  });

  interface Mounted {
    readonly folder: string;
    release(): Promise<void>;
  }

  async function mountDisk(file: string, isNew = false): Promise<Mounted> {
    const device = await mounts.loop(file);
    if (isNew) await makeFileSystem('ext4', device);
    const folder = await mounts.mount(device);
    return {
      folder,
      release: async () => {
        await mounts.unmount(folder);
        await mounts.detach(device);
      },
    };
  }

  async function letter(): Promise<string> {
    const disk = world.path('disk');
    await chunkvol('attach', disk);
    const mounted = await mountDisk(disk);
    const text = fs.readFileSync(path.join(mounted.folder, 'letter'), 'utf8');
    await mounted.release();
    await world.ok(['detach', disk]);
    return text;
  }
});
