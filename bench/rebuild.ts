/**
 * Benchmark of rebuild and verification: chunkvol beside par2 on the very same bytes. A group of a volume is
 * sealed; par2 gets copies of its four data files, and makes two files of recovery data of the same size. Then
 * both lose the same two data files, and have all of them verified, taking turns.
 *
 * par2 counts in blocks, and the time of its arithmetic goes with their number squared. As it comes it cuts the
 * data into 2000, so that small damage costs little recovery data; with some 64 it is at its fastest, as fewer
 * are slower to find in a file (8 blocks: a fifth of the rate). chunkvol finds damage within a unit in either
 * case. Times are those of whole processes, from their start to their end; rates of rebuilding count the
 * rebuilt bytes, of verifying the data bytes. What the library does in a process that is warm is shown
 * beside that.
 */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { MIB } from '../src/base/bytes.js';
import { repairVolume } from '../src/repair/repair.js';
import { median, type PartResult } from './report.js';
import { makeScratchFolder, removeScratchFolder } from './server.js';
import {
  DATA,
  fill,
  makeVolume,
  open,
  PROGRAM,
  secondsOf,
  staysAlive,
  writeKey,
} from './volumes.js';

/** Of the data files, first and third. */
const LOST = [0, 2] as const;

interface Contest {
  readonly mib: number;
  readonly blocks: number;
}
/** 2000 blocks are what par2 takes unless told; more bytes would take it an hour. */
const CONTESTS: Record<'quick' | 'full', readonly Contest[]> = {
  quick: [{ mib: 16, blocks: 64 }],
  full: [
    { mib: 32, blocks: 2000 },
    { mib: 512, blocks: 64 },
  ],
};

type Rows = PartResult['rows'][number][];

export async function run(options: { quick: boolean; folder: string }): Promise<PartResult> {
  const size = options.quick ? 'quick' : 'full';
  const rows: Rows = [];
  for (const contest of CONTESTS[size]) {
    rows.push(...(await hold(contest, options.quick ? 1 : 3, options.folder)));
  }
  rows.push(await library(options.quick ? 16 : 512, options.quick ? 1 : 5, options.folder));
  return { title: 'Rebuild of two lost files, and verification, beside par2', rows };
}

/** One volume and one set of par2 files, with the same data. */
interface Pair {
  readonly volume: string;
  readonly key: string;
  /** The chunk files of the volume's only group, data first. */
  readonly members: readonly string[];
  readonly par2Folder: string;
}

async function hold(contest: Contest, rounds: number, parent: string): Promise<Rows> {
  const folder = makeScratchFolder(join(parent, 'rebuild-'));
  const pair = await preparePair(folder, contest);
  const lostBytes = sum(LOST.map((place) => statSync(pair.members[place]!).size));
  const dataBytes = sum(pair.members.slice(0, DATA).map((path) => statSync(path).size));
  const times = { repair: twoLists(), verify: twoLists() };
  for (let round = 0; round < rounds; round++) {
    times.repair.own.push(await rebuildOwn(pair));
    times.repair.par2.push(await rebuildPar2(pair));
    times.verify.own.push(await chunkvol(pair, 'scrub'));
    times.verify.par2.push(await par2(pair, 'verify'));
  }
  removeScratchFolder(folder);
  const peer = `par2 with ${contest.blocks} blocks`;
  return [
    ...compare(`rebuild 2 of 6, ${contest.mib} MiB of data`, peer, times.repair, lostBytes),
    ...compare(`verify, ${contest.mib} MiB of data`, peer, times.verify, dataBytes),
  ];
}

async function preparePair(folder: string, { mib, blocks }: Contest): Promise<Pair> {
  const pair = {
    volume: join(folder, 'volume'),
    key: join(folder, 'key'),
    par2Folder: join(folder, 'par2'),
    members: await sealedMembers(join(folder, 'volume'), mib),
  };
  writeKey(pair.key);
  mkdirSync(pair.par2Folder);
  for (let place = 0; place < DATA; place++) {
    copyFileSync(pair.members[place]!, join(pair.par2Folder, dataName(place)));
  }
  // Whole blocks to each file, and as many recovery blocks as two files have.
  const blockBytes = 4 * Math.ceil(statSync(pair.members[0]!).size / (blocks / DATA) / 4);
  const shape = [`-s${blockBytes}`, `-c${(blocks / DATA) * LOST.length}`, '-n2', '-u'];
  const names = Array.from({ length: DATA }, (_, place) => dataName(place));
  await secondsOf('par2', ['create', '-q', ...shape, 'set.par2', ...names], pair.par2Folder);
  return pair;
}

