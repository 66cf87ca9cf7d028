/** Reads that take no wait: used where they can be, and never believed more than others. */
import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import type { Files, OpenFile } from '../../../src/base/files.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import type { Environment } from '../../../src/store/context.js';
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

/** Writes a mebibyte, reads it back in pieces in a world with these files, and counts the reads at once. */
async function readBack(readNow: ReadNow | null): Promise<{ right: boolean; mended: number }> {
  const folder = temporaryFolder();
  await makeVolume(folder, { chunkBytes: 4 * MIB });
  const bytes = patterned(MIB, 5);
  const writer = await open(folder);
  await writer.write(0, bytes);
  await writer.close();
  const files = readNow ? filesReadingNow(readNow) : nodeFiles;
  const world: Environment = { ...environment, files };
  const volume = await open(folder, {}, world);
  let right = true;
  for (const [offset, length] of [
    [0, 4 * KIB],
    [0, MIB],
    [12_345, 100_000],
    [MIB - 4 * KIB, 4 * KIB],
  ] as const) {
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
