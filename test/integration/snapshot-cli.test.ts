/** Snapshots as a user meets them: the verbs, with and without a server, and the exports of NBD. */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nbdUri } from '../../src/nbd/address.js';
import { NbdClient } from '../../src/nbd/client.js';
import { CliWorld, PASSPHRASE, type CliResult } from '../support/cli.js';
import { eventually, pattern } from '../support/nbd-harness.js';
import { describeWith, pathOf } from '../support/tools.js';

const MIB = 2 ** 20;
const DISK_BYTES = 32 * MIB;
const execute = promisify(execFile);

let world: CliWorld;
let volume: string;

beforeEach(async () => {
  world = new CliWorld();
  volume = await world.create('disk');
});

afterEach(() => {
  world.releaseAll();
});

function connect(socket: string, exportName = ''): Promise<NbdClient> {
  return NbdClient.connect({ kind: 'unix', path: socket }, { exportName });
}

/** Runs a verb on the volume, with the passphrase; throws unless it ends with status 0. */
async function ok(...words: string[]): Promise<string> {
  return (await world.ok(['-C', volume, ...words])).stdout;
}

/** The same of one that must fail with one line, and this status. */
async function fails(status: number, ...words: string[]): Promise<string> {
  const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
  const result: CliResult = await world.run(['-C', volume, ...words], { env });
  expect(result, words.join(' ')).toMatchObject({ status, stdout: '' });
  expect(result.stderr).toMatch(/^chunkvol: (?!unexpected failure).*\n$/);
  return result.stderr;
}

interface Listed {
  readonly name: string;
  readonly time: string;
  readonly sizeBytes: number;
  readonly mappedBytes: number;
  readonly freedBytes: number | null;
}

async function list(): Promise<Listed[]> {
  const report = JSON.parse(await ok('snapshot', 'list', '--json')) as {
    schema: number;
    snapshots: Listed[];
  };
  expect(report.schema).toBe(1);
  return report.snapshots;
}

async function names(): Promise<string[]> {
  return (await list()).map(({ name }) => name);
}

/** Writes through a client of its own, which is gone afterwards. */
async function write(socket: string, offset: number, bytes: Uint8Array): Promise<void> {
  const client = await connect(socket);
  await client.write(offset, bytes);
  await client.flush();
  await client.disconnect();
}

async function read(socket: string, exportName: string, offset: number, bytes: number) {
  const client = await connect(socket, exportName);
  try {
    return await client.read(offset, bytes);
  } finally {
    await client.disconnect();
  }
}

function chunkBytes(): number {
  const folder = path.join(volume, 'chunks');
  return fs
    .readdirSync(folder)
    .map((name) => fs.statSync(path.join(folder, name)).size)
    .reduce((sum, bytes) => sum + bytes, 0);
}

const [FIRST, SECOND, THIRD] = [1, 2, 3].map((seed) => pattern(3 * MIB, seed)) as [
  Buffer,
  Buffer,
  Buffer,
];

