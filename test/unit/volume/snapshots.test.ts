/** Snapshots, rollback, resize and collection on a real folder: the plain cases. */
import * as fs from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import type { BlockDevice } from '../../../src/base/block-device.js';
import { cloneSnapshot } from '../../../src/volume/clone.js';
import { publishKeyFile, unlock } from '../../../src/store/key-files.js';
import {
  environment,
  keyFile,
  makeVolume,
  open,
  patterned,
  temporaryFolder,
} from '../../support/volumes.js';

// On a slow machine one in the background would have removed what the one by hand is to remove.
vi.mock('../../../src/volume/limits.js', async (original) => ({
  ...(await original<object>()),
  COLLECT_INTERVAL_MS: 3_600_000,
}));

async function readAll(device: BlockDevice, bytes: number): Promise<Uint8Array> {
  const into = new Uint8Array(bytes);
  await device.read(0, into);
  return into;
}

function folderBytes(folder: string): number {
  return fs
    .readdirSync(`${folder}/chunks`)
    .reduce((sum, name) => sum + fs.statSync(`${folder}/chunks/${name}`).size, 0);
}

const SIZE = 16 * MIB;

describe('snapshots', () => {
  it('stay what they were, before and after the volume is opened again', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE });
    let volume = await open(folder);
    const first = patterned(MIB, 1);
    await volume.write(0, first);
    await volume.createSnapshot('one');
    await volume.write(64 * KIB, patterned(512 * KIB, 2));
    await volume.zero(0, 32 * KIB);
    await volume.createSnapshot('two');
    const second = await readAll(volume, MIB);
    await volume.write(0, patterned(MIB, 3));
    for (let round = 0; round < 2; round++) {
      expect(volume.snapshots().map(({ name }) => name)).toEqual(['one', 'two']);
      const one = volume.openSnapshot('one');
      const two = volume.openSnapshot('two');
      expect(Buffer.compare(await readAll(one, MIB), first)).toBe(0);
      expect(Buffer.compare(await readAll(two, MIB), second)).toBe(0);
      expect(Buffer.compare(await readAll(volume, MIB), patterned(MIB, 3))).toBe(0);
      one.close();
      two.close();
      await volume.close();
      volume = await open(folder);
    }
    await volume.close();
  });

  it('are rolled back to, and back again', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE });
    let volume = await open(folder);
    await volume.write(0, patterned(MIB, 1));
    await volume.createSnapshot('one');
    await volume.write(0, patterned(MIB, 2));
    await volume.rollback('one', 'undo');
    expect(Buffer.compare(await readAll(volume, MIB), patterned(MIB, 1))).toBe(0);
    await volume.write(MIB, patterned(MIB, 4));
    await volume.close();
    volume = await open(folder);
    expect(Buffer.compare(await readAll(volume, MIB), patterned(MIB, 1))).toBe(0);
    await volume.rollback('undo', 'redo');
    expect(Buffer.compare(await readAll(volume, MIB), patterned(MIB, 2))).toBe(0);
    expect(volume.snapshots().map(({ name }) => name)).toEqual(['one', 'undo', 'redo']);
    await volume.close();
  });

  it('tell what has changed, and what they cost', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE });
    const volume = await open(folder);
    await volume.write(0, patterned(MIB, 1));
    await volume.createSnapshot('one');
    await volume.write(40 * KIB, patterned(8 * KIB, 2));
    await volume.write(5 * MIB, patterned(4 * KIB, 2));
    await volume.zero(80 * KIB, 4 * KIB);
    const ranges: unknown[] = [];
    await volume.changes('one', null, (range) => void ranges.push(range));
    expect(ranges).toEqual([
      { offset: 40 * KIB, bytes: 8 * KIB },
      { offset: 80 * KIB, bytes: 4 * KIB },
      { offset: 5 * MIB, bytes: 4 * KIB },
    ]);
    const [use] = await volume.measureSnapshots();
    // Three blocks, the leaf and the node above it.
    expect(use!.freedBytes).toBe(5 * (4096 + 24));
    expect(await volume.measureDeletion(['one'])).toBe(5 * (4096 + 24));
    await volume.close();
  });
});

