/** The end of the log when something fails just there: what is told, what is tried again, and what is not. */
import * as fs from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { GIB, KIB } from '../../../src/base/bytes.js';
import { ChunkvolError } from '../../../src/base/errors.js';
import type { OpenFile } from '../../../src/base/files.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import { COMMIT_HEADER_BYTES } from '../../../src/volume/log.js';
import { unlock } from '../../../src/store/key-files.js';
import type { OpenOptions } from '../../../src/volume/open.js';
import type { Volume } from '../../../src/volume/volume.js';
import { makeOpenRoot, partsOf } from '../../support/inside.js';
import {
  environment,
  keyFile,
  makeVolume,
  open,
  patterned,
  temporaryFolder,
} from '../../support/volumes.js';

const BLOCK = 4 * KIB;
/** What a leaf of the map covers: a block in each changes as many leaves as there are blocks. */
const LEAF = 512 * BLOCK;

type Action = 'open' | 'create' | 'write' | 'sync';

/** A disk that fails where `failing` says so. */
class FailingDisk {
  failing: (action: Action, path: string) => boolean = () => false;
  readonly notices: string[] = [];

  async open(folder: string, options: Partial<OpenOptions> = {}): Promise<Volume> {
    const files = {
      ...nodeFiles,
      open: (...words: Parameters<typeof nodeFiles.open>) => this.file(...words),
    };
    const onNotice = (line: string): void => void this.notices.push(line);
    const volume = await open(folder, { onNotice, ...options }, { ...environment, files });
    onTestFinished(() => volume.close().catch(() => undefined));
    return volume;
  }

  private async file(...[path, mode]: Parameters<typeof nodeFiles.open>): Promise<OpenFile> {
    this.meet(mode === 'create' ? 'create' : 'open', path);
    const file = await nodeFiles.open(path, mode);
    const write = file.write.bind(file);
    const sync = file.sync.bind(file);
    file.write = async (...words) => {
      this.meet('write', path);
      return write(...words);
    };
    file.sync = async () => {
      this.meet('sync', path);
      return sync();
    };
    return file;
  }

  private meet(action: Action, path: string): void {
    if (this.failing(action, path)) throw new ChunkvolError('io', `cannot ${action} ${path}`);
  }
}

async function made(geometry = { data: 2, parity: 1 }): Promise<[FailingDisk, Volume, string]> {
  const folder = temporaryFolder();
  await makeVolume(folder, { ...geometry, sizeBytes: GIB });
  const disk = new FailingDisk();
  return [disk, await disk.open(folder), folder];
}

async function expectBlock(volume: Volume, at: number, seed: number): Promise<void> {
  const bytes = new Uint8Array(BLOCK);
  await volume.read(at, bytes);
  expect(Buffer.compare(bytes, patterned(BLOCK, seed)), `byte ${at}`).toBe(0);
}

describe('a checkpoint whose root cannot be written', () => {
  it('says so, and what recovery has to read stays as long as it is', async () => {
    const [disk, volume] = await made();
    await volume.write(0, patterned(BLOCK, 1));
    await volume.flush();
    const { end } = partsOf(volume);
    const before = end.tailBytes;
    disk.failing = (action, path) => action === 'create' && path.includes('/roots/');
    await makeOpenRoot(volume);
    expect(disk.notices.join()).toContain('no new root could be written');
    expect(end.tailBytes).toBeGreaterThanOrEqual(before);
    disk.failing = () => false;
    await makeOpenRoot(volume);
    expect(end.tailBytes).toBe(0);
  });
});