/** Fills a new volume and seals it: the chunk files of its one group. */
function sealedMembers(path: string, mib: number): Promise<readonly string[]> {
  return staysAlive(async () => {
    await makeVolume(path, mib * MIB);
    const volume = await open(path);
    await fill(volume, mib * MIB);
    await volume.sealNow();
    const [group, ...others] = volume.groups().filter(({ state }) => state === 'sealed');
    await volume.close();
    if (!group || others.length > 0) throw new Error('the volume should be one group');
    return group.paths;
  });
}

function rebuildOwn(pair: Pair): Promise<number> {
  const lost = LOST.map((place) => pair.members[place]!);
  return losing(lost, () => chunkvol(pair, 'repair'));
}

async function rebuildPar2(pair: Pair): Promise<number> {
  const lost = LOST.map((place) => join(pair.par2Folder, dataName(place)));
  const seconds = await losing(lost, () => par2(pair, 'repair'));
  // It keeps what was there before under another name.
  for (const name of readdirSync(pair.par2Folder)) {
    if (/^data\d\.\d+$/.test(name)) rmSync(join(pair.par2Folder, name));
  }
  return seconds;
}

/** Deletes the files, and requires them to be back, byte for byte, after `work`. */
async function losing<T>(paths: readonly string[], work: () => Promise<T>): Promise<T> {
  const before = paths.map(digest);
  for (const path of paths) rmSync(path);
  const result = await work();
  paths.forEach((path, i) => {
    if (digest(path) !== before[i]) throw new Error(`${basename(path)} is not what it was`);
  });
  return result;
}

function chunkvol({ volume, key }: Pair, verb: 'repair' | 'scrub'): Promise<number> {
  const words = ['-q', '-C', volume, verb, '--key-file', key];
  return secondsOf(process.execPath, [PROGRAM, ...words]);
}

function par2({ par2Folder }: Pair, verb: 'repair' | 'verify'): Promise<number> {
  return secondsOf('par2', [verb, '-q', 'set.par2'], par2Folder);
}

/** What the library rebuilds a second, once all is known to be missing; the first round does not count. */
function library(mib: number, rounds: number, parent: string): Promise<Rows[number]> {
  return staysAlive(async () => {
    const folder = makeScratchFolder(join(parent, 'rebuild-'));
    const path = join(folder, 'volume');
    const members = await sealedMembers(path, mib);
    const lost = LOST.map((place) => members[place]!);
    const lostBytes = sum(lost.map((each) => statSync(each).size));
    const volume = await open(path);
    const times: number[] = [];
    for (let round = 0; round <= rounds; round++) {
      let checkedMs = 0;
      const onProgress = ({ phase }: { phase: string }): void => {
        if (phase === 'check') checkedMs = performance.now();
      };
      const seconds = await losing(lost, async () => {
        const { context, slots } = volume;
        await repairVolume(context, volume.groups(), { slots, onProgress });
        return (performance.now() - checkedMs) / 1000;
      });
      if (round > 0) times.push(seconds);
    }
    await volume.close();
    removeScratchFolder(folder);
    return {
      name: `rebuild 2 of 6, ${mib} MiB of data: the library alone, after its check`,
      unit: 'MB/s',
      value: lostBytes / median(times) / 1e6,
      target: 'at least 400 MB/s',
    };
  });
}

interface TwoLists {
  readonly own: number[];
  readonly par2: number[];
}

function twoLists(): TwoLists {
  return { own: [], par2: [] };
}

function compare(what: string, peer: string, times: TwoLists, bytes: number): Rows {
  const own = bytes / median(times.own) / 1e6;
  const other = bytes / median(times.par2) / 1e6;
  return [
    { name: `${what}: chunkvol`, unit: 'MB/s', value: own },
    { name: `${what}: ${peer}`, unit: 'MB/s', value: other },
    { name: `${what}: chunkvol / ${peer}`, unit: 'x', value: own / other },
  ];
}

function dataName(place: number): string {
  return `data${place}`;
}

function digest(path: string): string {
  return createHash('sha1').update(readFileSync(path)).digest('hex');
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
