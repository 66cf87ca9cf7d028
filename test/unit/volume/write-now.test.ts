/** Writes that take no wait: the same as others where they can be made, and nothing at all where not. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import { ChunkvolError } from '../../../src/base/errors.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import { COMMIT_AGE_MS, FREE_SPACE_AGE_MS, STAGING_BYTES } from '../../../src/volume/limits.js';
import { Pace } from '../../../src/volume/pace.js';
import type { Volume } from '../../../src/volume/volume.js';
import { SimulatedClock } from '../../simulation/dice.js';
import { partsOf } from '../../support/inside.js';
import {
  environment,
  makeVolume,
  open,
  patterned,
  temporaryFolder,
} from '../../support/volumes.js';

const BLOCK = 4 * KIB;

/** A volume that has looked how much space there is, on a clock that stands still. */
async function openReady(
  chunkBytes = 4 * MIB,
): Promise<{ volume: Volume; folder: string; clock: SimulatedClock }> {
  const folder = temporaryFolder();
  await makeVolume(folder, { chunkBytes });
  const clock = new SimulatedClock();
  const volume = await open(folder, {}, { ...environment, clock });
  onTestFinished(() => volume.close().catch(() => undefined));
  await volume.write(64 * MIB, patterned(BLOCK, 1));
  return { volume, folder, clock };
}

async function readAt(volume: Volume, offset: number, bytes: number): Promise<Buffer> {
  const into = Buffer.alloc(bytes, 0xee);
  await volume.read(offset, into);
  return into;
}

/** Whether a commit comes without a wait. */
async function isCommitted(volume: Volume, from: number): Promise<boolean> {
  const { end } = partsOf(volume);
  for (let turn = 0; turn < 200 && end.point.sequence === from; turn++) await nextTurn();
  return end.point.sequence > from;
}

