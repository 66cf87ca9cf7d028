/** sync, restore, scrub and repair by way of the program, on local folders as remotes. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/client.js';
import { CliWorld, PASSPHRASE, type CliResult } from '../support/cli.js';
import { describeWith } from '../support/tools.js';

let world: CliWorld;
let volume: string;
const withPassphrase = { env: { CHUNKVOL_PASSPHRASE: PASSPHRASE } };
const PATTERN = Buffer.alloc(2_500_000, 'not zeros at all. ');

beforeEach(async () => {
  world = new CliWorld();
  volume = await world.create('disk');
});

afterEach(() => {
  world.releaseAll();
});

async function connect(socket: string): Promise<NbdClient> {
  return NbdClient.connect({ kind: 'unix', path: socket });
}

/** Serves, writes, seals. */
async function fill(folder: string, contents: Uint8Array = PATTERN, offset = 0): Promise<void> {
  const { child, socket } = await world.serve(folder);
  const client = await connect(socket);
  await client.write(offset, contents);
  await client.disconnect();
  expect(await world.end(child)).toBe(0);
}

async function contents(folder: string): Promise<Buffer> {
  const { child, socket } = await world.serve(folder);
  const client = await connect(socket);
  const read = await client.read(0, PATTERN.length);
  await client.disconnect();
  await world.end(child);
  return read;
}

function chunks(folder: string): string[] {
  const names = fs.readdirSync(path.join(folder, 'chunks')).sort();
  return names.map((name) => path.join(folder, 'chunks', name));
}

/** The chunk files of the largest group: those of the commonest size above a few KiB. */
function ofOneGroup(folder: string): string[] {
  const files = chunks(folder).filter((file) => fs.statSync(file).size > 100_000);
  const times = new Map(files.map((file) => [file, fs.statSync(file).size]));
  return files.filter((file) => times.get(file) === times.get(files[0]!)).slice(0, 6);
}

function flipByte(file: string, offset: number): void {
  const bytes = fs.readFileSync(file);
  bytes[offset]! ^= 0x40;
  fs.writeFileSync(file, bytes);
}

/** Scrubs the served volume, again and again, until that ends with `status`. */
async function scrubUntil(status: number): Promise<CliResult> {
  for (let tries = 0; tries < 50; tries++) {
    const result = await world.run(['-C', volume, 'scrub']);
    if (result.status === status) return result;
  }
  throw new Error(`scrub never ended with status ${status}`);
}

