/** What is written past the page cache, or refused, reads back the same; mixed with ordinary writes too. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { KIB } from '../../../src/base/bytes.js';
import { DirectWriter } from '../../../src/base/direct-write.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import { webAssembly } from '../../../src/erasure/webassembly.js';
import { describeWith } from '../../support/tools.js';
import { patterned, temporaryFolder } from '../../support/volumes.js';

const SIZE = 256 * KIB;

/** Bytes on a page of their own, as those of row buffers are. */
function aligned(seed: number, bytes = SIZE): Uint8Array {
  const memory = new webAssembly.Memory({ initial: 8, maximum: 8, shared: true });
  const area = new Uint8Array(memory.buffer, 0, bytes);
  area.set(patterned(bytes, seed));
  return area;
}

function openFd(): number {
  const fd = fs.openSync(`${temporaryFolder()}/file`, 'wx+');
  onTestFinished(() => {
    fs.closeSync(fd);
  });
  return fd;
}

function descriptors(): number {
  return fs.readdirSync('/proc/self/fd').length;
}

describe('a direct write', () => {
  it('writes all or leaves all to an ordinary one', async () => {
    const fd = openFd();
    const writer = new DirectWriter(fd);
    const bytes = aligned(1);
    const done = await writer.write(bytes, 64 * KIB);
    await writer.close();
    expect([0, SIZE]).toContain(done);
    expect(fs.fstatSync(fd).size).toBe(done === 0 ? 0 : SIZE + 64 * KIB);
    const read = new Uint8Array(done);
    fs.readSync(fd, read, 0, done, 64 * KIB);
    expect(Buffer.compare(read, bytes.subarray(0, done))).toBe(0);
  });

  it.each([
    ['short ones', 32 * KIB, 0],
    ['ones of no whole pages', SIZE - 512, 0],
    ['ones to the middle of a page', SIZE, 512],
  ])('leaves %s to an ordinary one', async (_, bytes, position) => {
    const writer = new DirectWriter(openFd());
    expect(await writer.write(aligned(2, bytes), position)).toBe(0);
    await writer.close();
  });

  it('leaves all to an ordinary one where there is no second descriptor', async () => {
    const writer = new DirectWriter(1 << 20);
    expect(await writer.write(aligned(3), 0)).toBe(0);
    await writer.close();
  });

  it('is not tried again once the system has refused one', async () => {
    const fd = openFd();
    const writer = new DirectWriter(fd);
    const shifted = new Uint8Array(patterned(SIZE + 4, 4).buffer).subarray(1, SIZE + 1);
    // The address is none that a disk takes. Said to be one, it comes as far as the system.
    Object.defineProperty(shifted, 'byteOffset', { value: 0 });
    const done = await writer.write(shifted, 0);
    expect(fs.fstatSync(fd).size).toBe(done);
    if (done === 0) expect(await writer.write(aligned(4), 0)).toBe(0);
    await writer.close();
  });
});

describe('a file of the real file system', () => {
  it('holds what was written to it in both ways, over one another, and lets go of both', async () => {
    const before = descriptors();
    const file = await nodeFiles.open(`${temporaryFolder()}/file`, 'create');
    const expected = new Uint8Array(4 * SIZE);
    const put = async (bytes: Uint8Array, at: number, cache?: 'bypass'): Promise<void> => {
      await file.write(bytes, at, cache);
      expected.set(bytes, at);
    };
    const check = async (): Promise<void> => {
      const read = new Uint8Array(expected.length);
      await file.read(read, 0);
      expect(Buffer.compare(read, expected)).toBe(0);
    };
    await put(patterned(4 * SIZE, 5), 0);
    await put(aligned(6), SIZE, 'bypass');
    await check();
    await put(patterned(20 * KIB + 7, 7), SIZE + 100 * KIB);
    await put(aligned(8), 3 * SIZE, 'bypass');
    await put(patterned(12, 9), SIZE - 6, 'bypass');
    await check();
    await file.sync();
    await check();
    await file.close();
    expect(descriptors()).toBe(before);
  });
});

describeWith(['root'], 'a write past the page cache, to a full disk', () => {
  it('fails as ever', async () => {
    const folder = temporaryFolder();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder]);
    onTestFinished(() => void execFileSync('umount', [folder]));
    const file = await nodeFiles.open(`${folder}/file`, 'create');
    const write = file.write(aligned(10), 0, 'bypass');
    await expect(write).rejects.toMatchObject({ code: 'no-space' });
    await file.close();
  });
});