describe('a write at once', () => {
  it('is the same as one that may wait', async () => {
    const { volume, folder } = await openReady();
    const bytes = patterned(10 * BLOCK, 2);
    bytes.fill(0, 3 * BLOCK, 4 * BLOCK);
    const before = (await volume.status()).writtenBytes;
    expect(volume.writeNow(0, bytes)).toBe(true);
    expect(volume.writeNow(2 * BLOCK, bytes.subarray(0, BLOCK))).toBe(true);
    bytes.copyWithin(2 * BLOCK, 0, BLOCK);
    expect((await volume.status()).writtenBytes - before).toBe(11 * BLOCK);
    expect(Buffer.compare(await readAt(volume, 0, bytes.length), bytes)).toBe(0);
    await volume.close();
    const again = await open(folder);
    expect(Buffer.compare(await readAt(again, 0, bytes.length), bytes)).toBe(0);
    expect(again.writeNow(0, bytes.subarray(0, BLOCK))).toBe(false);
    await again.close();
  });

  it('is committed in time like others, flushed or not', async () => {
    const { volume, clock } = await openReady();
    await volume.flush();
    const before = partsOf(volume).end.point.sequence;
    expect(volume.writeNow(0, patterned(BLOCK, 3))).toBe(true);
    expect(await isCommitted(volume, before)).toBe(false);
    clock.advance(COMMIT_AGE_MS);
    expect(await isCommitted(volume, before)).toBe(true);
  });

  it.each([
    ['1 MiB', 'of 16 MiB', 4 * MIB, MIB],
    ['4 MiB', 'of 1 GiB', 256 * MIB, 4 * MIB],
  ])('starts a commit of %s in groups %s', async (_most, _group, chunk, most) => {
    const { volume } = await openReady(chunk);
    await volume.flush();
    const before = partsOf(volume).end.point.sequence;
    expect(volume.writeNow(0, patterned(most - BLOCK, 3))).toBe(true);
    expect(await isCommitted(volume, before)).toBe(false);
    expect(volume.writeNow(most, patterned(BLOCK, 3))).toBe(true);
    expect(await isCommitted(volume, before)).toBe(true);
  });

  it.each<[string, number, number]>([
    ['that begins inside a block', 512, BLOCK],
    ['that ends inside a block', 0, BLOCK + 512],
    ['behind the end', 1024 * MIB, BLOCK],
    ['beyond the end', 1024 * MIB - BLOCK, 2 * BLOCK],
  ])('is none %s', async (_name, offset, length) => {
    const { volume } = await openReady();
    expect(volume.writeNow(offset, patterned(length, 4))).toBe(false);
    expect(partsOf(volume).end.parts.staging.stagedBytes).toBe(BLOCK);
  });

  it('is none to a block that another write is at', async () => {
    const { volume } = await openReady();
    const part = volume.write(BLOCK + 100, patterned(200, 5));
    const whole = patterned(BLOCK, 6);
    expect(volume.writeNow(BLOCK, whole)).toBe(false);
    expect(volume.writeNow(0, whole)).toBe(true);
    await part;
    expect(volume.writeNow(BLOCK, whole)).toBe(true);
    expect(Buffer.compare(await readAt(volume, BLOCK, BLOCK), whole)).toBe(0);
  });

  it('is none when it was not looked for a while how much space there is', async () => {
    const { volume, clock } = await openReady();
    expect(volume.writeNow(0, patterned(BLOCK, 7))).toBe(true);
    clock.advance(FREE_SPACE_AGE_MS + 1);
    expect(volume.writeNow(0, patterned(BLOCK, 7))).toBe(false);
    await volume.write(0, patterned(BLOCK, 7));
    expect(volume.writeNow(0, patterned(BLOCK, 7))).toBe(true);
  });

  it('is none where the disk below has no room for it', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { chunkBytes: 4 * MIB });
    const freeBytes = (): Promise<number> => Promise.resolve(64 * MIB);
    const files = { ...nodeFiles, freeBytes };
    const clock = new SimulatedClock();
    const volume = await open(folder, {}, { ...environment, files, clock });
    onTestFinished(() => volume.close());
    await volume.write(0, patterned(BLOCK, 8));
    expect(volume.writeNow(0, patterned(16 * MIB, 8))).toBe(true);
    expect(volume.writeNow(16 * MIB, patterned(24 * MIB, 8))).toBe(false);
  });

  it('is none when the staging buffer is full', async () => {
    const { volume } = await openReady();
    expect(volume.writeNow(0, patterned(STAGING_BYTES, 9))).toBe(false);
    expect(volume.writeNow(0, patterned(STAGING_BYTES - BLOCK, 9))).toBe(true);
    expect(volume.writeNow(512 * MIB, patterned(2 * BLOCK, 9))).toBe(false);
    await volume.flush();
    expect(volume.writeNow(512 * MIB, patterned(2 * BLOCK, 9))).toBe(true);
  });

  it('is none beyond the pace that the collector sets', async () => {
    const { volume, clock } = await openReady();
    const excess = { bytes: MIB, marginBytes: 2 * MIB, burstBytes: MIB + 2 * BLOCK };
    const pace = new Pace(
      clock,
      () => excess,
      () => undefined,
    );
    expect(pace.admitNow(MIB)).toBe(true);
    partsOf(volume).writePath.pace = pace;
    expect(volume.writeNow(0, patterned(2 * BLOCK, 10))).toBe(true);
    expect(volume.writeNow(0, patterned(BLOCK, 10))).toBe(false);
    excess.bytes = 0;
    expect(volume.writeNow(0, patterned(MIB, 10))).toBe(true);
  });

  it('is none to a volume that has failed, is closed, or is only read', async () => {
    const { volume, folder } = await openReady();
    const { end } = partsOf(volume) as unknown as { end: { failed: ChunkvolError | null } };
    end.failed = new ChunkvolError('io', 'planted');
    expect(volume.writeNow(0, patterned(BLOCK, 11))).toBe(false);
    end.failed = null;
    await volume.close();
    expect(volume.writeNow(0, patterned(BLOCK, 11))).toBe(false);
    const reader = await open(folder, { readOnly: true });
    expect(reader.writeNow(0, patterned(BLOCK, 11))).toBe(false);
    await reader.close();
  });
});
