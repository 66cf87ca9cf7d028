/** Reads that take no wait: used where they can be, and never believed more than others. */
import * as fs from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import type { Files, OpenFile } from '../../../src/base/files.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import type { SlotBatch, SlotKey } from '../../../src/crypto/engine.js';
import type { Environment } from '../../../src/store/context.js';
import { batchForJob, type Workers } from '../../../src/store/work.js';
import { MAX_READ_NOW_BYTES } from '../../../src/volume/limits.js';
import type { Volume } from '../../../src/volume/volume.js';
import {
  environment,
  makeVolume,
  open,
  patterned,
  temporaryFolder,
} from '../../support/volumes.js';

type ReadNow = NonNullable<OpenFile['readNow']>;

/** The real files, whose `readNow` is `readNow`, given what the real bytes would be. */
function filesReadingNow(
  readNow: (...args: [...Parameters<ReadNow>, fd: number]) => boolean,
): Files {
  return {
    ...nodeFiles,
    async open(path, mode) {
      const file = await nodeFiles.open(path, mode);
      const fd = fs.openSync(path, 'r');
      return {
        path,
        read: (...args) => file.read(...args),
        readNow: (into, position) => readNow(into, position, fd),
        write: (...args) => file.write(...args),
        sync: () => file.sync(),
        truncate: (bytes) => file.truncate(bytes),
        size: () => file.size(),
        close: () => {
          fs.closeSync(fd);
          return file.close();
        },
      };
    },
  };
}

const readReally: ReadNow = (into, position, ...[fd]: number[]) =>
  fs.readSync(fd!, into, 0, into.length, position) === into.length;

/** Writes a mebibyte, reads it back in pieces in a world with these files, and counts what had to be mended. */
async function readBack(
  readNow: ReadNow | null,
  workers?: Workers,
): Promise<{ right: boolean; mended: number }> {
  const folder = temporaryFolder();
  await makeVolume(folder, { chunkBytes: 4 * MIB });
  const bytes = patterned(MIB, 5);
  const writer = await open(folder);
  await writer.write(0, bytes);
  await writer.close();
  const files = readNow ? filesReadingNow(readNow) : nodeFiles;
  const world: Environment = { ...environment, files, ...(workers && { workers }) };
  const volume = await open(folder, {}, world);
  let right = true;
  const pieces = [
    [0, 4 * KIB],
    [0, MIB],
    [12_345, 100_000],
    [MIB - 4 * KIB, 4 * KIB],
  ] as const;
  // Only what is open already can be read at once.
  for (const [offset, length] of [...pieces, ...pieces]) {
    const into = new Uint8Array(length);
    await volume.read(offset, into);
    right &&= Buffer.compare(into, bytes.subarray(offset, offset + length)) === 0;
  }
  const mended = volume.slots.counters.reconstructedSlots;
  await volume.close();
  return { right, mended };
}

describe('a read at once', () => {
  it('gives the same bytes as one that waits', async () => {
    expect(await readBack(null)).toEqual({ right: true, mended: 0 });
  });

  it('is tried, and followed by one that waits where it does not come about', async () => {
    let tried = 0;
    const result = await readBack(() => {
      tried++;
      return false;
    });
    expect(result).toEqual({ right: true, mended: 0 });
    expect(tried).toBeGreaterThan(0);
  });

  it('is not believed when its bytes do not verify, and the others are asked', async () => {
    const result = await readBack((into) => {
      into.fill(0xa5);
      return true;
    });
    expect(result).toEqual({ right: true, mended: 0 });
  });
});

