/** Groups beside the log, for what collections have moved: what is in them, and what their loss means. */
import * as fs from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import type { Volume } from '../../../src/volume/volume.js';
import { ChunkvolError } from '../../../src/base/errors.js';
import type { Files } from '../../../src/base/files.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import type { Environment } from '../../../src/store/context.js';
import {
  environment,
  makeVolume,
  open,
  patterned,
  temporaryFolder,
} from '../../support/volumes.js';

const BLOCK = 4 * KIB;
const DISK = 4 * MIB;

/** Overwrites every `step`th block, with what differs from turn to turn. */
async function overwrite(
  volume: Volume,
  expected: Uint8Array,
  step: number,
  turn: number,
): Promise<void> {
  for (let at = 0; at < DISK; at += step * BLOCK) {
    const bytes = patterned(BLOCK, at + turn);
    await volume.write(at, bytes);
    expected.set(bytes, at);
  }
  await volume.flush();
}

async function contents(volume: Volume): Promise<Uint8Array> {
  const bytes = new Uint8Array(DISK);
  await volume.read(0, bytes);
  return bytes;
}

function survivorFiles(volume: Volume): string[] {
  return volume.groups().flatMap(({ survived, paths }) => (survived > 0 ? paths : []));
}

/** A volume half of which was written over, open. */
async function makeOverwritten(folder: string, world?: Environment): Promise<[Volume, Uint8Array]> {
  await makeVolume(folder, { data: 2, parity: 1, sizeBytes: DISK });
  const expected = new Uint8Array(DISK);
  const volume = await open(folder, {}, world);
  await overwrite(volume, expected, 1, 1);
  await overwrite(volume, expected, 2, 2);
  return [volume, expected];
}

interface Past {
  readonly folder: string;
  /** Of files, by their names. */
  readonly moved: readonly string[];
  readonly expected: Uint8Array;
}

/**
 * A folder as a collection leaves it that wrote no root: that of the time before is the newest, or that of the
 * volume's creation, and no group that it or the log needs has been deleted.
 */
async function withMovesBehindTheRoot(root: 'before' | 'first' = 'before'): Promise<Past> {
  const folder = temporaryFolder();
  await makeVolume(folder, { data: 2, parity: 1, sizeBytes: DISK });
  const expected = new Uint8Array(DISK);
  const kept = temporaryFolder();
  const keepRoots = (): void => {
    fs.rmSync(`${kept}/roots`, { recursive: true, force: true });
    fs.cpSync(`${folder}/roots`, `${kept}/roots`, { recursive: true });
  };
  keepRoots();
  const first = await open(folder);
  await overwrite(first, expected, 1, 1);
  await overwrite(first, expected, 2, 2);
  await first.close();
  if (root === 'before') keepRoots();
  const second = await open(folder);
  const keep = (): void => {
    const filter = (path: string): boolean => !path.endsWith('.open') && !path.endsWith('.new');
    fs.cpSync(`${folder}/chunks`, `${kept}/chunks`, { recursive: true, filter });
  };
  keep();
  await second.collect({ aggressive: true, onProgress: keep });
  const moved = survivorFiles(second).map((path) => path.slice(path.lastIndexOf('/') + 1));
  await second.close();
  fs.rmSync(`${folder}/roots`, { recursive: true });
  fs.cpSync(kept, folder, { recursive: true });
  return { folder, moved, expected };
}

function remove({ folder, moved }: Past, perGroup: number): void {
  for (const [index, name] of moved.entries()) {
    if (index % 3 < perGroup) fs.rmSync(`${folder}/chunks/${name}`);
  }
}

describe('what a collection moves', () => {
  it('stands in groups of its own, by how often it was moved and what it replaced', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { data: 2, parity: 1, sizeBytes: DISK });
    const volume = await open(folder);
    const expected = new Uint8Array(DISK);
    await overwrite(volume, expected, 1, 1);
    const kinds = [];
    for (let turn = 2; turn < 5; turn++) {
      await overwrite(volume, expected, turn, turn);
      await volume.collect({ aggressive: true });
      kinds.push(volume.groups().map(({ survived }) => survived));
      expect(Buffer.compare(await contents(volume), expected)).toBe(0);
    }
    expect(kinds[0]).toEqual(expect.arrayContaining([1, 3]));
    expect(kinds[1]).toEqual(expect.arrayContaining([1, 2, 3]));
    const states = volume.groups().map(({ state }) => state);
    expect(states).not.toContain('open');
    await volume.close();
    const again = await open(folder);
    expect(Buffer.compare(await contents(again), expected)).toBe(0);
    await again.close();
  });
});

describe('moves behind the root', () => {
  it('are followed, also where parity has to replace files', async () => {
    const past = await withMovesBehindTheRoot();
    expect(past.moved.length).toBeGreaterThan(0);
    remove(past, 1);
    const volume = await open(past.folder);
    onTestFinished(() => volume.close());
    expect(survivorFiles(volume).length).toBeGreaterThan(0);
    expect(Buffer.compare(await contents(volume), past.expected)).toBe(0);
  });

  it('are followed from the very beginning: no group of survivors is one of the log', async () => {
    const past = await withMovesBehindTheRoot('first');
    const volume = await open(past.folder);
    onTestFinished(() => volume.close());
    expect(survivorFiles(volume).length).toBeGreaterThan(0);
    expect(Buffer.compare(await contents(volume), past.expected)).toBe(0);
  });

  it.each([2, 3])('are flushed data that misses when %i of 3 files do', async (perGroup) => {
    const past = await withMovesBehindTheRoot();
    remove(past, perGroup);
    const opened = open(past.folder).then((volume) => volume.close());
    await expect(opened).rejects.toMatchObject({ code: 'flushed-data-missing' });
  });

  it('are given up by who accepts the loss: the blocks are where they were', async () => {
    const past = await withMovesBehindTheRoot();
    remove(past, 3);
    const notices: string[] = [];
    const onNotice = (line: string): void => void notices.push(line);
    const volume = await open(past.folder, { tolerance: 'loss', onNotice });
    onTestFinished(() => volume.close());
    expect(notices.join('\n')).toContain('misses blocks that were moved to it');
    expect(Buffer.compare(await contents(volume), past.expected)).toBe(0);
  });
});