describe('a group that is too full for the root that is to end it', () => {
  /** The open group is to end without a root, and has no room for the nodes of one any more. */
  async function fill(volume: Volume): Promise<number> {
    const { end } = partsOf(volume);
    const { map } = end.parts;
    let blocks = 0;
    for (; blocks < 500; blocks++) {
      const { writer } = end;
      const left = writer ? writer.capacity - writer.address : Infinity;
      if (left < map.dirtyCount * BLOCK && left > 8 * BLOCK) return blocks;
      await volume.write(blocks * LEAF, patterned(BLOCK, blocks));
      await volume.flush();
    }
    throw new Error('the group never filled up');
  }

  it.each([false, true])(
    'is sealed without it, which stands in the next one (a disk that fails meanwhile: %s)',
    async (fails) => {
      const [disk, volume, folder] = await made({ data: 1, parity: 1 });
      const blocks = await fill(volume);
      const { ordinal } = partsOf(volume).end.writer!.group;
      await volume.write(blocks * LEAF, patterned(BLOCK, blocks));
      let left = fails ? 1 : 0;
      disk.failing = (action) => action === 'sync' && left-- > 0;
      const { root } = await volume.sealNow();
      expect(root.closed).toBe(true);
      expect(root.tail.ordinal).toBeGreaterThan(ordinal);
      expect(disk.notices.length).toBe(fails ? 1 : 0);
      await volume.close();
      const again = await disk.open(folder);
      for (let i = 0; i <= blocks; i++) await expectBlock(again, i * LEAF, i);
    },
  );
});

describe('making durable', () => {
  it('is nothing where no group is open', async () => {
    const [, volume] = await made();
    expect(await partsOf(volume).end.sync()).toBe(false);
  });

  it('does not count what was given up with its group meanwhile', async () => {
    const [disk, volume] = await made();
    await volume.write(0, patterned(BLOCK, 1));
    await volume.flush();
    await volume.write(BLOCK, patterned(BLOCK, 2));
    const { end, writePath } = partsOf(volume);
    const writer = end.writer!;
    const sync = writer.sync.bind(writer);
    let goOn!: () => void;
    const waits = new Promise<void>((resolve) => (goOn = resolve));
    const reached = new Promise<void>((resolve) => {
      writer.sync = () => {
        writer.sync = sync;
        resolve();
        return waits;
      };
    });
    const syncing = end.sync();
    await reached;
    disk.failing = (action, path) =>
      action === 'sync' && writer.group.paths.includes(path.replace('.new', '.open'));
    await writePath.settled(() => Promise.resolve());
    const durable = end.durable.sequence;
    goOn();
    expect(await syncing).toBe(false);
    expect(end.durable.sequence).toBe(durable);
    expect(end.writer).not.toBe(writer);
    await expectBlock(volume, BLOCK, 2);
  });

  it('tells of a disk that has no room, and goes on when it has', async () => {
    const [, volume] = await made();
    await volume.write(0, patterned(BLOCK, 1));
    const { end } = partsOf(volume);
    const sync = end.sync.bind(end);
    end.sync = () => Promise.reject(new ChunkvolError('no-space', 'the disk is full'));
    await expect(volume.flush()).rejects.toMatchObject({ code: 'no-space' });
    end.sync = sync;
    await volume.flush();
    await expectBlock(volume, 0, 1);
  });

  it('ends for good when what failed cannot be written anew, whatever the reason', async () => {
    const [disk, volume] = await made();
    await volume.write(0, patterned(BLOCK, 1));
    await volume.flush();
    await volume.write(BLOCK, patterned(BLOCK, 2));
    const { end } = partsOf(volume);
    end.parts.log.reset = () => {
      throw new Error('something else');
    };
    disk.failing = (action) => action === 'sync';
    const refused = { code: 'io', message: expect.stringContaining('something else') as string };
    await expect(volume.flush()).rejects.toMatchObject(refused);
    disk.failing = () => false;
    await expect(volume.flush()).rejects.toMatchObject(refused);
    await expect(volume.write(0, patterned(BLOCK, 3))).rejects.toMatchObject(refused);
  });
});