describe('snapshots', () => {
  it('are made, listed and deleted without a server', async () => {
    expect(await ok('snapshot', 'list')).toBe('');
    expect(await ok('snapshot', 'create', 'Montag früh')).toBe(
      'created snapshot Montag früh: 0 B in use\n',
    );
    const before = Date.now();
    await ok('snapshot', 'create');
    const [first, second] = await list();
    expect(first).toMatchObject({ name: 'Montag früh', sizeBytes: DISK_BYTES, mappedBytes: 0 });
    expect(second!.name).toMatch(/^\d{4}-\d\d-\d\dT\d{6}Z$/);
    expect(Math.abs(Date.parse(second!.time) - before)).toBeLessThan(60_000);
    const table = (await ok('snapshot', 'list')).trimEnd().split('\n');
    expect(table[0]).toMatch(/^name +time +in use +deleting frees$/);
    expect(table[1]).toMatch(/^Montag früh +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +0 B +0 B$/);
    await ok('snapshot', 'delete', 'Montag früh', second!.name);
    expect(await list()).toEqual([]);
  });

  it('keep what was written, flushed or not, and what it costs', async () => {
    const { socket } = await world.serve(volume);
    const client = await connect(socket);
    await client.write(MIB, FIRST);
    await ok('snapshot', 'create', 'one');
    await client.write(MIB, SECOND);
    await ok('snapshot', 'create', 'two');
    await client.trim(0, DISK_BYTES);
    await ok('snapshot', 'create', 'three');
    await client.disconnect();
    expect((await read(socket, '@one', MIB, FIRST.length)).equals(FIRST)).toBe(true);
    expect((await read(socket, '@two', MIB, FIRST.length)).equals(SECOND)).toBe(true);
    const nothing = Buffer.alloc(FIRST.length);
    for (const name of ['@three', '', 'disk']) {
      expect((await read(socket, name, MIB, FIRST.length)).equals(nothing), name).toBe(true);
    }
    const all = await list();
    expect(all.map(({ mappedBytes }) => mappedBytes)).toEqual([3 * MIB, 3 * MIB, 0]);
    for (const { freedBytes } of all.slice(0, 2)) {
      expect(freedBytes).toBeGreaterThan(3 * MIB);
      expect(freedBytes).toBeLessThan(4 * MIB);
    }
  });

  it('are there after the end of the server, and after kill -9', async () => {
    const first = await world.serve(volume);
    await write(first.socket, 0, FIRST);
    await ok('snapshot', 'create', 'one');
    await write(first.socket, 0, SECOND);
    await world.end(first.child, 'SIGKILL');
    expect(await names()).toEqual(['one']);
    const second = await world.serve(volume);
    await ok('snapshot', 'create', 'two');
    await world.end(second.child);
    const third = await world.serve(volume);
    expect((await read(third.socket, '@one', 0, FIRST.length)).equals(FIRST)).toBe(true);
    expect((await read(third.socket, '@two', 0, FIRST.length)).equals(SECOND)).toBe(true);
  });

  it('made within one second without a name get different ones', async () => {
    await world.serve(volume);
    for (let count = 0; count < 3; count++) await ok('snapshot', 'create');
    expect(new Set(await names()).size).toBe(3);
  });

  it('are shown by status', async () => {
    const { socket } = await world.serve(volume);
    await write(socket, 0, FIRST);
    await ok('snapshot', 'create', 'one');
    const status = await world.status(volume);
    expect(status.snapshots).toMatchObject([{ name: 'one', mappedBytes: 3 * MIB }]);
    expect(Date.parse(status.snapshots[0]!.time)).not.toBeNaN();
    expect(status.writeAmplification).toBeCloseTo(status.loggedBytes / status.writtenBytes);
    const text = await ok('status');
    expect(text).toMatch(/^snapshots +1, the newest one of \d{4}-/m);
    expect(text).toMatch(/^held +for snapshots alone: .*; in files that are not deleted yet: .*$/m);
    expect(text).toMatch(/^written +3\.00 MiB by clients, .* to the log \(\d+\.\d\d times\)$/m);
  });
});

describe('bad input', () => {
  it.each([
    ['nothing', ''],
    ['@', 'a@b'],
    ['a slash', 'a/b'],
    ['a folder', '..'],
    ['4,096 bytes', 'x'.repeat(4096)],
  ])('as a name is refused with status 2: %s', async (_, name) => {
    await fails(2, 'snapshot', 'create', name);
    await fails(2, 'snapshot', 'delete', name);
    await fails(2, 'snapshot', 'rollback', name);
    expect(await names()).toEqual([]);
  });

  it('leaves everything as it was: names that are taken or not there', async () => {
    const { socket } = await world.serve(volume);
    await write(socket, 0, FIRST);
    await ok('snapshot', 'create', 'one');
    expect(await fails(1, 'snapshot', 'create', 'one')).toContain('already');
    expect(await fails(1, 'snapshot', 'delete', 'one', 'two')).toContain('"two"');
    expect(await fails(1, 'snapshot', 'rollback', 'two')).toContain('"two"');
    expect(await fails(1, 'snapshot', 'diff', 'two')).toContain('"two"');
    expect(await fails(1, 'snapshot', 'diff', 'one', 'two')).toContain('"two"');
    expect(await names()).toEqual(['one']);
    expect((await read(socket, '@one', 0, FIRST.length)).equals(FIRST)).toBe(true);
  });

  it('to a volume that is served read-only changes nothing', async () => {
    await ok('snapshot', 'create', 'one');
    await world.serve(volume, '--read-only');
    for (const words of [
      ['create', 'two'],
      ['delete', 'one'],
      ['rollback', 'one'],
    ]) {
      expect(await fails(1, 'snapshot', ...words)).toContain('read-only');
    }
    expect(await list()).toMatchObject([{ name: 'one', freedBytes: null }]);
    expect(await ok('snapshot', 'list')).toMatch(/^one .* unknown$/m);
  });
});