describe('a read of a disk at once', () => {
  /** A volume with a mebibyte on it, and a snapshot of that, read once. */
  async function openRead(readNow: ReadNow): Promise<{ volume: Volume; bytes: Uint8Array }> {
    const folder = temporaryFolder();
    await makeVolume(folder, { chunkBytes: 4 * MIB });
    const bytes = patterned(MIB, 5);
    const writer = await open(folder);
    await writer.write(0, bytes);
    await writer.createSnapshot('before');
    await writer.close();
    const files = filesReadingNow(readNow);
    const volume = await open(folder, {}, { ...environment, files });
    onTestFinished(() => volume.close());
    await volume.read(0, new Uint8Array(MIB));
    return { volume, bytes };
  }

  it('gives what one that waits gives, staged, stored and never written', async () => {
    const { volume, bytes } = await openRead(readReally);
    const into = new Uint8Array(8 * KIB).fill(0xee);
    expect(volume.readNow(64 * KIB, into)).toBe(true);
    expect(Buffer.compare(into, bytes.subarray(64 * KIB, 72 * KIB))).toBe(0);
    const staged = patterned(4 * KIB, 6);
    await volume.write(68 * KIB, staged);
    expect(volume.readNow(64 * KIB, into)).toBe(true);
    expect(Buffer.compare(into.subarray(4 * KIB), staged)).toBe(0);
    expect(volume.readNow(MIB, into)).toBe(true);
    expect(into.every((byte) => byte === 0)).toBe(true);
  });

  it('is one of a snapshot as well', async () => {
    const { volume, bytes } = await openRead(readReally);
    const snapshot = volume.openSnapshot('before');
    await volume.write(0, patterned(4 * KIB, 6));
    await snapshot.read(0, new Uint8Array(4 * KIB));
    const into = new Uint8Array(4 * KIB);
    expect(snapshot.readNow(0, into)).toBe(true);
    expect(Buffer.compare(into, bytes.subarray(0, 4 * KIB))).toBe(0);
    snapshot.close();
  });

  it('is none of parts of blocks, of much, or of what is not in memory', async () => {
    let isInMemory = true;
    const { volume } = await openRead((...words) => isInMemory && readReally(...words));
    expect(volume.readNow(0, new Uint8Array(MAX_READ_NOW_BYTES))).toBe(true);
    expect(volume.readNow(0, new Uint8Array(MAX_READ_NOW_BYTES + 4 * KIB))).toBe(false);
    expect(volume.readNow(512, new Uint8Array(4 * KIB))).toBe(false);
    expect(volume.readNow(0, new Uint8Array(512))).toBe(false);
    isInMemory = false;
    expect(volume.readNow(0, new Uint8Array(4 * KIB))).toBe(false);
  });

  it('is none where its bytes do not verify', async () => {
    const { volume } = await openRead((into) => {
      into.fill(0xa5);
      return true;
    });
    expect(volume.readNow(0, new Uint8Array(4 * KIB))).toBe(false);
  });
});

/** Threads that decrypt with `open`, which is told how many jobs there were before, and all jobs in the end. */
function opening(
  open: (before: number, ...job: Parameters<Workers['open']>) => ReturnType<Workers['open']>,
): {
  workers: Workers;
  jobs: () => number;
} {
  let jobs = 0;
  const workers: Workers = {
    worthBytes: { seal: Infinity, open: 0 },
    open: (...job) => open(jobs++, ...job),
    rows: () => ({ seal: () => null, finish: () => null, close: () => undefined }),
  };
  return { workers, jobs: () => jobs };
}

async function openLater(_before: number, key: SlotKey, batch: SlotBatch): Promise<Uint8Array> {
  const job = batchForJob(batch);
  await new Promise((resolve) => setImmediate(resolve));
  const failed = new Uint8Array(job.count);
  environment.engine.openSlots(key, job, failed);
  return failed;
}

describe('a read that other threads decrypt', () => {
  it('gives the same bytes', async () => {
    const { workers, jobs } = opening(openLater);
    expect(await readBack(readReally, workers)).toEqual({ right: true, mended: 0 });
    expect(jobs()).toBeGreaterThan(4);
  });

  it('is not believed where its bytes do not verify', async () => {
    const spoilt: ReadNow = (into) => {
      into.fill(0xa5);
      return true;
    };
    const { workers, jobs } = opening(openLater);
    expect(await readBack(spoilt, workers)).toEqual({ right: true, mended: 0 });
    expect(jobs()).toBeGreaterThan(4);
  });

  it('is made anew where it is refused, or its thread ends', async () => {
    const { workers, jobs } = opening((before, ...job) => {
      if (before % 3 === 0) return null;
      return before % 3 === 1
        ? openLater(before, ...job)
        : Promise.reject(new Error('it has ended'));
    });
    expect(await readBack(readReally, workers)).toEqual({ right: true, mended: 0 });
    expect(jobs()).toBeGreaterThan(4);
  });
});

describe('a real file', () => {
  it('is read at once in whole or not at all', async () => {
    const path = `${temporaryFolder()}/file`;
    const file = await nodeFiles.open(path, 'create');
    const bytes = patterned(64 * KIB, 1);
    await file.write(bytes, 0);
    const into = new Uint8Array(bytes.length);
    // Whether it can be known is the system's affair; what is said must be true.
    if (file.readNow!(into, 0)) expect(Buffer.compare(into, bytes)).toBe(0);
    expect(file.readNow!(into, 4 * KIB)).toBe(false);
    expect(file.readNow!(into, 1 * MIB)).toBe(false);
    await file.close();
  });
});
