/** A real volume, synced while it is open, and what comes back of it. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeGeometry } from '../../../src/base/geometry.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import { kernelRandomness } from '../../../src/base/randomness.js';
import { unlock } from '../../../src/store/key-files.js';
import { RemoteMemory } from '../../../src/sync/memory.js';
import { downloadVolume } from '../../../src/sync/restore.js';
import { runSync } from '../../../src/sync/run.js';
import { createVolume } from '../../../src/volume/create.js';
import { openVolume } from '../../../src/volume/open.js';
import type { Volume } from '../../../src/volume/volume.js';
import { MemoryRemote } from '../../support/memory-remote.js';
import { credential, environment } from '../../support/sealed-volume.js';
import { wholeRoots } from '../../support/whole-roots.js';

const SIZE_BYTES = 16 * 2 ** 20;

let base: string;
let folder: string;
let remote: MemoryRemote;
let volume: Volume;

beforeEach(async () => {
  base = fs.mkdtempSync(path.join(os.tmpdir(), 'volume-'));
  folder = path.join(base, 'volume');
  remote = new MemoryRemote();
  const geometry = makeGeometry(4, 2, 2 ** 20, 4096);
  const options = { name: 'disk', sizeBytes: SIZE_BYTES, geometry, blockBytes: 4096, credential };
  await createVolume(environment, folder, options);
  volume = await open(folder);
});

afterEach(async () => {
  await volume.close();
  fs.rmSync(base, { recursive: true });
});

async function open(at: string): Promise<Volume> {
  const unlocked = await unlock(nodeFiles, at, credential);
  return openVolume(environment, at, { unlocked });
}

function memory(): RemoteMemory {
  return new RemoteMemory(nodeFiles, path.join(base, 'state'));
}

async function contents(of: Volume): Promise<Buffer> {
  const bytes = Buffer.alloc(SIZE_BYTES);
  await of.read(0, bytes);
  return bytes;
}

describe('a volume in use', () => {
  it('is synced, and restored with two files of each group missing', async () => {
    await volume.write(0, kernelRandomness.bytes(6 * 2 ** 20));
    const first = await runSync(volume, remote, { memory: memory() });
    await volume.write(2 ** 20 + 512, kernelRandomness.bytes(8192));
    const second = await runSync(volume, remote, { memory: memory() });
    expect(second.copiedBytes).toBeLessThan(first.copiedBytes / 20);
    expect(await runSync(volume, remote, { memory: memory() })).toMatchObject({ copiedFiles: 0 });
    expect(wholeRoots(volume.context, remote).at(-1)).toBe(second.generation);
    const expected = await contents(volume);
    // Written after the sync: not part of what comes back.
    await volume.write(0, kernelRandomness.bytes(4096));
    const sealed = volume.groups().filter((group) => group.state === 'sealed');
    for (const { paths } of sealed) {
      for (const file of paths.slice(1, 3)) remote.files.delete(`chunks/${path.basename(file)}`);
    }

    const target = path.join(base, 'restored');
    const options = { credential, memory: memory() };
    const report = await downloadVolume(environment, remote, target, options);
    expect(report).toMatchObject({ generation: second.generation, name: 'disk' });
    expect(report.missing).toHaveLength(2 * sealed.length);
    const restored = await openVolume(environment, target, { unlocked: report.unlocked });
    try {
      expect((await contents(restored)).equals(expected)).toBe(true);
      await restored.write(0, kernelRandomness.bytes(4096));
      const third = await runSync(restored, remote, { memory: memory() });
      expect(third.missing).toEqual(report.missing);
      await expect(runSync(volume, remote, { memory: memory() })).rejects.toMatchObject({
        code: 'fork',
      });
    } finally {
      await restored.close();
    }
  });
});