describe('a clone', () => {
  it('is a volume of its own, and shares what never changes', async () => {
    const folder = temporaryFolder();
    const target = `${temporaryFolder()}/clone`;
    await makeVolume(folder, { sizeBytes: SIZE });
    const volume = await open(folder);
    await volume.write(0, patterned(5 * MIB, 1));
    await volume.createSnapshot('one');
    await volume.write(0, patterned(5 * MIB, 2));
    await cloneSnapshot(volume, 'one', target, { name: 'other' });
    const shared = fs.readdirSync(`${target}/chunks`);
    expect(shared.length).toBeGreaterThan(6);
    for (const name of shared) {
      expect(fs.statSync(`${target}/chunks/${name}`).ino).toBe(
        fs.statSync(`${folder}/chunks/${name}`).ino,
      );
    }
    let clone = await open(target);
    expect(clone.name).toBe('other');
    await clone.write(MIB, patterned(MIB, 3));
    await clone.createSnapshot('its own');
    await volume.collect();
    await clone.collect({ aggressive: true });
    await clone.close();
    clone = await open(target);
    const expected = patterned(5 * MIB, 1);
    expected.set(patterned(MIB, 3), MIB);
    expect(Buffer.compare(await readAll(clone, 5 * MIB), expected)).toBe(0);
    expect(Buffer.compare(await readAll(volume, 5 * MIB), patterned(5 * MIB, 2))).toBe(0);
    await expect(cloneSnapshot(volume, 'one', target)).rejects.toMatchObject({ code: 'exists' });
    await clone.close();
    await volume.close();
  });

  it('is right although a collection moves what it is made of meanwhile', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE });
    const volume = await open(folder);
    const target = `${temporaryFolder()}/clone`;
    await volume.write(0, patterned(3 * MIB, 1));
    await volume.createSnapshot('one');
    await volume.trim(MIB, MIB);
    // Between the root that the clone begins with and the look at what it needs.
    let calls = 0;
    const contentOf = volume.contentOf.bind(volume);
    volume.contentOf = async (...words) => {
      if (calls++ === 0) await volume.collect({ aggressive: true });
      return contentOf(...words);
    };
    await cloneSnapshot(volume, 'one', target);
    expect(calls).toBeGreaterThan(1);
    await volume.close();
    const clone = await open(target);
    await clone.write(8 * MIB, patterned(3 * MIB, 2));
    expect(Buffer.compare(await readAll(clone, 3 * MIB), patterned(3 * MIB, 1))).toBe(0);
    await clone.close();
  });
});

describe('a collection', () => {
  it('brings the folder back to what is alive', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE });
    let volume = await open(folder);
    await volume.write(0, patterned(2 * MIB, 1));
    await volume.createSnapshot('kept');
    await volume.collect();
    const before = folderBytes(folder);
    await volume.write(2 * MIB, patterned(12 * MIB, 2));
    await volume.write(2 * MIB, patterned(12 * MIB, 3));
    await volume.createSnapshot('gone');
    await volume.write(MIB, patterned(512 * KIB, 4));
    await volume.trim(2 * MIB, 12 * MIB);
    await volume.deleteSnapshots(['gone']);
    const report = await volume.collect();
    expect(report.removedGroups).toBeGreaterThan(5);
    const expected = patterned(2 * MIB, 1);
    expect(folderBytes(folder)).toBeLessThan(before * 1.1 + 1.5 * 600 * KIB);
    for (let round = 0; round < 2; round++) {
      const kept = volume.openSnapshot('kept');
      expect(Buffer.compare(await readAll(kept, 2 * MIB), expected)).toBe(0);
      kept.close();
      const present = await readAll(volume, 14 * MIB);
      expect(Buffer.compare(present.subarray(0, MIB), expected.subarray(0, MIB))).toBe(0);
      expect(Buffer.compare(present.subarray(MIB, 1.5 * MIB), patterned(512 * KIB, 4))).toBe(0);
      expect(present.subarray(2 * MIB).every((byte) => byte === 0)).toBe(true);
      await volume.close();
      volume = await open(folder);
    }
    await volume.close();
  });

  it('keeps one of what the disk shares with snapshots that are made meanwhile', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE });
    const volume = await open(folder);
    const contents = patterned(6 * MIB, 1);
    await volume.write(0, contents);
    for (let at = 0; at < contents.length; at += 64 * KIB) {
      contents.set(patterned(24 * KIB, at), at);
      await volume.write(at, contents.subarray(at, at + 24 * KIB));
    }
    const collecting = volume.collect({ aggressive: true }).then(() => 'over');
    const names: string[] = [];
    const pause = (): Promise<string> => new Promise((go) => setTimeout(go, 5, 'on'));
    while ((await Promise.race([collecting, pause()])) === 'on') {
      await volume.createSnapshot(`s${names.length}`);
      names.push(`s${names.length}`);
    }
    expect(names.length).toBeGreaterThan(3);
    const { liveBytes } = await volume.collect({ aggressive: true });
    expect(liveBytes).toBeLessThan(contents.length * 1.05 + names.length * 64 * KIB);
    for (const name of names) {
      const snapshot = volume.openSnapshot(name);
      expect(Buffer.compare(await readAll(snapshot, contents.length), contents)).toBe(0);
      snapshot.close();
    }
    await volume.close();
  });

  it('does not take for dead what it has moved for snapshots alone', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE, chunkBytes: 4 * MIB });
    const volume = await open(folder);
    const blocks = (6 * MIB) / 4096;
    const overwrite = async (first: number): Promise<void> => {
      for (let block = first; block < blocks; block += 2) {
        await volume.write(block * 4096, patterned(4096, block + 1));
      }
    };
    await volume.write(0, patterned(6 * MIB, 1));
    await overwrite(0);
    await volume.createSnapshot('a');
    await overwrite(1);
    const { garbageBytes } = await volume.collect({ aggressive: true });
    expect(garbageBytes).toBeLessThan(MIB);
    await volume.close();
  });
});

