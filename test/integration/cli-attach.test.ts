/** attach and detach through nbdfuse; what is missing; what a failure leaves behind (nothing). */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseMounts } from '../../src/cli/mounts.js';
import { CliWorld, commandLine, PASSPHRASE } from '../support/cli.js';
import { describeWith, pathOf } from '../support/tools.js';

let world: CliWorld;
let volume: string;
let disk: string;
const withPassphrase = { env: { CHUNKVOL_PASSPHRASE: PASSPHRASE } };

beforeEach(async () => {
  world = new CliWorld();
  volume = await world.create('disk');
  disk = world.path('shown');
});

afterEach(() => {
  world.releaseAll();
});

const PATTERN = Buffer.from('all that is written comes back. '.repeat(4096));

function isMounted(file: string): boolean {
  const mounts = parseMounts(fs.readFileSync('/proc/self/mounts', 'utf8'));
  return mounts.some(({ target }) => target === file);
}

function write(file: string, offset: number): void {
  const fd = fs.openSync(file, 'r+');
  fs.writeSync(fd, PATTERN, 0, PATTERN.length, offset);
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

function read(file: string, offset: number): Buffer {
  const into = Buffer.alloc(PATTERN.length);
  const fd = fs.openSync(file, 'r');
  fs.readSync(fd, into, 0, into.length, offset);
  fs.closeSync(fd);
  return into;
}

/** A process is gone some time after what it was there for. */
async function serversGone(): Promise<boolean> {
  for (let tries = 0; tries < 100 && world.serverPids().length > 0; tries++) await sleep(50);
  return world.serverPids().length === 0;
}

describeWith(['nbdfuse', 'fusermount3', 'fuse'], 'attach to a file', () => {
  it('shows the disk, keeps what is written, and leaves nothing behind', async () => {
    const { stdout } = await world.ok(['-C', volume, 'attach', disk]);
    expect(stdout).toBe(`${volume} is attached at ${disk}\n`);
    expect(fs.statSync(disk).size).toBe(32 * 2 ** 20);
    write(disk, 1_000_000);
    const status = await world.run(['-C', volume, 'status', '--json']);
    expect(JSON.parse(status.stdout)).toMatchObject({
      attached: [{ kind: 'fuse', target: disk }],
      server: { pid: world.serverPids()[0] },
    });
    expect((await world.run(['detach', disk])).status).toBe(0);
    expect(isMounted(disk)).toBe(false);
    expect(fs.existsSync(disk)).toBe(false);
    expect(await serversGone()).toBe(true);

    await world.ok(['-C', volume, 'attach', disk, '--read-only']);
    expect(read(disk, 1_000_000).equals(PATTERN)).toBe(true);
    expect(() => {
      write(disk, 0);
    }).toThrow();
    expect((await world.run(['-C', volume, 'detach'])).status).toBe(0);
  });

  it('uses a file that is there, and leaves it there', async () => {
    fs.writeFileSync(disk, 'was here before');
    await world.ok(['-C', volume, 'attach', disk]);
    expect(fs.statSync(disk).size).toBe(32 * 2 ** 20);
    await world.ok(['detach', disk]);
    expect(fs.readFileSync(disk, 'utf8')).toBe('was here before');
  });

  it('finds the file by a relative path and through a link', async () => {
    fs.mkdirSync(world.path('real place'));
    fs.symlinkSync('real place', world.path('link'));
    await world.ok(['-C', volume, 'attach', 'link/shown']);
    expect(isMounted(world.path('real place', 'shown'))).toBe(true);
    await world.ok(['detach', 'shown'], { cwd: world.path('real place') });
    expect(await serversGone()).toBe(true);
  });

  it('refuses a second attach with status 5, wherever to', async () => {
    await world.ok(['-C', volume, 'attach', disk]);
    const result = await world.run(['-C', volume, 'attach', world.path('second')]);
    expect(result.status).toBe(5);
    expect(result.stderr).toMatch(/^chunkvol: .* in use by process \d+: .*\n$/);
    expect(fs.existsSync(world.path('second'))).toBe(false);
    expect(isMounted(disk)).toBe(true);
  });

  it('does not detach what is in use: status 5, and all goes on', async () => {
    await world.ok(['-C', volume, 'attach', disk]);
    const fd = fs.openSync(disk, 'r+');
    const result = await world.run(['detach', disk]);
    expect(result.status).toBe(5);
    expect(result.stderr).toMatch(/^chunkvol: .* is in use: umount .*\n$/);
    fs.writeSync(fd, PATTERN, 0, PATTERN.length, 0);
    fs.closeSync(fd);
    expect((await world.run(['detach', disk])).status).toBe(0);
  });

  it('ends the server although the file has been taken away already', async () => {
    await world.ok(['-C', volume, 'attach', disk]);
    spawnSync('fusermount3', ['-u', disk]);
    expect((await world.run(['detach', disk])).status).toBe(0);
    expect(await serversGone()).toBe(true);
  });

  it('clears away what a killed server left, and attaches again with all that was flushed', async () => {
    await world.ok(['-C', volume, 'attach', disk]);
    write(disk, 4096);
    process.kill(world.serverPids()[0]!, 'SIGKILL');
    expect(await serversGone()).toBe(true);
    const refused = await world.run(['-C', volume, 'attach', disk], withPassphrase);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('fusermount3 -u');
    expect((await world.run(['detach', disk])).status).toBe(0);
    await world.ok(['-C', volume, 'attach', disk]);
    expect(read(disk, 4096).equals(PATTERN)).toBe(true);
  });

  it('passes a wrong passphrase on: status 3, nothing changed, nothing left running', async () => {
    const before = fs.readdirSync(volume, { recursive: true }).sort();
    const env = { CHUNKVOL_PASSPHRASE: 'wrong' };
    const result = await world.run(['-C', volume, 'attach', disk], { env });
    expect(result).toMatchObject({
      status: 3,
      stderr: `chunkvol: wrong passphrase for the volume in ${volume}\n`,
    });
    expect(fs.readdirSync(volume, { recursive: true }).sort()).toEqual(before);
    expect(world.serverPids()).toEqual([]);
    expect(fs.existsSync(disk)).toBe(false);
  });

  it('leaves nothing running when nbdfuse fails', async () => {
    fs.mkdirSync(world.path('bin'));
    const failing = '#!/bin/sh\necho "nbdfuse: no luck today" >&2\nexit 1\n';
    fs.writeFileSync(world.path('bin', 'nbdfuse'), failing, { mode: 0o755 });
    const env = { ...withPassphrase.env, PATH: `${world.path('bin')}:${process.env.PATH ?? ''}` };
    const result = await world.run(['-C', volume, 'attach', disk], { env });
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/^chunkvol: nbdfuse cannot show .*no luck today\n$/);
    expect(await serversGone()).toBe(true);
    expect(fs.existsSync(disk)).toBe(false);
  });

  it('keeps the passphrase out of every argument and environment', async () => {
    await world.ok(['-C', volume, 'attach', disk]);
    const pids = fs
      .readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
    const ours = pids.filter((pid) =>
      commandLine(pid).some((word) => word.startsWith(world.folder)),
    );
    expect(ours.length).toBeGreaterThanOrEqual(2);
    for (const pid of ours) {
      expect(commandLine(pid).join(' ')).not.toContain(PASSPHRASE);
      expect(fs.readFileSync(`/proc/${pid}/environ`, 'utf8')).not.toContain(PASSPHRASE);
    }
  });

  it('writes what the server has to say to local/serve.log', async () => {
    await world.ok(['-C', volume, 'attach', disk]);
    await world.ok(['detach', disk]);
    const log = fs.readFileSync(path.join(volume, 'local', 'serve.log'), 'utf8');
    expect(log).toMatch(/serves at nbd\+unix:/);
  });

  it('attaches with a key file, from a pipe as well', async () => {
    const key = Buffer.alloc(48, 'key');
    fs.writeFileSync(world.path('usb.key'), key);
    const add = ['key', 'add', '--new-key-file', world.path('usb.key')];
    await world.ok(['-C', volume, ...add]);
    const attach = ['-C', volume, 'attach', disk, '--key-file'];
    expect((await world.run([...attach, 'usb.key'])).status).toBe(0);
    await world.ok(['detach', disk]);
    expect((await world.run([...attach, '-'], { input: key.toString() })).status).toBe(0);
    await world.ok(['detach', disk]);
  });

  it('is interrupted without leaving anything', async () => {
    const child = world.spawn(['-C', volume, 'attach', disk, '--passphrase-file', '-']);
    child.stdin!.write(`${PASSPHRASE}\n`);
    child.stdin!.end();
    while (world.serverPids().length === 0) await sleep(5);
    expect(await world.end(child, 'SIGINT')).toBe(1);
    expect(await serversGone()).toBe(true);
    expect(isMounted(disk)).toBe(false);
  });
});