describeWith(['rsync'], 'sync and restore', () => {
  it('refuses the folder of the volume itself, by any path', async () => {
    await fill(volume);
    fs.symlinkSync(volume, world.path('link'));
    for (const remote of [volume, world.path('link')]) {
      const result = await world.run(['-C', volume, 'sync', remote], withPassphrase);
      expect(result).toMatchObject({ status: 2, stdout: '' });
      expect(result.stderr).toMatch(/^chunkvol: .* is the volume itself; /m);
    }
  });

  it('copies while the volume is served, without a passphrase, and restores from it', async () => {
    const { child, socket } = await world.serve(volume);
    const client = await connect(socket);
    await client.write(0, PATTERN);
    await world.ok(['-C', volume, 'remote', 'add', 'near', 'remote folder']);
    const listed = await world.run(['-C', volume, 'remote', 'list']);
    expect(listed.stdout).toBe(`near  ${world.path('remote folder')}  (never synced)\n`);

    const dry = await world.run(['-C', volume, 'sync', '--dry-run'], { cwd: '/' });
    expect(dry).toMatchObject({ status: 0, stderr: '' });
    expect(dry.stdout).toContain('would copy');
    expect(fs.existsSync(world.path('remote folder'))).toBe(false);

    const synced = await world.run(['-C', volume, 'sync'], { cwd: '/' });
    expect(synced).toMatchObject({ status: 0, stderr: '' });
    const report = JSON.parse((await world.run(['-C', volume, 'status', '--json'])).stdout) as {
      remotes: { name: string; unsyncedBytes: number; lastSync: { generation: number } }[];
    };
    expect(report.remotes).toMatchObject([{ name: 'near', unsyncedBytes: 0 }]);
    expect(report.remotes[0]!.lastSync.generation).toBeGreaterThan(1);

    await client.write(8_000_000, PATTERN.subarray(0, 500_000));
    await client.disconnect();
    await world.end(child);
    const after = await world.status(volume);
    expect(after.remotes[0]!.unsyncedBytes).toBeGreaterThan(500_000);

    await world.ok(['restore', 'remote folder', 'back', '--verify']);
    expect((await contents(world.path('back'))).equals(PATTERN)).toBe(true);
  });

  it('rebuilds on restore what the remote has lost', async () => {
    await fill(volume);
    await world.ok(['-C', volume, 'sync', world.path('remote')]);
    for (const file of ofOneGroup(world.path('remote')).slice(1, 3)) fs.rmSync(file);
    await world.ok(['restore', 'remote', 'back']);
    expect(chunks(world.path('back')).map((file) => path.basename(file))).toEqual(
      chunks(volume).map((file) => path.basename(file)),
    );
    for (const file of chunks(volume)) {
      const twin = path.join(world.path('back'), 'chunks', path.basename(file));
      expect(fs.readFileSync(twin).equals(fs.readFileSync(file)), file).toBe(true);
    }
  });

  it('refuses to restore into a folder that holds something', async () => {
    await world.ok(['-C', volume, 'sync', world.path('remote')]);
    const result = await world.run(['restore', 'remote', volume], withPassphrase);
    expect(result.status).toBe(1);
    expect(result.stderr).toContain('is not empty');
  });

  it('takes a restore with a wrong passphrase for what it is', async () => {
    await world.ok(['-C', volume, 'sync', world.path('remote')]);
    const env = { CHUNKVOL_PASSPHRASE: 'wrong' };
    const result = await world.run(['restore', 'remote', 'back'], { env });
    expect(result.status).toBe(3);
    expect(result.stderr).toMatch(/^chunkvol: wrong passphrase .*\n$/);
    await world.ok(['restore', 'remote', 'back']);
  });

  it('refuses a fork with status 6, and goes on when told to', async () => {
    await fill(volume);
    const copy = world.path('copy');
    fs.cpSync(volume, copy, { recursive: true });
    await fill(copy, PATTERN.subarray(0, 5000), 4_000_000);
    await fill(volume, PATTERN.subarray(0, 5000), 6_000_000);
    await world.ok(['-C', copy, 'sync', world.path('remote')]);
    const refused = await world.run(['-C', volume, 'sync', world.path('remote')], withPassphrase);
    expect(refused.status).toBe(6);
    expect(refused.stderr).toMatch(/^chunkvol: .*--accept-fork\n$/);
    await world.ok(['-C', volume, 'sync', world.path('remote'), '--accept-fork']);
  });

  it('refuses what is older than expected, with status 6', async () => {
    await world.ok(['-C', volume, 'sync', world.path('remote')]);
    const words = ['restore', 'remote', 'back', '--expect-generation', '1000'];
    expect((await world.run(words, withPassphrase)).status).toBe(6);
  });

  it('syncs the others when one remote fails', async () => {
    const far = 'rsync://127.0.0.1:1/module/folder';
    const words = ['-C', volume, 'sync', far, world.path('remote')];
    const result = await world.run(words, withPassphrase);
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/^chunkvol: .*127\.0\.0\.1/);
    expect(fs.readdirSync(world.path('remote')).sort()).toEqual(['keys', 'roots']);
  });

  it('says that there is no remote to sync to, with status 2', async () => {
    const result = await world.run(['-C', volume, 'sync'], withPassphrase);
    expect(result.status).toBe(2);
    expect(result.stderr).toContain('chunkvol remote add');
  });

  it('says that rsync is missing, with status 7', async () => {
    const env = { ...withPassphrase.env, PATH: '' };
    const result = await world.run(['-C', volume, 'sync', world.path('remote')], { env });
    expect(result.status).toBe(7);
    expect(result.stderr).toMatch(/rsync is not installed; .*apt install rsync\n$/);
  });

  it('refuses a second sync while one runs, and stops it when its client goes away', async () => {
    const slow = world.path('bin', 'rsync');
    fs.mkdirSync(world.path('bin'));
    fs.writeFileSync(slow, '#!/bin/sh\nexec sleep 30\n', { mode: 0o755 });
    const previous = process.env.PATH;
    process.env.PATH = `${world.path('bin')}:${previous ?? ''}`;
    try {
      await world.serve(volume);
      const first = world.spawn(['-C', volume, 'sync', world.path('remote')]);
      const refused = await scrubUntil(5);
      expect(refused.stderr).toContain('a sync of this volume is running');
      expect(await world.end(first, 'SIGINT')).toBe(1);
      await scrubUntil(0);
    } finally {
      process.env.PATH = previous;
    }
  });
});