describe('rollback', () => {
  it('makes the disk what it was, and can be undone', async () => {
    const { socket } = await world.serve(volume);
    await write(socket, MIB, FIRST);
    await ok('snapshot', 'create', 'one');
    await write(socket, 2 * MIB, SECOND);
    const said = await ok('snapshot', 'rollback', 'one');
    const [, kept] = /^the disk is what it was in one; the state before is kept as (\S+)$/m.exec(
      said,
    )!;
    expect(kept).toMatch(/^before-rollback-\d{4}-/);
    expect((await read(socket, '', MIB, FIRST.length)).equals(FIRST)).toBe(true);
    await write(socket, 0, THIRD);
    await ok('snapshot', 'rollback', kept!);
    expect((await read(socket, '', 2 * MIB, SECOND.length)).equals(SECOND)).toBe(true);
    expect((await read(socket, '', MIB, MIB)).equals(FIRST.subarray(0, MIB))).toBe(true);
    expect((await read(socket, '@one', MIB, FIRST.length)).equals(FIRST)).toBe(true);
    const last = (await names()).at(-1)!;
    expect((await read(socket, `@${last}`, 0, THIRD.length)).equals(THIRD)).toBe(true);
  });

  it('works without a server', async () => {
    const first = await world.serve(volume);
    await write(first.socket, 0, FIRST);
    await ok('snapshot', 'create', 'one');
    await write(first.socket, 0, SECOND);
    await world.end(first.child);
    await ok('snapshot', 'rollback', 'one');
    const second = await world.serve(volume);
    expect((await read(second.socket, '', 0, FIRST.length)).equals(FIRST)).toBe(true);
  });

  it('is refused while the disk has clients, and not for those of snapshots', async () => {
    const { socket } = await world.serve(volume);
    await write(socket, 0, FIRST);
    await ok('snapshot', 'create', 'one');
    await write(socket, 0, SECOND);
    const client = await connect(socket, 'disk');
    const reader = await connect(socket, '@one');
    expect(await fails(5, 'snapshot', 'rollback', 'one')).toContain(
      '1 client is connected to the disk; disconnect it first',
    );
    expect((await client.read(0, SECOND.length)).equals(SECOND)).toBe(true);
    await client.write(0, THIRD);
    await client.disconnect();
    await ok('snapshot', 'rollback', 'one');
    expect((await read(socket, '', 0, FIRST.length)).equals(FIRST)).toBe(true);
    await reader.disconnect();
  });
});

describe('a snapshot that is served', () => {
  it('is not deleted while somebody is connected to it', async () => {
    const { socket } = await world.serve(volume);
    await write(socket, 0, FIRST);
    for (const name of ['one', 'two']) await ok('snapshot', 'create', name);
    const client = await connect(socket, '@one');
    expect(await fails(5, 'snapshot', 'delete', 'two', 'one')).toContain(
      '1 client is connected to snapshot one; disconnect it first',
    );
    expect(await fails(5, 'snapshot', 'prune', '--keep-last', '1')).toContain('snapshot one');
    expect(await names()).toEqual(['one', 'two']);
    expect((await client.read(0, FIRST.length)).equals(FIRST)).toBe(true);
    await client.disconnect();
    await ok('snapshot', 'delete', 'one');
    await expect(connect(socket, '@one')).rejects.toThrow(/none of that name/);
  });

  it('refuses writes, and is left alone by those to the disk', async () => {
    const { socket } = await world.serve(volume);
    await write(socket, 0, FIRST);
    await ok('snapshot', 'create', 'one');
    const [disk, snapshot] = [await connect(socket), await connect(socket, '@one')];
    expect([snapshot.readOnly, snapshot.sizeBytes]).toEqual([true, DISK_BYTES]);
    await expect(snapshot.write(0, SECOND)).rejects.toMatchObject({ code: 'read-only' });
    for (let round = 0; round < 4; round++) {
      await disk.write(0, pattern(FIRST.length, round + 10));
      await disk.flush();
      expect((await snapshot.read(0, FIRST.length)).equals(FIRST)).toBe(true);
    }
    await Promise.all([disk.disconnect(), snapshot.disconnect()]);
  });
});

