/** clone: a volume of its own from a snapshot, which goes its own way from then on. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, expect, it, describe } from 'vitest';
import { NbdClient } from '../../src/nbd/client.js';
import { CliWorld, PASSPHRASE } from '../support/cli.js';
import { pattern } from '../support/nbd-harness.js';

const MIB = 2 ** 20;
const withPassphrase = { env: { CHUNKVOL_PASSPHRASE: PASSPHRASE } };

let world: CliWorld;
let volume: string;
let copy: string;

beforeEach(async () => {
  world = new CliWorld();
  volume = await world.create('disk');
  copy = world.path('copy');
});

afterEach(() => {
  world.releaseAll();
});

async function write(socket: string, bytes: Uint8Array): Promise<void> {
  const client = await NbdClient.connect({ kind: 'unix', path: socket });
  await client.write(0, bytes);
  await client.flush();
  await client.disconnect();
}

async function holds(socket: string, bytes: Buffer): Promise<boolean> {
  const client = await NbdClient.connect({ kind: 'unix', path: socket });
  const found = await client.read(0, bytes.length);
  await client.disconnect();
  return found.equals(bytes);
}

/** A volume that is served, with a snapshot `one` that differs from what it holds now. */
async function served(): Promise<Awaited<ReturnType<CliWorld['serve']>>> {
  const server = await world.serve(volume);
  await write(server.socket, pattern(5 * MIB, 1));
  await world.ok(['-C', volume, 'snapshot', 'create', 'one']);
  await write(server.socket, pattern(5 * MIB, 2));
  return server;
}

/** Chunk files that both folders have as one. */
function shared(): string[] {
  const inode = (folder: string, name: string): number =>
    fs.statSync(path.join(folder, 'chunks', name)).ino;
  const theirs = fs.readdirSync(path.join(copy, 'chunks'));
  const ours = new Set(fs.readdirSync(path.join(volume, 'chunks')));
  return theirs.filter((name) => ours.has(name) && inode(copy, name) === inode(volume, name));
}

describe('clone', () => {
  it('makes a volume that shares files, and goes its own way', async () => {
    const first = await served();
    const made = await world.run(['-C', volume, 'clone', 'one', 'copy', '--name', 'a copy']);
    expect(made).toMatchObject({
      status: 0,
      stdout: `${copy} is a volume of its own now, from snapshot one of ${volume}\n`,
      stderr: '',
    });
    expect(shared().length).toBeGreaterThan(5);
    expect(await world.status(copy)).toMatchObject({ name: 'a copy', snapshots: [], server: null });

    const second = await world.serve(copy);
    expect(await holds(second.socket, pattern(5 * MIB, 1))).toBe(true);
    await write(second.socket, pattern(5 * MIB, 3));
    expect(await holds(first.socket, pattern(5 * MIB, 2))).toBe(true);
    await write(first.socket, pattern(5 * MIB, 4));
    expect(await holds(second.socket, pattern(5 * MIB, 3))).toBe(true);
    await world.end(first.child);
    await world.end(second.child);

    await world.ok(['-C', volume, 'snapshot', 'delete', 'one']);
    for (const folder of [volume, copy]) {
      await world.ok(['-C', folder, 'gc']);
      await world.ok(['-C', folder, 'scrub']);
    }
    expect(shared()).toEqual([]);
    expect(await holds((await world.serve(copy)).socket, pattern(5 * MIB, 3))).toBe(true);
    expect(await holds((await world.serve(volume)).socket, pattern(5 * MIB, 4))).toBe(true);
  });

  it('works without a server, and names the volume after its folder', async () => {
    await world.end((await served()).child);
    fs.mkdirSync(copy);
    await world.ok(['-C', volume, 'clone', 'one', copy]);
    expect((await world.status(copy)).name).toBe('copy');
    expect(await holds((await world.serve(copy)).socket, pattern(5 * MIB, 1))).toBe(true);
  });

  it('makes a fork: neither it nor the original takes over the remote of the other', async () => {
    const remote = world.path('remote');
    await world.end((await served()).child);
    const { socket, child } = await world.serve(volume);
    await write(socket, pattern(5 * MIB, 5));
    await world.end(child);
    await world.ok(['-C', volume, 'sync', remote]);
    await world.ok(['-C', volume, 'clone', 'one', copy]);
    const taken = await world.run(['-C', copy, 'sync', remote], withPassphrase);
    expect(taken).toMatchObject({ status: 6, stdout: '' });
    await world.ok(['-C', copy, 'sync', `${remote}-of-the-copy`]);
    const back = await world.run(['-C', volume, 'sync', `${remote}-of-the-copy`], withPassphrase);
    expect(back).toMatchObject({ status: 6, stdout: '' });
    await world.ok(['-C', volume, 'sync', remote]);
    await world.ok(['-C', copy, 'sync', `${remote}-of-the-copy`]);
  });

  it('refuses a folder that holds something, and leaves it alone', async () => {
    await served();
    fs.mkdirSync(copy);
    fs.writeFileSync(path.join(copy, 'file'), 'contents');
    const result = await world.run(['-C', volume, 'clone', 'one', copy]);
    expect(result).toMatchObject({ status: 1, stdout: '' });
    expect(fs.readdirSync(copy)).toEqual(['file']);
  });

  it('that fails leaves nothing in the way of another try', async () => {
    const result = await world.run(['-C', volume, 'clone', 'none', copy], withPassphrase);
    expect(result).toMatchObject({ status: 1, stdout: '' });
    expect(result.stderr).toMatch(/^chunkvol: there is no snapshot "none".*\n$/);
    expect(fs.existsSync(copy)).toBe(false);
    await world.ok(['-C', volume, 'snapshot', 'create', 'none']);
    await world.ok(['-C', volume, 'clone', 'none', copy]);
  });
});
