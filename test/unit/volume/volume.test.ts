import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import type { Volume } from '../../../src/volume/volume.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

/** toEqual takes seconds for a mebibyte. */
function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function isZeros(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

async function readAt(volume: Volume, offset: number, bytes: number): Promise<Uint8Array> {
  const into = new Uint8Array(bytes).fill(0xee);
  await volume.read(offset, into);
  return into;
}

describe('a volume', () => {
  it('reads zeros where nothing was written', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const volume = await open(folder);
    expect(isZeros(await readAt(volume, 12_345, 10_000))).toBe(true);
    await volume.close();
  });

  it('gives back what was written, at any alignment, before and after a flush and a reopen', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const volume = await open(folder);
    const bytes = patterned(100_000, 1);
    await volume.write(5_001, bytes);
    expect(isSame(await readAt(volume, 5_001, bytes.length), bytes)).toBe(true);
    await volume.flush();
    expect(isSame(await readAt(volume, 5_001, bytes.length), bytes)).toBe(true);
    await volume.close();
    const again = await open(folder);
    expect(isSame(await readAt(again, 5_001, bytes.length), bytes)).toBe(true);
    expect(isZeros(await readAt(again, 0, 5_001))).toBe(true);
    await again.close();
  });

  it('goes on through many groups, and seals them at exactly the chunk size', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const volume = await open(folder);
    const pieces = Array.from({ length: 12 }, (_, i) => patterned(MIB, i));
    for (const [i, piece] of pieces.entries()) await volume.write(i * 3 * MIB, piece);
    await volume.flush();
    for (const [i, piece] of pieces.entries()) {
      expect(isSame(await readAt(volume, i * 3 * MIB, MIB), piece)).toBe(true);
    }
    await volume.close();
    const sizes = fs.readdirSync(`${folder}/chunks`).map((name) => {
      expect(name).toMatch(/^[0-9a-f]{32}$/);
      return fs.statSync(`${folder}/chunks/${name}`).size;
    });
    expect(sizes.filter((size) => size === MIB).length).toBeGreaterThanOrEqual(12);
    const again = await open(folder);
    for (const [i, piece] of pieces.entries()) {
      expect(isSame(await readAt(again, i * 3 * MIB, MIB), piece)).toBe(true);
    }
    await again.close();
  });

  it('keeps flushed writes when its process dies without a word', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const volume = await open(folder);
    const pieces = Array.from({ length: 9 }, (_, i) => patterned(MIB / 2, i));
    for (const [i, piece] of pieces.entries()) {
      await volume.write(i * MIB, piece);
      if (i % 2 === 1) await volume.flush();
    }
    await volume.flush();
    fs.cpSync(folder, `${folder}-crashed`, { recursive: true });
    await volume.close();
    const crashed = await open(`${folder}-crashed`);
    for (const [i, piece] of pieces.entries()) {
      expect(isSame(await readAt(crashed, i * MIB, MIB / 2), piece)).toBe(true);
    }
    await crashed.write(20 * MIB, pieces[0]!);
    await crashed.close();
    const again = await open(`${folder}-crashed`);
    for (const [i, piece] of pieces.entries()) {
      expect(isSame(await readAt(again, i * MIB, MIB / 2), piece)).toBe(true);
    }
    expect(isSame(await readAt(again, 20 * MIB, MIB / 2), pieces[0]!)).toBe(true);
    await again.close();
    fs.rmSync(`${folder}-crashed`, { recursive: true });
  });

  it('reads right with any two files of every group missing', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const volume = await open(folder);
    const piece = patterned(6 * MIB, 3);
    await volume.write(0, piece);
    await volume.close();
    const whole = await open(folder);
    const names = whole.groups().map((group) => group.paths);
    await whole.close();
    for (const paths of names) for (const path of [paths[0]!, paths[3]!]) fs.unlinkSync(path);
    const degraded = await open(folder);
    expect(isSame(await readAt(degraded, 0, piece.length), piece)).toBe(true);
    expect(degraded.slots.counters.reconstructedSlots).toBeGreaterThan(0);
    await degraded.close();
  });

  it('forgets what is zeroed or trimmed', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const volume = await open(folder);
    await volume.write(0, patterned(2 * MIB, 4));
    await volume.zero(1000, MIB);
    await volume.trim(MIB + 8192, MIB / 2);
    await volume.flush();
    expect(isZeros(await readAt(volume, 1000, MIB))).toBe(true);
    expect(isZeros(await readAt(volume, MIB + 8192, MIB / 2))).toBe(true);
    await volume.close();
    const again = await open(folder);
    expect(isZeros(await readAt(again, 1000, MIB))).toBe(true);
    expect(await again.extents(0, 4 * MIB, 100)).toMatchObject([
      { hole: false },
      { hole: true },
      { hole: false },
      { hole: true },
      { hole: false },
      { hole: true },
    ]);
    await again.close();
  });

  it('stores no block that a write in part makes zero', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const volume = await open(folder);
    await volume.write(0, patterned(8192, 1));
    await volume.flush();
    await volume.write(2000, new Uint8Array(2096));
    await volume.write(0, new Uint8Array(2000));
    await volume.flush();
    expect(await volume.extents(0, 8192, 10)).toEqual([
      { bytes: 4096, hole: true },
      { bytes: 4096, hole: false },
    ]);
    await volume.close();
  });

  it('finds the end of a hole of any size at once, whatever waits behind it', async () => {
    const folder = temporaryFolder();
    const sizeBytes = 2 ** 50;
    await makeVolume(folder, { sizeBytes });
    const volume = await open(folder);
    await volume.write(sizeBytes - 4096, patterned(4096, 1));
    expect(await volume.extents(0, sizeBytes, 100)).toEqual([
      { bytes: sizeBytes - 4096, hole: true },
      { bytes: 4096, hole: false },
    ]);
    await volume.trim(0, sizeBytes - 8192);
    await volume.write(4096, patterned(4096, 2));
    expect(await volume.extents(0, sizeBytes, 100)).toMatchObject([
      { bytes: 4096, hole: true },
      { bytes: 4096, hole: false },
      { hole: true },
      { bytes: 4096, hole: false },
    ]);
    await volume.close();
  });
});