describe('diff', () => {
  it('names the ranges that have changed', async () => {
    const { socket } = await world.serve(volume);
    await write(socket, 0, FIRST);
    await ok('snapshot', 'create', 'one');
    await write(socket, 8192, SECOND.subarray(0, 4096));
    await write(socket, 10 * MIB + 5, SECOND.subarray(0, 10));
    await ok('snapshot', 'create', 'two');
    const client = await connect(socket);
    await client.trim(MIB, 65_536);
    await client.disconnect();
    const changes = [
      { offset: 8192, bytes: 4096 },
      { offset: MIB, bytes: 65_536 },
      { offset: 10 * MIB, bytes: 4096 },
    ];
    const now = JSON.parse(await ok('snapshot', 'diff', 'one', '--json')) as unknown;
    expect(now).toEqual({
      schema: 1,
      from: 'one',
      to: null,
      ranges: changes,
      changedBytes: 73_728,
    });
    expect(await ok('snapshot', 'diff', 'one', 'two')).toBe(
      'bytes 8192 to 12288 (4.00 KiB)\n' +
        'bytes 10485760 to 10489856 (4.00 KiB)\n' +
        '2 ranges, 8.00 KiB changed between one and two\n',
    );
    expect(JSON.parse(await ok('snapshot', 'diff', 'two', 'two', '--json'))).toMatchObject({
      ranges: [],
      changedBytes: 0,
    });
  });

  it('tells thousands of ranges', async () => {
    const { child, socket } = await world.serve(volume);
    await ok('snapshot', 'create', 'one');
    const client = await connect(socket);
    const offsets = Array.from({ length: 3000 }, (_, at) => at * 8192);
    await Promise.all(offsets.map((offset) => client.write(offset, SECOND.subarray(0, 4096))));
    await client.disconnect();
    const expected = offsets.map((offset) => ({ offset, bytes: 4096 }));
    const diff = async () => JSON.parse(await ok('snapshot', 'diff', 'one', '--json')) as unknown;
    expect(await diff()).toMatchObject({ ranges: expected, changedBytes: 3000 * 4096 });
    await world.end(child);
    expect(await diff()).toMatchObject({ ranges: expected, changedBytes: 3000 * 4096 });
  });
});

describe('prune', () => {
  it('says what it would delete, and deletes that', async () => {
    const { socket } = await world.serve(volume);
    for (const [at, name] of ['one', 'two', 'three'].entries()) {
      await write(socket, 0, [FIRST, SECOND, THIRD][at]!);
      await ok('snapshot', 'create', name);
    }
    const said = await ok('snapshot', 'prune', '--keep-last', '1', '--dry-run');
    expect(said).toMatch(
      /^keep +\S+ \S+ +three +\(last\)\ndelete .* two\ndelete .* one\nwould delete 2 of 3, which frees 6\.\d\d MiB\n$/,
    );
    expect(await names()).toEqual(['one', 'two', 'three']);
    expect(await ok('snapshot', 'prune', '--keep-last', '1', '-q')).toBe('');
    expect(await names()).toEqual(['three']);
    expect((await read(socket, '@three', 0, THIRD.length)).equals(THIRD)).toBe(true);
  });

  it('asks for the passphrase once where nobody serves the volume', async () => {
    for (const name of ['one', 'two']) await ok('snapshot', 'create', name);
    const words = [
      '-C',
      volume,
      'snapshot',
      'prune',
      '--keep-hourly',
      '1',
      '--passphrase-file',
      '-',
    ];
    const result = await world.run(words, { input: `${PASSPHRASE}\n` });
    expect(result).toMatchObject({ status: 0, stderr: '' });
    expect(result.stdout).toMatch(/^deleted 1 of 2$/m);
    expect(await names()).toEqual(['two']);
  });
});

