/**
 * Benchmark of recovery: the time to open a volume after a crash, against how much it holds.
 *
 * Data and room take turns on the whole disk. A child process opens the volume, empties the room
 * and writes its blocks in random order, until the log behind the last root is about as long as it can get (a
 * checkpoint ends it at 256 MiB); then it is killed while it writes. The next child takes the time that it
 * needs to open, and goes on in the same way. (Overwriting would do for a large disk; on a small one the
 * collector would soon come and make roots.) Everything is in the page cache.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { MIB } from '../src/base/bytes.js';
import { kernelRandomness } from '../src/base/randomness.js';
import { NODE_FANOUT } from '../src/format/map-node.js';
import { readRoots } from '../src/store/root-files.js';
import type { Volume } from '../src/volume/volume.js';
import { median, type PartResult } from './report.js';
import { makeScratchFolder, removeScratchFolder } from './server.js';
import { BLOCK_BYTES, makeVolume, open, staysAlive } from './volumes.js';

const SELF = fileURLToPath(import.meta.url);
const TAIL_MIB = { quick: 8, full: 224 };
const DATA_MIB: Record<'quick' | 'full', readonly number[]> = {
  quick: [16, 64],
  full: [64, 256, 1024, 4096],
};
const ROUNDS = { quick: 1, full: 5 };
const WRITE_BLOCKS_AT_ONCE = 64;
/** Blocks written between two looks at the length of the tail. */
const LOOK_EVERY_BLOCKS = 1024;
/** Room for each byte of the tail. */
const ROOM_FACTOR = 1.1;
const LEAF_BYTES = NODE_FANOUT * BLOCK_BYTES;

type Row = PartResult['rows'][number];

export async function run(options: { quick: boolean; folder: string }): Promise<PartResult> {
  const size = options.quick ? 'quick' : 'full';
  const rows: Row[] = [];
  for (const mib of DATA_MIB[size]) {
    rows.push(await openTime(options.folder, mib, TAIL_MIB[size], ROUNDS[size]));
  }
  return { title: 'Opening after a crash', rows };
}

async function openTime(
  parent: string,
  dataMib: number,
  tailMib: number,
  rounds: number,
): Promise<Row> {
  const folder = makeScratchFolder(join(parent, 'recovery-'));
  const path = join(folder, 'volume');
  await staysAlive(async () => {
    const layout = new Layout(dataMib, tailMib);
    await makeVolume(path, layout.sizeBytes);
    const volume = await open(path);
    for (const [offset, bytes] of layout.data()) {
      await volume.write(offset, kernelRandomness.bytes(bytes));
    }
    await volume.close();
  });
  const openMs: number[] = [];
  const tails: number[] = [];
  // The first opens a volume that was closed, and only crashes.
  for (let round = 0; round <= rounds; round++) {
    const child = new Child(path, dataMib, tailMib);
    const opened = await child.line();
    if (round > 0) openMs.push(opened);
    if (round < rounds) tails.push(await child.line());
    await child.kill();
  }
  removeScratchFolder(folder);
  const data = dataMib >= 1024 ? `${dataMib / 1024} GiB` : `${dataMib} MiB`;
  return {
    name: `${data} of data, ${Math.round(median(tails) / MIB)} MiB of log behind the root`,
    unit: 'ms',
    value: median(openMs),
    target: 'at most 2000 ms, for 100 GiB',
  };
}

/** Where data are, and where there is room: in each leaf of the map, in that order. */
class Layout {
  readonly sizeBytes: number;
  private readonly leaves: number;
  private readonly dataBytes: number;

  constructor(dataMib: number, tailMib: number) {
    const roomMib = Math.ceil(tailMib * ROOM_FACTOR);
    this.leaves = Math.ceil(((dataMib + roomMib) * MIB) / LEAF_BYTES);
    this.sizeBytes = this.leaves * LEAF_BYTES;
    const dataBlocks = Math.floor((NODE_FANOUT * dataMib) / (dataMib + roomMib));
    this.dataBytes = dataBlocks * BLOCK_BYTES;
  }

  *data(): Generator<[offset: number, bytes: number]> {
    for (let leaf = 0; leaf < this.leaves; leaf++) yield [leaf * LEAF_BYTES, this.dataBytes];
  }

  *room(): Generator<[offset: number, bytes: number]> {
    for (const [offset, bytes] of this.data()) yield [offset + bytes, LEAF_BYTES - bytes];
  }
}

/** This file in a process of its own; it says two numbers: milliseconds of opening, bytes of the tail. */
class Child {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor(path: string, dataMib: number, tailMib: number) {
    this.child = spawn(process.execPath, [SELF, path, `${dataMib}`, `${tailMib}`], {
      // As the program has it (src/cli/start.cts).
      env: { ...process.env, UV_THREADPOOL_SIZE: '16' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.lines = createInterface(this.child.stdout!)[Symbol.asyncIterator]();
  }

  async line(): Promise<number> {
    const next = await this.lines.next();
    if (next.done === true) throw new Error('the process that was to crash has ended by itself');
    return Number(next.value);
  }

  async kill(): Promise<void> {
    const exited = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exited;
  }
}

/** What the child does: it writes until it is killed. */
async function crash(path: string, layout: Layout, tailMib: number): Promise<never> {
  const start = performance.now();
  const volume = await open(path);
  console.log(performance.now() - start);
  for (const [offset, bytes] of layout.room()) await volume.trim(offset, bytes);
  await volume.collect();
  await volume.sealNow();
  const offsets = shuffledBlocks(layout);
  for (let from = 0; from < offsets.length; from += LOOK_EVERY_BLOCKS) {
    await overwrite(volume, offsets.slice(from, from + LOOK_EVERY_BLOCKS));
    const tail = await tailBytes(volume);
    if (tail < tailMib * MIB) continue;
    console.log(tail);
    // Goes on, to be killed while it writes, but not as far as a checkpoint.
    await overwrite(volume, offsets.slice(0, 2 * LOOK_EVERY_BLOCKS));
    return new Promise<never>(() => undefined);
  }
  throw new Error(`the log behind the root never was ${tailMib} MiB long`);
}

async function overwrite(volume: Volume, offsets: readonly number[]): Promise<void> {
  const payload = kernelRandomness.bytes(BLOCK_BYTES);
  for (let i = 0; i < offsets.length; i += WRITE_BLOCKS_AT_ONCE) {
    const some = offsets.slice(i, i + WRITE_BLOCKS_AT_ONCE);
    await Promise.all(some.map((offset) => volume.write(offset, payload)));
  }
  await volume.flush();
}

/** Offsets of all blocks that there is room for. */
function shuffledBlocks(layout: Layout): number[] {
  const offsets: { offset: number; key: number }[] = [];
  for (const [from, bytes] of layout.room()) {
    for (let offset = from; offset < from + bytes; offset += BLOCK_BYTES) {
      offsets.push({ offset, key: Math.random() });
    }
  }
  return offsets.sort((a, b) => a.key - b.key).map(({ offset }) => offset);
}

/** What was logged since the newest root in the folder. */
async function tailBytes(volume: Volume): Promise<number> {
  const { loggedBytes } = await volume.status();
  const { roots } = await readRoots(volume.context);
  return loggedBytes - roots[0]!.root.loggedBytes;
}

if (process.argv[1] === SELF) {
  const [path, dataMib, tailMib] = process.argv.slice(2);
  const layout = new Layout(Number(dataMib), Number(tailMib));
  await staysAlive(() => crash(path!, layout, Number(tailMib)));
}
