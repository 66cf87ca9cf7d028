/** What a collection reads of the groups that it empties: how, and what stands in its way. */
import { beforeEach, expect, it, vi } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import { ChunkvolError } from '../../../src/base/errors.js';
import type { Files, OpenFile } from '../../../src/base/files.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import { SLOT_OVERHEAD_BYTES } from '../../../src/crypto/engine.js';
import type { Environment } from '../../../src/store/context.js';
import type { Volume } from '../../../src/volume/volume.js';
import { delay } from '../../support/sandbox.js';
import {
  environment,
  makeVolume,
  open,
  patterned,
  temporaryFolder,
} from '../../support/volumes.js';

vi.mock('../../../src/volume/limits.js', async (original) => ({
  ...(await original<object>()),
  COLLECT_INTERVAL_MS: 3_600_000,
}));

const BLOCK = 4 * KIB;
const SLOT = BLOCK + SLOT_OVERHEAD_BYTES;
const DISK = 4 * MIB;

/** A read of more than one slot: of blocks, as nodes of the map are read one by one. */
interface Spy {
  reads: number;
  underWay: number;
  onRead: () => Promise<void>;
}

let spy: Spy;
let world: Environment;

beforeEach(() => {
  spy = { reads: 0, underWay: 0, onRead: () => Promise.resolve() };
  world = { ...environment, files: spiedOn(spy) };
});

function spiedOn(seen: Spy): Files {
  const open: Files['open'] = async (path, mode) => {
    const file = await nodeFiles.open(path, mode);
    if (!path.includes('/chunks/')) return file;
    const read: OpenFile['read'] = async (into, position) => {
      if (into.length <= SLOT) return file.read(into, position);
      seen.reads++;
      seen.underWay++;
      try {
        await seen.onRead();
        return await file.read(into, position);
      } finally {
        seen.underWay--;
      }
    };
    return Object.assign(Object.create(file) as OpenFile, { read });
  };
  return { ...nodeFiles, open };
}

/** Every second block was overwritten: what is alive of the first groups lies in between. */
async function overwritten(parity: number): Promise<[Volume, Uint8Array]> {
  const folder = temporaryFolder();
  await makeVolume(folder, { data: 2, parity, sizeBytes: DISK });
  const volume = await open(folder, {}, world);
  const expected = patterned(DISK, 1);
  await volume.write(0, expected);
  // What is staged only would never get to a group.
  await volume.flush();
  for (let at = 0; at < DISK; at += 2 * BLOCK) {
    expected.set(patterned(BLOCK, at), at);
    await volume.write(at, expected.subarray(at, at + BLOCK));
  }
  await volume.sealNow();
  spy.reads = 0;
  return [volume, expected];
}

async function expectAll(volume: Volume, expected: Uint8Array): Promise<void> {
  const found = new Uint8Array(DISK);
  await volume.read(0, found);
  expect(Buffer.compare(found, expected)).toBe(0);
}

it('reads what lies near each other at once', async () => {
  const [volume, expected] = await overwritten(1);
  const { movedBytes } = await volume.collect({ aggressive: true });
  expect(movedBytes).toBeGreaterThan(DISK / 4);
  expect(spy.reads).toBeGreaterThan(0);
  // A unit of 64 KiB holds 15 slots, of which every second one is wanted.
  expect(spy.reads).toBeLessThan(movedBytes / BLOCK / 4);
  await expectAll(volume, expected);
  await volume.close();
});

it('moves what is well beside what is not and dead', async () => {
  const [volume, expected] = await overwritten(0);
  spy.onRead = () => Promise.reject(damaged());
  const { movedBytes, removedGroups } = await volume.collect({ aggressive: true });
  expect(spy.reads).toBeGreaterThan(0);
  expect(movedBytes).toBeGreaterThan(DISK / 4);
  expect(removedGroups).toBeGreaterThan(0);
  spy.onRead = () => Promise.resolve();
  await expectAll(volume, expected);
  await volume.close();
});

it('rebuilds nothing for what is dead between', async () => {
  const [volume, expected] = await overwritten(1);
  spy.onRead = () => Promise.reject(damaged());
  const { movedBytes } = await volume.collect({ aggressive: true });
  expect(spy.reads).toBeGreaterThan(0);
  expect(movedBytes).toBeGreaterThan(DISK / 4);
  spy.onRead = () => Promise.resolve();
  expect(volume.slots.counters.reconstructedSlots).toBe(0);
  await expectAll(volume, expected);
  await volume.close();
});

it('does not end while it reads', async () => {
  const [volume, expected] = await overwritten(1);
  const controller = new AbortController();
  let slow = 0;
  // One chunk is being moved when the next one is read.
  const first = spy.reads;
  spy.onRead = async () => {
    if (spy.reads - first < 6) return;
    controller.abort();
    slow++;
    await delay(500);
  };
  const collected = volume.collect({ aggressive: true, signal: controller.signal });
  await expect(collected).rejects.toMatchObject({ code: 'interrupted' });
  expect(slow).toBeGreaterThan(0);
  expect(spy.underWay).toBe(0);
  spy.onRead = () => Promise.resolve();
  await expectAll(volume, expected);
  await volume.close();
});

function damaged(): ChunkvolError {
  const cause = Object.assign(new Error('EIO'), { code: 'EIO' });
  return new ChunkvolError('io', 'cannot read', { cause });
}