describe('gc', () => {
  it('gives back what snapshots held, and leaves what others hold', async () => {
    const { socket } = await world.serve(volume);
    const large = [pattern(12 * MIB, 1), pattern(12 * MIB, 2), pattern(MIB, 3)] as const;
    await write(socket, 0, large[2]);
    await ok('snapshot', 'create', 'small');
    await write(socket, 2 * MIB, large[0]);
    await ok('snapshot', 'create', 'large');
    await write(socket, 2 * MIB, large[1]);
    const client = await connect(socket);
    await client.trim(0, DISK_BYTES);
    await client.disconnect();
    const before = chunkBytes();
    await ok('gc');
    expect(chunkBytes()).toBeGreaterThan(12 * MIB * 1.5);
    await ok('snapshot', 'delete', 'large');
    expect(await ok('gc')).toMatch(
      /^deleted \d+ groups?, .* of files; moved .*\n.* are in use now, .* are garbage\n$/,
    );
    expect(chunkBytes()).toBeLessThan(before / 4);
    expect((await read(socket, '@small', 0, MIB)).equals(large[2])).toBe(true);
    await ok('scrub');
  });

  it('works without a server', async () => {
    const { child, socket } = await world.serve(volume);
    await write(socket, 0, pattern(12 * MIB, 1));
    const client = await connect(socket);
    await client.trim(0, DISK_BYTES);
    await client.disconnect();
    await world.end(child);
    const before = chunkBytes();
    await ok('gc', '--aggressive');
    expect(chunkBytes()).toBeLessThan(before / 4);
    await ok('scrub');
  });
});

describeWith(['nbdinfo', 'nbdcopy'], 'other people’s clients', () => {
  it('see the snapshots come and go, and copy one beside live writes', async () => {
    const { socket } = await world.serve(volume);
    await write(socket, 5, FIRST);
    await ok('snapshot', 'create', 'früh');
    await ok('snapshot', 'create', 'late');
    const exports = async (): Promise<unknown[]> => {
      const uri = nbdUri({ kind: 'unix', path: socket });
      const { stdout } = await execute(pathOf('nbdinfo'), ['--list', '--json', uri]);
      const report = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
      return report.exports.map((one) => [
        one['export-name'],
        one.is_read_only,
        one['export-size'],
      ]);
    };
    expect(await exports()).toEqual([
      ['disk', false, DISK_BYTES],
      ['@früh', true, DISK_BYTES],
      ['@late', true, DISK_BYTES],
    ]);
    const client = await connect(socket);
    const copied = new AbortController();
    const copy = execute(pathOf('nbdcopy'), [
      nbdUri({ kind: 'unix', path: socket }, '@früh'),
      world.path('copy'),
    ]).finally(() => {
      copied.abort();
    });
    for (let round = 0; !copied.signal.aborted; round++) {
      await client.write(5, pattern(MIB, round));
    }
    await copy;
    await client.disconnect();
    const expected = Buffer.alloc(DISK_BYTES);
    FIRST.copy(expected, 5);
    expect(fs.readFileSync(world.path('copy')).equals(expected)).toBe(true);
    await ok('snapshot', 'delete', 'früh');
    expect(await exports()).toEqual([
      ['disk', false, DISK_BYTES],
      ['@late', true, DISK_BYTES],
    ]);
  });
});

describeWith(['rsync'], 'sync', () => {
  it('takes the snapshots along, and lets more be made while it runs', async () => {
    const { socket } = await world.serve(volume);
    await write(socket, 0, FIRST);
    await ok('snapshot', 'create', 'one');
    await write(socket, 0, pattern(6 * MIB, 2));
    let done = false;
    const syncing = ok('sync', world.path('remote'), '--bwlimit', '2M').finally(
      () => (done = true),
    );
    await eventually(() => fs.existsSync(world.path('remote', 'chunks')), 20_000);
    await ok('snapshot', 'create', 'meanwhile');
    expect(done).toBe(false);
    await syncing;
    await ok('sync', world.path('remote'));
    await world.ok(['restore', world.path('remote'), world.path('again')]);
    const again = await world.serve(world.path('again'));
    expect((await read(again.socket, '@one', 0, FIRST.length)).equals(FIRST)).toBe(true);
    const meanwhile = await read(again.socket, '@meanwhile', 0, 6 * MIB);
    expect(meanwhile.equals(pattern(6 * MIB, 2))).toBe(true);
  });
});