describeWith(['rsync'], 'scrub and repair', () => {
  it('finds nothing wrong with a healthy volume', async () => {
    await fill(volume);
    const { stdout } = await world.ok(['-C', volume, 'scrub']);
    expect(stdout).toMatch(/: all good\n$/);
  });

  it('names file and range of damage with status 1, and repairs to the same bytes', async () => {
    await fill(volume);
    const [first, second] = ofOneGroup(volume);
    const before = [first!, second!].map((file) => fs.readFileSync(file));
    flipByte(first!, 50_000);
    fs.rmSync(second!);
    const scrub = await world.run(['-C', volume, 'scrub'], withPassphrase);
    expect(scrub.status).toBe(1);
    expect(scrub.stdout).toContain(`${first!}: units damaged (bytes`);
    expect(scrub.stdout).toContain(`${second!}: missing`);
    expect((await world.status(volume)).groups.some(({ missing }) => missing === 1)).toBe(true);

    await world.ok(['-C', volume, 'scrub', '--repair']);
    for (const [index, file] of [first!, second!].entries()) {
      expect(fs.readFileSync(file).equals(before[index]!), file).toBe(true);
    }
    await world.ok(['-C', volume, 'scrub']);
  });

  it('repairs while the volume is served', async () => {
    await fill(volume);
    const { socket } = await world.serve(volume);
    const [victim] = ofOneGroup(volume);
    fs.rmSync(victim!);
    const result = await world.run(['-C', volume, 'repair']);
    expect(result).toMatchObject({ status: 0 });
    expect(result.stdout).toContain(`rebuilt ${victim!}`);
    const client = await connect(socket);
    expect((await client.read(0, PATTERN.length)).equals(PATTERN)).toBe(true);
    await client.disconnect();
  });

  it('puts back key files that were lost while the volume is served', async () => {
    await world.serve(volume);
    fs.rmSync(path.join(volume, 'keys', fs.readdirSync(path.join(volume, 'keys'))[0]!));
    const result = await world.run(['-C', volume, 'repair']);
    expect(result.stdout).toContain('put the key file back');
    expect((await world.run(['-C', volume, 'detach'])).status).toBe(0);
    await world.status(volume);
  });

  it('says with status 4 that more is lost than parity replaces, and takes it from a remote', async () => {
    await fill(volume);
    await world.ok(['-C', volume, 'sync', world.path('remote')]);
    const before = chunks(volume).map((file) => fs.readFileSync(file));
    const names = chunks(volume);
    for (const file of ofOneGroup(volume).slice(0, 3)) fs.rmSync(file);
    for (const verb of ['scrub', 'repair']) {
      const result = await world.run(['-C', volume, verb], withPassphrase);
      expect(result.status, `${verb}: ${result.stdout}${result.stderr}`).toBe(4);
    }
    const { stdout } = await world.ok(['-C', volume, 'repair', '--from', world.path('remote')]);
    expect(stdout).toMatch(/fetched chunks\//);
    // Opening may have gone on in new groups meanwhile; those that were there are as they were.
    for (const [index, file] of names.entries()) {
      expect(fs.readFileSync(file).equals(before[index]!), file).toBe(true);
    }
    expect((await contents(volume)).equals(PATTERN)).toBe(true);
  });

  it('brings a volume back of which a remote and the folder are all that is left', async () => {
    await fill(volume);
    await world.ok(['-C', volume, 'sync', world.path('remote')]);
    for (const name of ['keys', 'roots', 'chunks']) {
      fs.rmSync(path.join(volume, name), { recursive: true });
    }
    await world.ok(['-C', volume, 'repair', '--from', world.path('remote')]);
    expect((await contents(volume)).equals(PATTERN)).toBe(true);
  });
});
