/**
 * Scrub and repair where the newest groups are lost or damaged as a whole: an older state would open, in a
 * copy made by hand without a word, and is neither found good nor mended in the newest one's stead.
 */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { expectFailure, filesIn, fingerprint, Sandbox } from '../support/sandbox.js';
import { patterned } from '../support/volumes.js';

const MIB = 1024 * 1024;

let sandbox: Sandbox;
let volume: string;
let remote: string;
/** Chunk files of the newest groups. */
let newest: string[];

beforeEach(async () => {
  sandbox = new Sandbox();
  remote = sandbox.path('remote');
  volume = await sandbox.create(sandbox.path('volume'));
  await write(0);
  await write(1);
  const older = filesIn(volume, 'chunks');
  await write(2);
  await write(3);
  newest = filesIn(volume, 'chunks').filter((name) => !older.includes(name));
  await sandbox.succeed(sandbox.on(volume, 'sync', remote));
});

afterEach(() => sandbox.release());

async function write(part: number): Promise<void> {
  await sandbox.withServer(volume, async (client) => {
    await client.write(part * MIB, patterned(MIB, part));
    await client.flush();
  });
}

async function expectContents(folder: string): Promise<void> {
  await sandbox.withServer(folder, async (client) => {
    for (let part = 0; part < 4; part++) {
      const bytes = await client.read(part * MIB, MIB);
      expect(Buffer.compare(bytes, patterned(MIB, part))).toBe(0);
    }
  });
}

describe.each([
  ['a volume', false],
  ['a copy made by hand', true],
])('%s', (_, isCopy) => {
  let folder: string;

  beforeEach(() => {
    folder = isCopy ? sandbox.path('copy') : volume;
    if (isCopy) fs.cpSync(volume, folder, { recursive: true });
  });

  it('that has lost its newest groups is repaired from a remote, and not otherwise', async () => {
    for (const name of newest) fs.rmSync(`${folder}/chunks/${name}`);
    const before = fingerprint(folder);
    const scrub = await sandbox.run(sandbox.on(folder, 'scrub'));
    expect(scrub.status).toBe(4);
    expect(scrub.stdout).toContain('beyond what parity can replace');
    const repair = await sandbox.run(sandbox.on(folder, 'repair'));
    expect(repair.status).toBe(4);
    for (const name of newest)
      expect(repair.stdout).toContain(`not repaired: ${folder}/chunks/${name}`);
    expect(repair.stderr).toMatch(/nothing was cut off/);
    expect(fingerprint(folder)).toEqual(before);

    const empty = sandbox.path('empty');
    fs.mkdirSync(empty);
    expectFailure(await sandbox.run(sandbox.on(folder, 'repair', '--from', empty)), 4, /cut off/, {
      remarks: true,
    });
    expect(fingerprint(folder)).toEqual(before);

    await sandbox.succeed(sandbox.on(folder, 'repair', '--from', remote));
    await sandbox.succeed(sandbox.on(folder, 'scrub'));
    await expectContents(folder);
  });

  it('whose newest files are all too long is mended', async () => {
    const right = newest.map((name) => fs.readFileSync(`${folder}/chunks/${name}`));
    for (const name of newest) fs.appendFileSync(`${folder}/chunks/${name}`, '\n');
    const scrub = await sandbox.run(sandbox.on(folder, 'scrub'));
    expect(scrub.status).toBe(1);
    for (const name of newest) expect(scrub.stdout).toContain(`${name}: wrong size`);
    await sandbox.succeed(sandbox.on(folder, 'repair'));
    for (const [index, name] of newest.entries()) {
      expect(Buffer.compare(fs.readFileSync(`${folder}/chunks/${name}`), right[index]!)).toBe(0);
    }
    await sandbox.succeed(sandbox.on(folder, 'scrub'));
    await expectContents(folder);
  });
});