describe('attach where something is missing', () => {
  it.each([
    ['nbdfuse', 'libnbd-bin', 'shown'],
    ['nbd-client', 'nbd-client', '/dev/nbd0'],
  ])('says that %s comes with %s, with status 7', async (tool, debianPackage, target) => {
    const result = await world.run(['-C', volume, 'attach', target], { env: { PATH: '' } });
    expect(result).toMatchObject({ status: 7, stdout: '' });
    expect(result.stderr).toBe(
      `chunkvol: ${tool} is not installed; install it with: apt install ${debianPackage}\n`,
    );
    expect(world.serverPids()).toEqual([]);
  });

  it('says which file is in the way', async () => {
    const result = await world.run(['-C', volume, 'attach', world.path('home')]);
    expect([1, 7]).toContain(result.status);
  });
});

describeWith(['nbd-client'], 'attach to a device that is not there', () => {
  it('says how to load the module, with status 7', async () => {
    const env = { PATH: path.dirname(pathOf('nbd-client')) };
    const result = await world.run(['-C', volume, 'attach', '/dev/nbd999'], { env });
    expect(result.status).toBe(7);
    expect(result.stderr).toMatch(
      /^chunkvol: the kernel has no \/dev\/nbd999; .*modprobe nbd.*\n$/,
    );
  });
});
