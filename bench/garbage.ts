/**
 * Benchmark of what a volume costs that lives for years, on volumes made for it: the time of a snapshot
 * against what the disk holds, write amplification under steady overwriting against how full the disk
 * is, the throughput of a collection, and the walk that counts what is alive of 100 GiB.
 *
 * Write amplification is what went into the log for each byte written, map and moves included and parity
 * not, once twice as much has been written as the disk holds. A group is 1/32 of the disk.
 */
import { MIB } from '../src/base/bytes.js';
import { kernelRandomness } from '../src/base/randomness.js';
import { NODE_FANOUT } from '../src/format/map-node.js';
import { gather } from '../src/volume/gather.js';
import type { Volume } from '../src/volume/volume.js';
import { median, type PartResult } from './report.js';
import { makeScratchFolder, removeScratchFolder } from './server.js';
import { BLOCK_BYTES, DATA, fill, makeVolume, open, staysAlive } from './volumes.js';

const GROUPS_PER_DISK = 32;
const WRITE_BLOCKS_AT_ONCE = 16;

type Row = PartResult['rows'][number];

export async function run(options: { quick: boolean; folder: string }): Promise<PartResult> {
  const diskMib = options.quick ? 32 : 512;
  const rows: Row[] = [];
  for (const share of options.quick ? [1] : [0.125, 0.5, 1]) {
    rows.push(await snapshotTime(options.folder, diskMib, share));
  }
  for (const fill of options.quick ? [0.8] : [0.5, 0.8, 0.95]) {
    rows.push(await amplification(options.folder, diskMib, fill, 'uniform'));
  }
  rows.push(await amplification(options.folder, diskMib, 0.8, 'skewed'));
  rows.push(...(await collection(options.folder, diskMib)));
  rows.push(await walk(options.quick ? 1 : 100));
  return { title: 'Snapshots and garbage', rows };
}

async function withVolume<T>(
  folder: string,
  diskMib: number,
  work: (volume: Volume) => Promise<T>,
): Promise<T> {
  const path = makeScratchFolder(`${folder}/garbage-`);
  try {
    return await staysAlive(async () => {
      const sizeBytes = diskMib * MIB;
      const chunkBytes = Math.max(MIB, sizeBytes / GROUPS_PER_DISK / DATA);
      await makeVolume(`${path}/volume`, sizeBytes, chunkBytes);
      const volume = await open(`${path}/volume`);
      const result = await work(volume);
      await volume.close();
      return result;
    });
  } finally {
    removeScratchFolder(path);
  }
}

/** Overwrites blocks of the first `blocks` of the disk, a flush after each 1,000. */
async function overwrite(
  volume: Volume,
  blocks: number,
  writes: number,
  draw: () => number,
): Promise<void> {
  const data = kernelRandomness.bytes(BLOCK_BYTES * WRITE_BLOCKS_AT_ONCE);
  for (let done = 0; done < writes;) {
    const some = Array.from({ length: WRITE_BLOCKS_AT_ONCE }, (_, i) => {
      const block = Math.floor(draw() * blocks);
      return volume.write(
        block * BLOCK_BYTES,
        data.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES),
      );
    });
    await Promise.all(some);
    done += some.length;
    if (done % 1000 < WRITE_BLOCKS_AT_ONCE) await volume.flush();
  }
  await volume.flush();
}

async function snapshotTime(folder: string, diskMib: number, share: number): Promise<Row> {
  return withVolume(folder, diskMib, async (volume) => {
    await fill(volume, diskMib * MIB * share);
    const times: number[] = [];
    for (let i = 0; i < 7; i++) {
      await overwrite(volume, (diskMib * MIB * share) / BLOCK_BYTES, 256, Math.random);
      const start = performance.now();
      await volume.createSnapshot(`bench ${i}`);
      times.push(performance.now() - start);
    }
    const name = `snapshot of a disk that holds ${diskMib * share} MiB, 1 MiB just written`;
    return { name, unit: 'ms', value: median(times) };
  });
}

async function amplification(
  folder: string,
  diskMib: number,
  full: number,
  kind: 'uniform' | 'skewed',
): Promise<Row> {
  return withVolume(folder, diskMib, async (volume) => {
    const bytes = Math.floor(diskMib * full) * MIB;
    const blocks = bytes / BLOCK_BYTES;
    // Nine of ten writes go to a tenth of the blocks.
    const skewed = (): number =>
      Math.random() < 0.9 ? Math.random() * 0.1 : 0.1 + Math.random() * 0.9;
    const draw = kind === 'uniform' ? Math.random : skewed;
    await fill(volume, bytes);
    await overwrite(volume, blocks, blocks * 2, draw);
    const before = await volume.status();
    await overwrite(volume, blocks, blocks * 2, draw);
    const after = await volume.status();
    const value =
      (after.loggedBytes - before.loggedBytes) / (after.writtenBytes - before.writtenBytes);
    const name = `write amplification, ${kind} overwriting, ${full * 100} % full`;
    return { name, unit: 'x', value };
  });
}

async function collection(folder: string, diskMib: number): Promise<Row[]> {
  return withVolume(folder, diskMib, async (volume) => {
    const bytes = diskMib * MIB;
    await fill(volume, bytes);
    // Every second block dies: no group can be given up as it is.
    for (let at = 0; at < bytes; at += 2 * BLOCK_BYTES) await volume.trim(at, BLOCK_BYTES);
    await volume.flush();
    const start = performance.now();
    const { movedBytes, garbageBytes, liveBytes } = await volume.collect();
    const seconds = (performance.now() - start) / 1000;
    return [
      {
        name: 'collection by hand, half of all alive: moved',
        unit: 'MB/s',
        value: movedBytes / seconds / 1e6,
      },
      {
        name: 'garbage that it leaves, of live',
        unit: '%',
        value: (garbageBytes / liveBytes) * 100,
      },
    ];
  });
}

/** The walk over a map of so many GiB that is made up as it is read: without disk and decryption. */
async function walk(gib: number): Promise<Row> {
  const leaves = (gib * 2 ** 30) / BLOCK_BYTES / NODE_FANOUT;
  const words = new Uint32Array(NODE_FANOUT * 2);
  const read = async (
    _ordinal: number,
    _position: number,
    level: number,
    index: number,
  ): Promise<Uint32Array> => {
    await Promise.resolve();
    const children = leaves / NODE_FANOUT ** (level - 1);
    for (let slot = 0; slot < NODE_FANOUT; slot++) {
      const child = index * NODE_FANOUT + slot;
      words[slot * 2] = level > 0 && child >= children ? 0 : 1 + (child % 200);
      words[slot * 2 + 1] = child + 1;
    }
    return level === 0 ? words : words.slice();
  };
  const start = performance.now();
  const trees = [{ depth: 3, ordinal: 1, position: 8 }];
  await gather(trees, new Set(), BLOCK_BYTES + 24, read);
  const seconds = (performance.now() - start) / 1000;
  return {
    name: `exact count of what is alive, ${gib} GiB, map in memory`,
    unit: 's',
    value: seconds,
  };
}