describe('a restore from a remote that gives other bytes', () => {
  const zero = (name: string): void => {
    const file = `${remote}/chunks/${name}`;
    fs.writeFileSync(file, Buffer.alloc(fs.statSync(file).size));
  };
  const restore = (): string[] => {
    return ['restore', '--key-file', sandbox.keyFile, remote, sandbox.path('restored')];
  };

  it('rebuilds what parity covers', async () => {
    zero(newest[0]!);
    const { stdout } = await sandbox.succeed(restore());
    expect(stdout).toContain(`rebuilt ${sandbox.path('restored')}/chunks/${newest[0]!}`);
    await expectContents(sandbox.path('restored'));
  });

  it('ends with status 4 where there is too much of it', async () => {
    newest.forEach(zero);
    const outcome = await sandbox.run(restore());
    expect(outcome.status).toBe(4);
    expect(outcome.stdout).toMatch(/^lost: bytes \d+ to \d+ of the disk$/m);
  });
});

describe('a copy made by hand of a volume in use', () => {
  let folder: string;

  /** With a torn end: what its open group has lost was flushed. */
  beforeEach(async () => {
    folder = sandbox.path('copy');
    const server = await sandbox.serve(volume);
    const client = await server.connect();
    for (let i = 0; i < 3; i++) {
      await client.write(4 * MIB + i * 65536, patterned(65536, i));
      await client.flush();
    }
    fs.cpSync(volume, folder, { recursive: true });
    await client.disconnect();
    await server.stop();
    for (const name of filesIn(folder, 'chunks', '.open')) {
      fs.truncateSync(`${folder}/chunks/${name}`, 32768);
    }
  });

  it('is scrubbed and repaired by the replicas of its roots when those are lost', async () => {
    for (const name of filesIn(folder, 'roots')) fs.rmSync(`${folder}/roots/${name}`);
    await sandbox.succeed(sandbox.on(folder, 'scrub'));
    await sandbox.succeed(sandbox.on(folder, 'repair'));
    await expectContents(folder);
  });

  it('is told from the volume, of which flushed writes are missing, whatever else is damaged', async () => {
    fs.rmSync(`${folder}/chunks/${newest[0]!}`);
    const ofCopy = await sandbox.run(sandbox.on(folder, 'scrub'));
    expect(ofCopy.stdout).toContain(`${newest[0]!}: missing`);
    expect(ofCopy.status).toBe(1);
    fs.rmSync(`${folder}/local/identity`);
    const ofVolume = await sandbox.run(sandbox.on(folder, 'scrub'));
    expect(ofVolume.stdout).toContain(`${newest[0]!}: missing`);
    expectFailure(ofVolume, 4, /nothing was cut off/);
  });
});

describe('what is no file, under the name of a chunk file', () => {
  it('counts as damage, keeps nobody waiting, and makes way for what is rebuilt', async () => {
    const [first, second] = newest.map((name) => `${volume}/chunks/${name}`) as [string, string];
    const loop = `${volume}/chunks/${filesIn(volume, 'chunks').find((name) => !newest.includes(name))!}`;
    const right = [first, second, loop].map((file) => fs.readFileSync(file));
    for (const file of [first, second, loop]) fs.rmSync(file);
    execFileSync('mkfifo', [first]);
    fs.mkdirSync(second);
    fs.writeFileSync(`${second}/note`, 'somebody else put this here');
    fs.symlinkSync(loop, loop);

    await sandbox.succeed(sandbox.on(volume, 'status'));
    await expectContents(volume);
    const scrub = await sandbox.run(sandbox.on(volume, 'scrub'));
    expect(scrub.status).toBe(1);
    for (const file of [first, second, loop]) expect(scrub.stdout).toContain(`${file}: missing`);
    await sandbox.succeed(sandbox.on(volume, 'repair'));
    for (const [index, file] of [first, second, loop].entries()) {
      expect(Buffer.compare(fs.readFileSync(file), right[index]!), file).toBe(0);
    }
    const aside = `${volume}/local/set-aside/${path.basename(second)}/note`;
    expect(fs.readFileSync(aside, 'utf8')).toBe('somebody else put this here');
    await sandbox.succeed(sandbox.on(volume, 'scrub'));
  });
});