describe('a copy made by hand while blocks are moved', () => {
  it.each(['whole', 'torn', 'not at all'])(
    'is read right when what they were moved to came along %s',
    async (how) => {
      const folder = temporaryFolder();
      const copy = temporaryFolder();
      const [volume, expected] = await makeOverwritten(folder);
      let files: string[] = [];
      await volume.collect({
        aggressive: true,
        onProgress: () => {
          const open = survivorFiles(volume).filter((path) => path.endsWith('.open'));
          if (files.length > 0 || open.length === 0) return;
          files = open.map((path) => path.replace(folder, copy));
          fs.cpSync(folder, copy, { recursive: true });
        },
      });
      await volume.close();
      // Of two groups: for what was written over, and for what was not.
      expect(files.length).toBe(6);
      if (how === 'torn') for (const path of files) scribble(path, fs.statSync(path).size / 2);
      if (how === 'not at all') fs.rmSync(files[0]!);
      const notices: string[] = [];
      const copied = await open(copy, { onNotice: (line) => void notices.push(line) });
      onTestFinished(() => copied.close());
      expect(Buffer.compare(await contents(copied), expected)).toBe(0);
      expect(notices.join().includes('misses blocks that were moved to it')).toBe(how !== 'whole');
    },
  );
});

/** What a copy holds of a file where it was read before it was written, at its full length. */
function scribble(path: string, from: number): void {
  const bytes = fs.readFileSync(path);
  fs.writeFileSync(path, bytes.fill(0x55, from));
}

describe('a disk that is full', () => {
  /** An open volume whose disk has no more room in the middle of a collection, until `makeRoom` is called. */
  async function interrupted(folder: string, refused: 'all' | 'parity' = 'all') {
    let volume: Volume | null = null;
    let left = 3;
    let isBroken = false;
    const refuse = (): Promise<never> => {
      if (isBroken) left = Infinity;
      return Promise.reject(
        isBroken
          ? new ChunkvolError('io', 'a write failed')
          : new ChunkvolError('no-space', 'the disk is full'),
      );
    };
    // A file is open under the name that it was born with.
    const bare = (path: string): string => path.replace(/\.\w+$/, '');
    const isMove = (path: string): boolean =>
      volume !== null && survivorFiles(volume).map(bare).includes(bare(path));
    const files: Files = {
      ...nodeFiles,
      open: async (path, mode) => {
        const file = await nodeFiles.open(path, mode);
        const write = file.write.bind(file);
        file.write = (bytes, at, cache) =>
          isMove(path) && (refused === 'all' || cache === 'bypass') && left-- <= 0
            ? refuse()
            : write(bytes, at, cache);
        return file;
      },
    };
    const [opened, expected] = await makeOverwritten(folder, { ...environment, files });
    volume = opened;
    const outcome = await volume.collect({ aggressive: true }).catch((error: unknown) => error);
    expect(outcome).toMatchObject({ code: 'no-space' });
    return {
      volume: opened,
      expected,
      makeRoom: () => void (left = Infinity),
      /** One more write fails, for another reason. */
      failOnce: () => void (isBroken = true),
    };
  }

  it.each(['all', 'parity'] as const)(
    'keeps what was moved waiting, and the group goes on when there is room: %s',
    async (refused) => {
      const { volume, expected, makeRoom } = await interrupted(temporaryFolder(), refused);
      onTestFinished(() => volume.close());
      expect(survivorFiles(volume).some((path) => path.endsWith('.open'))).toBe(true);
      expect(volume.groups().map(({ state }) => state)).not.toContain('cut');
      expect(Buffer.compare(await contents(volume), expected)).toBe(0);

      makeRoom();
      const { garbageBytes, liveBytes } = await volume.collect({ aggressive: true });
      expect(garbageBytes).toBeLessThan(liveBytes / 4);
      expect(volume.groups().map(({ state }) => state)).not.toContain('open');
      expect(Buffer.compare(await contents(volume), expected)).toBe(0);
    },
  );

  it('costs nothing when it fails for another reason then: the blocks are where they were', async () => {
    const folder = temporaryFolder();
    const { volume, expected, failOnce } = await interrupted(folder);
    failOnce();
    // Before a root is closed, what waits is written, or given up.
    const { root } = await volume.sealNow();
    expect(root.closed).toBe(true);
    expect(Buffer.compare(await contents(volume), expected)).toBe(0);
    await volume.close();
    const again = await open(folder);
    onTestFinished(() => again.close());
    expect(Buffer.compare(await contents(again), expected)).toBe(0);
  });

  it('leaves a volume that opens, whatever roots were made while it was full', async () => {
    const folder = temporaryFolder();
    const { volume, expected } = await interrupted(folder);
    // The log goes on, from group to group.
    for (const turn of [7, 8]) await overwrite(volume, expected, 1, turn);
    const closed = await volume.close().catch((error: unknown) => error);
    expect(closed).toMatchObject({ code: 'no-space' });
    const again = await open(folder);
    onTestFinished(() => again.close());
    expect(Buffer.compare(await contents(again), expected)).toBe(0);
  });
});