describe('a pinned root', () => {
  it('keeps what it names through collections, until it is released', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE });
    const volume = await open(folder);
    await volume.write(0, patterned(6 * MIB, 1));
    const { root, release } = await volume.sealAndPin();
    const paths = volume.groups().flatMap((group) => group.paths);
    expect(root.root.groups.length * 6).toBe(paths.length);
    await volume.write(0, patterned(6 * MIB, 2));
    await volume.collect();
    await volume.collect();
    expect(paths.filter((path) => !fs.existsSync(path))).toEqual([]);
    expect(fs.existsSync(`${folder}/roots/${root.name}`)).toBe(true);
    release();
    await volume.collect();
    expect(paths.filter((path) => fs.existsSync(path))).toEqual([]);
    await volume.close();
  });
});

describe('a root that is made to be copied', () => {
  it('knows the newest key file, though nothing else has changed', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE });
    const volume = await open(folder);
    const pinned = async (): Promise<[number, number]> => {
      const { root, release } = await volume.sealAndPin();
      release();
      return [root.root.generation, root.root.keyCounter];
    };
    const [generation] = await pinned();
    const { keys, keyFile: old } = await unlock(environment.files, folder, keyFile);
    await publishKeyFile(environment.files, folder, keys, { ...old, counter: 5 });
    expect(await pinned()).toEqual([generation + 1, 5]);
    expect(await pinned()).toEqual([generation + 1, 5]);
    await volume.close();
    // Whoever passes off the old one with it is found out.
    fs.rmSync(`${folder}/keys`, { recursive: true });
    fs.mkdirSync(`${folder}/keys`);
    await publishKeyFile(environment.files, folder, keys, old);
    const notices: string[] = [];
    const again = await open(folder, { onNotice: (line) => void notices.push(line) });
    expect(notices.join()).toContain('the key file is older than the volume');
    await again.close();
  });
});

describe('a change of size', () => {
  it('grows through every depth of the map, and shrinks back', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: MIB });
    let volume = await open(folder);
    await volume.write(0, patterned(MIB, 1));
    for (const size of [64 * MIB, 64 * 1024 * MIB, 2 ** 45]) {
      await volume.resize(size);
      await volume.write(size - MIB, patterned(MIB, 2));
      await expect(volume.resize(MIB)).rejects.toMatchObject({ code: 'usage' });
      await volume.close();
      volume = await open(folder);
      expect(volume.sizeBytes).toBe(size);
      const end = new Uint8Array(MIB);
      await volume.read(size - MIB, end);
      expect(Buffer.compare(end, patterned(MIB, 2))).toBe(0);
      await volume.trim(size - MIB, MIB);
    }
    await volume.resize(MIB);
    await volume.close();
    volume = await open(folder);
    expect(volume.sizeBytes).toBe(MIB);
    expect(Buffer.compare(await readAll(volume, MIB), patterned(MIB, 1))).toBe(0);
    await volume.close();
  });
});