describe('a commit that is not what was announced', () => {
  it('is refused', async () => {
    const [, volume] = await made();
    await volume.write(0, patterned(BLOCK, 1));
    await volume.flush();
    const { end, writePath } = partsOf(volume);
    const { log } = end.parts;
    const writer = end.writer!;
    const node = { level: 0, index: 0, words: new Uint32Array(1024), dirty: true };
    const nodes = [{ ...node, ordinal: 0, position: 0, recent: false }];
    await writePath.exclusively(() => {
      const short = (): Uint8Array => new Uint8Array(99);
      expect(() => log.appendNodes(writer, [], () => undefined, 100, short)).toThrow(RangeError);
      const placed = (): void => void writer.allocate(2 * BLOCK, 1);
      expect(() => log.appendNodes(writer, nodes, placed)).toThrow(
        'ended where it was not expected',
      );
      return Promise.resolve();
    });
  });
});

describe('a folder whose key file is older than its root', () => {
  it('opens, and says what that means', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const disk = new FailingDisk();
    const unlocked = await unlock(nodeFiles, folder, keyFile);
    const newer = { ...unlocked, keyFile: { ...unlocked.keyFile, counter: 7 } };
    const volume = await disk.open(folder, { unlocked: newer });
    await volume.write(0, patterned(BLOCK, 1));
    await volume.close();
    expect(disk.notices).toEqual([]);
    await disk.open(folder);
    expect(disk.notices.join()).toContain('the key file is older than the volume');
  });
});

describe('a copy made by hand', () => {
  it('stays one until all that is left of what it came from is sealed', async () => {
    const [disk, volume, folder] = await made();
    await volume.write(0, patterned(BLOCK, 1));
    await volume.flush();
    const copy = temporaryFolder();
    fs.cpSync(folder, copy, { recursive: true });
    // Parity is made when a group is sealed in another's stead.
    disk.failing = (action, path) => action === 'create' && path.startsWith(`${copy}/chunks/`);
    const first = await disk.open(copy);
    await expectBlock(first, 0, 1);
    await first.close().catch(() => undefined);
    const isCopy = (): number =>
      disk.notices.filter((line) => line.includes('made by hand')).length;
    expect(isCopy()).toBe(1);
    disk.failing = () => false;
    await (await disk.open(copy)).close();
    expect(isCopy()).toBe(2);
    await (await disk.open(copy)).close();
    expect(isCopy()).toBe(2);
  });
});

describe('a group that is sealed in the stead of its writer', () => {
  it('stays without parity while its files are shorter than the log in them', async () => {
    const [disk, volume, folder] = await made();
    await volume.write(0, patterned(64 * BLOCK, 1));
    await volume.flush();
    const copy = temporaryFolder();
    fs.cpSync(folder, copy, { recursive: true });
    const [path] = volume.groups().at(-1)!.paths;
    // When its first parity file is created the group was recovered, and is about to be read.
    disk.failing = (action, created) => {
      if (action === 'create' && created.startsWith(`${copy}/chunks/`))
        fs.truncateSync(path!.replace(folder, copy), 4 * KIB);
      return false;
    };
    await (await disk.open(copy)).close().catch(() => undefined);
    expect(disk.notices.join('\n')).toContain('is shorter than its log');
  });
});

describe('records of a sealed group', () => {
  it('are rebuilt where they are damaged', async () => {
    const [, volume] = await made();
    await volume.write(0, patterned(BLOCK, 1));
    await volume.sealNow();
    const { slots, end } = partsOf(volume);
    const group = end.parts.groups.all().at(-1)!;
    const { record } = group.keys;
    const plainBytes = COMMIT_HEADER_BYTES - 24;
    const whole = await slots.readRecord(group, record, 512, plainBytes, 3, 0);
    const file = fs.openSync(group.paths[0]!, 'r+');
    fs.writeSync(file, Buffer.alloc(64, 0x5a), 0, 64, 520);
    fs.closeSync(file);
    const rebuilt = await slots.readRecord(group, record, 512, plainBytes, 3, 0);
    expect(rebuilt).not.toBeNull();
    expect(rebuilt).toEqual(whole);
  });
});
