/** Files that run ahead of the log while it is flushed after little each time. */
import * as fs from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import { makeGeometry } from '../../../src/base/geometry.js';
import { SampleVolume } from '../repair/sample-volume.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

const BLOCK = 4 * KIB;
const GEOMETRY = makeGeometry(4, 2, 16 * MIB, BLOCK);

function fileSizes(folder: string): number[] {
  return fs
    .readdirSync(`${folder}/chunks`)
    .sort()
    .map((name) => fs.statSync(`${folder}/chunks/${name}`).size);
}

describe('the files of a group that is flushed after little each time', () => {
  it('grow once for many flushes, show nothing, and end exactly where their seal ends them', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { chunkBytes: 4 * MIB });
    const volume = await open(folder);
    const pieces = Array.from({ length: 24 }, (_, i) => patterned(BLOCK, i + 1));
    const grown: boolean[] = [];
    for (const [i, piece] of pieces.entries()) {
      const before = fileSizes(folder);
      await volume.write(i * BLOCK, piece);
      await volume.flush();
      grown.push(before.join() !== fileSizes(folder).join());
    }
    // Birth and first commit, the switch to running ahead, and at most one entry into another file.
    expect(grown.filter(Boolean).length).toBeLessThanOrEqual(4);

    const longest = fs
      .readdirSync(`${folder}/chunks`)
      .map((name) => fs.readFileSync(`${folder}/chunks/${name}`))
      .sort((a, b) => b.length - a.length)[0]!;
    expect(longest.length).toBeGreaterThan(MIB);
    // Keystream, not zeros: no run of equal bytes that chance would not give.
    expect(longest.includes(Buffer.alloc(8, longest.at(-1)))).toBe(false);

    fs.cpSync(folder, `${folder}-crashed`, { recursive: true });
    await volume.close();
    expect(Math.max(...fileSizes(folder))).toBeLessThan(MIB / 4);
    for (const place of [folder, `${folder}-crashed`]) {
      const again = await open(place);
      const into = new Uint8Array(BLOCK);
      for (const [i, piece] of pieces.entries()) {
        await again.read(i * BLOCK, into);
        expect(Buffer.compare(into, piece)).toBe(0);
      }
      await again.close();
    }
    fs.rmSync(`${folder}-crashed`, { recursive: true, force: true });
  });
});

describe('the files of a group that is flushed after much each time', () => {
  it('do not run ahead, even if some flushes find nothing to do', async () => {
    const sample = new SampleVolume();
    onTestFinished(() => {
      sample.remove();
    });
    const writer = await sample.startGroup(GEOMETRY);
    for (let round = 0; round < 4; round++) {
      sample.writeBlocks(writer, 500);
      writer.endCommit();
      await writer.write();
      await writer.sync();
      await writer.sync();
    }
    const stored = sample.contents(writer.group).slice(0, GEOMETRY.data);
    const bytes = stored.reduce((sum, file) => sum + file!.length, 0);
    await writer.close();
    // The first address of a group stands behind its header.
    expect(bytes).toBe(writer.address);
  });
});
