/**
 * After a kill -9, a recovery that would have to cut flushed writes stops with status 4: nothing is
 * changed, the volume opens read-only, and everything is there once the file is back. Only
 * --accept-loss cuts, and says so.
 */
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readCatalog } from '../../src/store/catalog.js';
import { unlock } from '../../src/store/key-files.js';
import { expectFailure, filesIn, fingerprint, Sandbox } from '../support/sandbox.js';
import { contentsOf, UNIT_BYTES, VersionedDisk, type Marks } from '../support/versioned-disk.js';
import { environment, keyFile } from '../support/volumes.js';
import type { NbdClient } from '../../src/nbd/client.js';

const DISK_UNITS = 4096;
const WRITE_UNITS = 64;
const MAX_PADDING_BYTES = 4096;

let sandbox: Sandbox;
let volume: string;
let disk: VersionedDisk;
/** What the closed root holds that was made before the open group began. */
let closed: Marks;
/** Where the first file of the open group ended at the first of two flushes. */
let flushedEnd: number;

beforeEach(async () => {
  sandbox = new Sandbox();
  volume = await sandbox.create(sandbox.path('volume'));
  disk = new VersionedDisk(DISK_UNITS);
  await sandbox.withServer(volume, async (client) => {
    await write(client, 0, DISK_UNITS / 2);
    await flush(client);
  });
  closed = disk.durable();
  // 2 MiB over a half of the old blocks and over new ones: every data file of the open group has some.
  const server = await sandbox.serve(volume);
  const client = await server.connect();
  await write(client, DISK_UNITS / 4, (DISK_UNITS * 3) / 4);
  await flush(client);
  flushedEnd = endOf((await openDataFiles())[0]!);
  // Only what comes after a flush can tell that it happened.
  await write(client, 0, WRITE_UNITS);
  await flush(client);
  await server.kill();
  expect(filesIn(volume, 'chunks', '.open').length).toBeGreaterThanOrEqual(4);
});

afterEach(() => sandbox.release());

async function write(client: NbdClient, fromUnit: number, toUnit: number): Promise<void> {
  for (let unit = fromUnit; unit < toUnit; unit += WRITE_UNITS) {
    const operation = disk.begin('data', unit, WRITE_UNITS);
    await client.write(unit * UNIT_BYTES, contentsOf(operation));
    disk.acknowledge(operation, false);
  }
}

async function flush(client: NbdClient): Promise<void> {
  const onFlushed = disk.beginFlush();
  await client.flush();
  onFlushed();
}

/** The data files of the open group, by place. */
async function openDataFiles(): Promise<string[]> {
  const { keys, keyFile: file } = await unlock(environment.files, volume, keyFile);
  const context = { ...environment, folder: volume, volumeId: file.volumeId, keys };
  const { groups } = await readCatalog(context, new Set());
  const open = [...groups.values()].filter((group) => group.manifest === null);
  expect(open).toHaveLength(1);
  const { data } = open[0]!.header.geometry;
  const files = open[0]!.files.filter(({ header }) => header.place < data);
  return files.sort((a, b) => a.header.place - b.header.place).map(({ path }) => path);
}

/** Ways to lose what was flushed to a file. */
const LOSSES: [what: string, inflict: (file: string) => void][] = [
  ['is missing', fs.rmSync],
  ['is empty', fs.truncateSync],
  [
    'is cut short',
    (file) => {
      fs.truncateSync(file, fs.statSync(file).size / 2);
    },
  ],
  [
    'is full of other bytes',
    (file) => {
      fs.writeFileSync(file, Buffer.alloc(fs.statSync(file).size, 'x'));
    },
  ],
  ['is damaged where parity cannot help', damageLastRow],
];

/** In the last row, whose parity is not on disk yet, and before the padding that a flush leaves. */
function damageLastRow(file: string): void {
  const bytes = fs.readFileSync(file);
  bytes[flushedEnd - MAX_PADDING_BYTES - 1]! ^= 1;
  fs.writeFileSync(file, bytes);
}

/** The offset of the last byte that was written. */
function endOf(file: string): number {
  return fs.readFileSync(file).findLastIndex((byte) => byte !== 0);
}

describe.each(LOSSES)('an open file that %s', (_, inflict) => {
  it('stops recovery with status 4, and nothing is changed', async () => {
    const file = (await openDataFiles())[0]!;
    const kept = fs.readFileSync(file);
    inflict(file);
    const before = fingerprint(volume);

    const refusals = [
      await sandbox.serveFailing(volume),
      await sandbox.run(sandbox.on(volume, 'sync', sandbox.path('copy'))),
      await sandbox.run(sandbox.on(volume, 'scrub')),
      await sandbox.run(sandbox.on(volume, 'repair')),
    ];
    for (const refusal of refusals) expectFailure(refusal, 4, /--accept-loss/, { remarks: true });
    expect(fingerprint(volume)).toEqual(before);
    expect(fs.existsSync(sandbox.path('copy'))).toBe(false);

    await sandbox.withServer(
      volume,
      async (client) => {
        await disk.check((offset, bytes) => client.read(offset, bytes), closed);
        await expect(client.write(0, Buffer.alloc(4096))).rejects.toThrow(/EPERM/);
      },
      '--read-only',
    );
    expect(fingerprint(volume)).toEqual(before);

    fs.writeFileSync(file, kept);
    await sandbox.withServer(volume, async (client) => {
      await disk.check((offset, bytes) => client.read(offset, bytes));
    });
  });
});

it('cuts flushed writes with --accept-loss, and goes on from there', async () => {
  fs.rmSync((await openDataFiles())[1]!);
  const server = await sandbox.serve(volume, '--accept-loss');
  const client = await server.connect();
  disk.settleOn(await disk.check((offset, bytes) => client.read(offset, bytes), closed));
  await write(client, 0, DISK_UNITS / 4);
  await flush(client);
  const { stderr, status } = await server.stop();
  expect(status).toBe(0);
  expect(stderr).toMatch(/^chunkvol: .*(missing|cannot be read)/m);

  await sandbox.succeed(sandbox.on(volume, 'scrub'));
  await sandbox.withServer(volume, async (again) => {
    await disk.check((offset, bytes) => again.read(offset, bytes));
  });
});

it('does not mind losing parity files of the open group', async () => {
  const data = await openDataFiles();
  const parity = filesIn(volume, 'chunks', '.open').filter(
    (name) => !data.some((file) => file.endsWith(name)),
  );
  for (const name of parity) fs.rmSync(`${volume}/chunks/${name}`);
  await sandbox.withServer(volume, async (client) => {
    await disk.check((offset, bytes) => client.read(offset, bytes));
  });
  await sandbox.succeed(sandbox.on(volume, 'scrub'));
});
