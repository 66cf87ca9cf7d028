/** resize: online and offline, what clients see of it, and a file system that grows into it. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/client.js';
import { CliWorld, PASSPHRASE } from '../support/cli.js';
import { checkFileSystem, makeFileSystem, MOUNT_NEEDS, Mounts } from '../support/mount.js';
import { pattern } from '../support/nbd-harness.js';
import { describeWith, pathOf } from '../support/tools.js';

const MIB = 2 ** 20;
const withPassphrase = { env: { CHUNKVOL_PASSPHRASE: PASSPHRASE } };

let world: CliWorld;
let volume: string;
let mounts: Mounts;

beforeEach(async () => {
  world = new CliWorld();
  mounts = new Mounts();
  volume = await world.create('volume');
});

afterEach(async () => {
  await mounts.releaseAll();
  world.releaseAll();
});

function resize(size: string): Promise<{ stdout: string }> {
  return world.ok(['-C', volume, 'resize', size]);
}

describe('resize', () => {
  it('grows the disk under its clients, and for good', async () => {
    const { child, socket } = await world.serve(volume);
    const client = await NbdClient.connect({ kind: 'unix', path: socket });
    await client.write(31 * MIB, pattern(MIB, 1));
    await expect(client.write(32 * MIB, pattern(MIB, 2))).rejects.toMatchObject({
      code: 'no-space',
    });
    expect((await resize('64M')).stdout).toBe('the disk has 64.0 MiB now, and had 32.0 MiB\n');
    await client.write(63 * MIB, pattern(MIB, 2));
    const later = await NbdClient.connect({ kind: 'unix', path: socket });
    expect(later.sizeBytes).toBe(64 * MIB);
    for (const each of [client, later]) await each.disconnect();
    await world.end(child);
    expect(await world.status(volume)).toMatchObject({ sizeBytes: 64 * MIB });
    const again = await world.serve(volume);
    const reader = await NbdClient.connect({ kind: 'unix', path: again.socket });
    expect((await reader.read(31 * MIB, MIB)).equals(pattern(MIB, 1))).toBe(true);
    expect((await reader.read(63 * MIB, MIB)).equals(pattern(MIB, 2))).toBe(true);
    await reader.disconnect();
  });

  it('shrinks only what holds nothing, and says what does', async () => {
    const { socket } = await world.serve(volume);
    const client = await NbdClient.connect({ kind: 'unix', path: socket });
    await client.write(20 * MIB, pattern(8192, 1));
    const refused = await world.run(['-C', volume, 'resize', '16M']);
    expect(refused).toMatchObject({ status: 2, stdout: '' });
    expect(refused.stderr).toContain(`bytes ${20 * MIB} to ${20 * MIB + 8191} hold data`);
    expect((await client.read(20 * MIB, 8192)).equals(pattern(8192, 1))).toBe(true);
    await client.trim(20 * MIB, 8192);
    await resize('16M');
    await expect(client.write(20 * MIB, pattern(8192, 1))).rejects.toMatchObject({
      code: 'no-space',
    });
    await client.write(16 * MIB - 8192, pattern(8192, 1));
    await client.disconnect();
    expect(await world.status(volume)).toMatchObject({ sizeBytes: 16 * MIB });
  });

  it('works without a server, rounds up to whole blocks, and to 1P', async () => {
    await resize('40000001');
    expect((await world.status(volume)).sizeBytes).toBe(40_001_536);
    expect((await resize('40000001')).stdout).toBe('the disk has 38.1 MiB already\n');
    await resize('1P');
    expect((await world.status(volume)).sizeBytes).toBe(2 ** 50);
  });

  it.each(['0', '-1', '1.5P', '1.1K', 'large'])('refuses %s with status 2', async (size) => {
    const result = await world.run(['-C', volume, 'resize', '--', size], withPassphrase);
    expect(result).toMatchObject({ status: 2, stdout: '' });
    expect(result.stderr).toMatch(/^chunkvol: size .*\n$/);
    expect(await world.status(volume)).toMatchObject({ sizeBytes: 32 * MIB });
  });
});

describeWith([...MOUNT_NEEDS, 'mkfs.ext4', 'fsck.ext4', 'resize2fs'], 'an ext4', () => {
  it('grows into a larger disk, attached anew as resize says', async () => {
    const disk = world.path('disk');
    await world.ok(['-C', volume, 'attach', disk]);
    let device = await mounts.loop(disk);
    await makeFileSystem('ext4', device);
    let folder = await mounts.mount(device);
    fs.writeFileSync(path.join(folder, 'file'), pattern(8 * MIB, 1));
    const { stdout } = await resize('96M');
    expect(stdout).toContain(`chunkvol detach ${disk} and chunkvol -C ${volume} attach ${disk}\n`);
    await mounts.unmount(folder);
    await mounts.detach(device);
    await world.ok(['detach', disk]);

    await world.ok(['-C', volume, 'attach', disk]);
    expect(fs.statSync(disk).size).toBe(96 * MIB);
    device = await mounts.loop(disk);
    // Unmounted, as a container may not do it otherwise; then a check has to come first.
    execFileSync(pathOf('fsck.ext4'), ['-f', '-p', device], { stdio: 'pipe' });
    execFileSync(pathOf('resize2fs'), [device], { stdio: 'pipe' });
    folder = await mounts.mount(device);
    fs.writeFileSync(path.join(folder, 'more'), pattern(50 * MIB, 2));
    expect(fs.readFileSync(path.join(folder, 'file')).equals(pattern(8 * MIB, 1))).toBe(true);
    await mounts.unmount(folder);
    await checkFileSystem('ext4', device);
    await mounts.detach(device);
    await world.ok(['detach', disk]);
  });
});
