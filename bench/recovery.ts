/**
 * Benchmark of recovery: the time to open a volume after a crash, against how much it holds.
 *
 * A child process opens the volume and overwrites random blocks until the log behind the last root is about as
 * long as it can get (a checkpoint ends it at 256 MiB); then it is killed while it writes. The next child
 * takes the time that it needs to open, and goes on in the same way. Everything is in the page cache.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { kernelRandomness } from '../src/base/randomness.js';
import { readRoots } from '../src/store/root-files.js';
import type { Volume } from '../src/volume/volume.js';
import { median, type PartResult } from './report.js';
import { makeScratchFolder, removeScratchFolder } from './server.js';
import { BLOCK_BYTES, fill, makeVolume, MIB, open, staysAlive } from './volumes.js';

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
/** So many times the tail may be written before it must have been that long. */
const MAX_TRIES = 8;

type Row = PartResult['rows'][number];

if (process.argv[1] === SELF)
  await staysAlive(() => crash(process.argv[2]!, Number(process.argv[3])));

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
    await makeVolume(path, dataMib * MIB);
    const volume = await open(path);
    await fill(volume, dataMib * MIB);
    await volume.close();
  });
  const openMs: number[] = [];
  const tails: number[] = [];
  // The first opens a volume that was closed, and only crashes.
  for (let round = 0; round <= rounds; round++) {
    const child = new Child(path, tailMib);
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

/** This file in a process of its own; it says two numbers: milliseconds of opening, bytes of the tail. */
class Child {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor(path: string, tailMib: number) {
    this.child = spawn(process.execPath, [SELF, path, `${tailMib}`], {
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
async function crash(path: string, tailMib: number): Promise<never> {
  const start = performance.now();
  const volume = await open(path);
  console.log(performance.now() - start);
  const limitBlocks = (MAX_TRIES * tailMib * MIB) / BLOCK_BYTES;
  for (let told = false, blocks = 0; ; blocks += LOOK_EVERY_BLOCKS) {
    await overwrite(volume, LOOK_EVERY_BLOCKS);
    if (told) continue;
    const tail = await tailBytes(volume);
    if (tail >= tailMib * MIB) {
      console.log(tail);
      told = true;
    } else if (blocks > limitBlocks) {
      throw new Error(`the log behind the root is ${tail} bytes, and never ${tailMib} MiB`);
    }
  }
}

async function overwrite(volume: Volume, count: number): Promise<void> {
  const blocks = volume.sizeBytes / BLOCK_BYTES;
  const payload = kernelRandomness.bytes(BLOCK_BYTES);
  for (let done = 0; done < count; done += WRITE_BLOCKS_AT_ONCE) {
    const writes = Array.from({ length: WRITE_BLOCKS_AT_ONCE }, () => {
      return volume.write(Math.floor(Math.random() * blocks) * BLOCK_BYTES, payload);
    });
    await Promise.all(writes);
  }
  await volume.flush();
}

/** What was logged since the newest root in the folder. */
async function tailBytes(volume: Volume): Promise<number> {
  const { loggedBytes } = await volume.status();
  const { roots } = await readRoots(volume.context);
  return loggedBytes - roots[0]!.root.loggedBytes;
}
