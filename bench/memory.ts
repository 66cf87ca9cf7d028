/**
 * Benchmark of memory: the most that the server's process has resident while random blocks of 4 KiB are read
 * and written, half and half, on disks of different size.
 *
 * What memory could depend on is the map. So one block is written to each of its leaves first, which makes the
 * map as large as that of a full disk, of a leaf for each 2 MiB: the disk of 1 TiB gets as many leaves as 100
 * GiB of data have, with only 200 MiB written, spread over all of it. That is twice what the cache of nodes
 * holds. What is read was written once, and is checked. What the derivation of the key takes at the start is
 * told apart.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GIB, MIB } from '../src/base/bytes.js';
import { kernelRandomness } from '../src/base/randomness.js';
import { NODE_FANOUT } from '../src/format/map-node.js';
import { NbdClient } from '../src/nbd/client.js';
import { CHUNKVOL_NAME, peers } from './peers.js';
import type { PartResult } from './report.js';
import { forgetPeak, makeScratchFolder, peakResidentBytes, removeScratchFolder } from './server.js';
import { BLOCK_BYTES } from './volumes.js';

const LEAF_BYTES = NODE_FANOUT * BLOCK_BYTES;
const IN_FLIGHT = 16;
const WRITES_PER_FLUSH = 1000;

interface Disk {
  readonly gib: number;
  /** Of data that have as many leaves. */
  readonly mappedGib: number;
  readonly target?: string;
}
const DISKS: Record<'quick' | 'full', readonly Disk[]> = {
  quick: [
    { gib: 1, mappedGib: 1 },
    { gib: 1024, mappedGib: 4 },
  ],
  full: [
    { gib: 1, mappedGib: 1 },
    { gib: 64, mappedGib: 64 },
    { gib: 1024, mappedGib: 100, target: 'at most 400 MiB' },
  ],
};
const LOAD_SECONDS = { quick: 1, full: 20 };

type Row = PartResult['rows'][number];

export async function run(options: { quick: boolean; folder: string }): Promise<PartResult> {
  const size = options.quick ? 'quick' : 'full';
  const rows: Row[] = [];
  let startBytes = 0;
  for (const disk of DISKS[size]) {
    const figures = await loadDisk(disk, LOAD_SECONDS[size], options.folder);
    startBytes = figures.startBytes;
    rows.push(...rowsOf(disk, figures));
  }
  rows.push({ name: 'start, with a passphrase: peak', unit: 'MiB', value: startBytes / MIB });
  return { title: 'Resident memory of the server under random load', rows };
}

interface Figures {
  readonly startBytes: number;
  readonly peakBytes: number;
  readonly operationsPerSecond: number;
}

async function loadDisk(disk: Disk, seconds: number, parent: string): Promise<Figures> {
  const folder = makeScratchFolder(join(parent, 'memory-'));
  const socketFolder = makeScratchFolder(join(tmpdir(), 'cvb-'));
  const own = peers.find(({ name }) => name === CHUNKVOL_NAME)!;
  const server = await own.start(folder, socketFolder, disk.gib * GIB);
  const startBytes = peakResidentBytes(server.pid);
  forgetPeak(server.pid);
  const client = await NbdClient.connect({ kind: 'unix', path: join(socketFolder, 'chunkvol') });
  const load = new Load(client, disk);
  await load.growMap();
  const operations = await load.run(seconds);
  const peakBytes = peakResidentBytes(server.pid);
  await client.disconnect();
  await server.stop();
  removeScratchFolder(folder);
  removeScratchFolder(socketFolder);
  return { startBytes, peakBytes, operationsPerSecond: operations / seconds };
}

function rowsOf(
  { gib, mappedGib, target }: Disk,
  { peakBytes, operationsPerSecond }: Figures,
): Row[] {
  const name = `disk of ${gib} GiB, map of ${mappedGib} GiB`;
  const peak = { name: `${name}: peak`, unit: 'MiB', value: peakBytes / MIB };
  return [
    target === undefined ? peak : { ...peak, target },
    { name: `${name}: reads and writes`, unit: 'k/s', value: operationsPerSecond / 1e3 },
  ];
}

/** Random requests to the leaves that were made; the n-th of them holds its number in one block. */
class Load {
  private readonly leaves: number;
  /** Leaves of the whole disk for each of those. */
  private readonly spacing: number;
  private readonly payload = kernelRandomness.bytes(BLOCK_BYTES);

  constructor(
    private readonly client: NbdClient,
    disk: Disk,
  ) {
    this.leaves = (disk.mappedGib * GIB) / LEAF_BYTES;
    this.spacing = disk.gib / disk.mappedGib;
  }

  async growMap(): Promise<void> {
    let next = 0;
    await atOnce(async () => {
      while (next < this.leaves) {
        const leaf = next++;
        const marked = Buffer.from(this.payload);
        marked.writeUInt32LE(leaf);
        await this.client.write(this.offset(leaf, markedBlock(leaf)), marked);
        if (leaf % WRITES_PER_FLUSH === 0) await this.client.flush();
      }
    });
    await this.client.flush();
  }

  /** The number of requests that were answered in so many seconds. */
  async run(seconds: number): Promise<number> {
    const end = performance.now() + seconds * 1000;
    let done = 0;
    await atOnce(async () => {
      while (performance.now() < end) {
        const leaf = Math.floor(Math.random() * this.leaves);
        if (done++ % 2 === 0) await this.write(leaf);
        else await this.read(leaf);
        if (done % (2 * WRITES_PER_FLUSH) === 0) await this.client.flush();
      }
    });
    return done;
  }

  private async read(leaf: number): Promise<void> {
    const bytes = await this.client.read(this.offset(leaf, markedBlock(leaf)), BLOCK_BYTES);
    if (bytes.readUInt32LE() !== leaf) throw new Error(`leaf ${leaf} has lost its block`);
  }

  /** Any block of the leaf but the marked one. */
  private async write(leaf: number): Promise<void> {
    const other = 1 + Math.floor(Math.random() * (NODE_FANOUT - 1));
    const block = (markedBlock(leaf) + other) % NODE_FANOUT;
    await this.client.write(this.offset(leaf, block), this.payload);
  }

  private offset(leaf: number, block: number): number {
    return Math.floor(leaf * this.spacing) * LEAF_BYTES + block * BLOCK_BYTES;
  }
}

function markedBlock(leaf: number): number {
  return (leaf * 37) % NODE_FANOUT;
}

async function atOnce(work: () => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
}
