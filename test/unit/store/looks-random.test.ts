import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import { notRandom } from '../../support/randomness-tests.js';
import { makeVolume, open, temporaryFolder } from '../../support/volumes.js';

const TEXT = Buffer.from('All work and no play makes Jack a dull boy. '.repeat(25_000));

/** A volume whose disk is one pattern, in one large group and many short ones. */
async function volumeOf(pattern: Uint8Array, seals: number): Promise<string> {
  const folder = temporaryFolder();
  await makeVolume(folder, { sizeBytes: 64 * MIB });
  const volume = await open(folder);
  for (let at = 0; at < 6 * MIB; at += pattern.length) await volume.write(at, pattern);
  for (let i = 0; i < seals; i++) {
    await volume.write(i * 8192, pattern.subarray(0, 4096));
    await volume.sealNow();
  }
  await volume.close();
  return folder;
}

function files(folder: string): Buffer[] {
  return fs.readdirSync(folder).map((name) => fs.readFileSync(`${folder}/${name}`));
}

describe.each([
  ['text', TEXT],
  ['zeros', Buffer.alloc(MIB)],
  // One bit set in each block: zero blocks alone would not be stored at all.
  ['almost zeros', Buffer.alloc(MIB, Buffer.concat([Buffer.alloc(4095), Buffer.of(1)]))],
])('without a key, the files of a disk full of %s', (_, pattern) => {
  it('pass for random bytes, each of them, and all of one kind together', async () => {
    const folder = await volumeOf(pattern, 20);
    const chunks = files(`${folder}/chunks`);
    const roots = files(`${folder}/roots`);
    expect(chunks.length).toBeGreaterThanOrEqual(6);
    expect(roots.length).toBeGreaterThanOrEqual(2);
    for (const bytes of [...chunks, ...roots]) expect(notRandom(bytes)).toBeNull();
    expect(notRandom(Buffer.concat(roots))).toBeNull();
    // What stands at the same place in every file: ids, headers, footers, trailers.
    expect(notRandom(Buffer.concat(chunks.map((bytes) => bytes.subarray(0, 16))))).toBeNull();
    expect(notRandom(Buffer.concat(chunks.map((bytes) => bytes.subarray(0, 512))))).toBeNull();
    expect(notRandom(Buffer.concat(chunks.map((bytes) => bytes.subarray(-48))))).toBeNull();
    expect(notRandom(Buffer.concat(chunks.map((bytes) => bytes.subarray(-700))))).toBeNull();
  });

  it('show no relation to one another', async () => {
    const folder = await volumeOf(pattern, 2);
    const chunks = files(`${folder}/chunks`);
    for (const a of chunks) {
      for (const b of chunks) {
        if (a === b) continue;
        const length = Math.min(a.length, b.length, 65_536);
        const difference = Buffer.from(a.subarray(0, length).map((byte, i) => byte ^ b[i]!));
        if (length >= 2048) expect(notRandom(difference)).toBeNull();
      }
    }
  });
});

it('the statistics tell text, zeros and structure from random bytes', () => {
  expect(notRandom(TEXT)).not.toBeNull();
  expect(notRandom(new Uint8Array(4096))).not.toBeNull();
  expect(notRandom(Uint8Array.from({ length: 8192 }, (_, i) => i))).not.toBeNull();
});
