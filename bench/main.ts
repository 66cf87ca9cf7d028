/**
 * `npm run bench`: chunkvol beside its peers, in one run, under the same load; then its parts alone.
 *
 *   --quick        64 MiB, one round: shows that everything runs; nothing is recorded
 *   --rounds N     5 by default
 *   --size GIB     of each disk, 4 by default
 *   --only A,B     only servers whose names contain one of these; nothing is recorded
 *   --parts A,B    no servers, only these parts (bench/parts.ts); their sections are recorded
 *   --folder DIR   where the disks lie (beside the compiled benchmark by default, not in a tmpfs)
 *
 * A round starts each server on a fresh disk, runs all workloads on it, and stops and removes it; the
 * next round starts with another server, so that drift of the machine hits all alike. Results go to
 * bench/results/ and docs/benchmarks.md (bench/document.ts).
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { replaceResults, replaceSections, replaceServers, saveRecord } from './document.js';
import { runFio, workloads } from './fio.js';
import { type Noise, watchNoise } from './noise.js';
import { fillPageCache } from './page-cache.js';
import { type Part, parts } from './parts.js';
import { type Peer, peers } from './peers.js';
import {
  type BenchRecord,
  type PartResult,
  type PeerResult,
  describeMachine,
  round,
  toMarkdown,
  toSections,
} from './report.js';
import { makeScratchFolder, peakResidentBytes, removeScratchFolder } from './server.js';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));

interface Options {
  readonly quick: boolean;
  readonly rounds: number;
  readonly sizeBytes: number;
  readonly peers: readonly Peer[];
  readonly parts: readonly Part[];
  /** What is recorded: all that there is, all servers, parts that were asked for by name, or nothing. */
  readonly recorded: 'all' | 'servers' | 'parts' | 'nothing';
  readonly folder: string;
}

await main(readOptions());

async function main(options: Options): Promise<void> {
  const { results, noise } = await measurePeers(options);
  const measured = await measureParts(options);
  const record: BenchRecord = {
    date: new Date().toISOString().slice(0, 16).replace('T', ' '),
    command: ['npm run bench --', ...process.argv.slice(2)].join(' ').replace(/ --$/, ''),
    machine: describeMachine(),
    rounds: options.rounds,
    sizeBytes: options.sizeBytes,
    results,
    noise: [...noise, ...measured.noise],
    parts: measured.results,
  };
  if (options.peers.length === 0) await reportParts(record, options);
  else await reportAll(record, options);
}

async function reportAll(record: BenchRecord, { recorded }: Options): Promise<void> {
  const text = await toMarkdown(record, workloads);
  console.log(`\n${text}`);
  if (recorded === 'nothing') return;
  saveRecord(PROJECT, record);
  if (recorded === 'servers') replaceServers(PROJECT, text);
  else replaceResults(PROJECT, text);
}

async function reportParts(record: BenchRecord, { recorded }: Options): Promise<void> {
  const sections = await toSections(record);
  for (const text of sections.values()) console.log(`\n${text}`);
  if (recorded === 'nothing') return;
  saveRecord(PROJECT, record);
  replaceSections(PROJECT, sections);
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      size: { type: 'string' },
      only: { type: 'string' },
      parts: { type: 'string' },
      servers: { type: 'boolean', default: false },
      folder: { type: 'string', default: join(PROJECT, 'dist-bench') },
    },
  });
  const { quick, folder, only, servers, parts: partNames } = values;
  const wantedPeers = partNames === undefined ? named(peers, only) : [];
  const wantedParts = only === undefined && !servers ? named(parts, partNames) : [];
  const presentPeers = wantedPeers.filter(isInstalled);
  const presentParts = wantedParts.filter(isInstalled);
  const areAllServers = presentPeers.length === peers.length;
  let recorded: Options['recorded'] = partNames === undefined ? 'nothing' : 'parts';
  if (areAllServers && presentParts.length === parts.length) recorded = 'all';
  else if (areAllServers && servers) recorded = 'servers';
  return {
    quick,
    rounds: positive(values.rounds ?? (quick ? '1' : '5'), '--rounds'),
    sizeBytes: positive(values.size ?? (quick ? '0.0625' : '4'), '--size') * 2 ** 30,
    peers: presentPeers,
    parts: presentParts,
    recorded: quick ? 'nothing' : recorded,
    folder,
  };
}

/** Those whose names contain one of the words; all without words. */
function named<T extends { readonly name: string }>(all: readonly T[], words = ''): T[] {
  return all.filter(({ name }) => words.split(',').some((word) => name.includes(word)));
}

/** What lacks a program is left out, loudly; in CI it is an error. */
function isInstalled({ name, programs }: Peer | Part): boolean {
  const lacking = programs.filter((program) => !isProgram(program));
  if (lacking.length === 0) return true;
  const complaint = `${name} is left out: ${lacking.join(', ')} not installed`;
  if (process.env.CI === 'true') throw new Error(complaint);
  console.log(complaint);
  return false;
}

function isProgram(name: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => existsSync(join(folder, name)));
}

function positive(text: string, option: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new RangeError(`${option} takes a number above 0, not ${text}`);
  return value;
}

async function measurePeers(options: Options): Promise<{ results: PeerResult[]; noise: Noise[] }> {
  const results = options.peers.map(({ name }) => ({
    peer: name,
    rates: Object.fromEntries(workloads.map((workload) => [workload.name, []])),
    peakResidentBytes: 0,
  }));
  const noise: Noise[] = [];
  for (let number = 0; number < options.rounds; number++) {
    for (let turn = 0; turn < options.peers.length; turn++) {
      const index = (number + turn) % options.peers.length;
      console.log(`round ${number + 1} of ${options.rounds}: ${options.peers[index]!.name}`);
      noise.push(...(await measurePeer(options.peers[index]!, results[index]!, number, options)));
    }
  }
  return { results, noise };
}

async function measureParts(options: Options): Promise<{ results: PartResult[]; noise: Noise[] }> {
  const results: PartResult[] = [];
  const noise: Noise[] = [];
  for (const part of options.parts) {
    console.log(part.name);
    const noiseSince = watchNoise(process.pid);
    results.push(await part.run(options));
    noise.push(noiseSince());
  }
  return { results, noise };
}

/** One round of one server: adds to its result and returns the noise during each workload. */
async function measurePeer(
  peer: Peer,
  result: PeerResult,
  roundNumber: number,
  options: Options,
): Promise<Noise[]> {
  const folder = makeScratchFolder(join(options.folder, 'data-'));
  // Apart from the disks: the path of a Unix socket has to be short.
  const socketFolder = makeScratchFolder(join(tmpdir(), 'cvb-'));
  const noise: Noise[] = [];
  const server = await peer.start(folder, socketFolder, options.sizeBytes);
  for (const workload of workloads) {
    if (!options.quick) fillPageCache(options.folder);
    const noiseSince = watchNoise(server.pid);
    const rate = await runFio(workload, {
      uri: server.uri,
      sizeBytes: options.sizeBytes,
      seed: roundNumber + 1,
      quick: options.quick,
      folder: socketFolder,
    });
    noise.push(noiseSince());
    result.rates[workload.name]!.push(rate);
    console.log(`  ${workload.name}: ${round(rate)} ${workload.unit}`);
  }
  result.peakResidentBytes = Math.max(result.peakResidentBytes, peakResidentBytes(server.pid));
  await server.stop();
  removeScratchFolder(folder);
  removeScratchFolder(socketFolder);
  // What this server left to be written must not slow the next one down.
  execFileSync('sync');
  return noise;
}
