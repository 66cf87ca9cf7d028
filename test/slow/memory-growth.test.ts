/**
 * The memory of a server that goes on and on: two minutes, or $CHUNKVOL_GROWTH_MINUTES. Clients come and
 * go, blocks are written, read and trimmed, groups fill up and are collected, snapshots are made and
 * deleted, the volume is synced. What the process holds at most in the last quarter of the time is what it
 * held in the second one: whatever were kept of each request, connection, group or snapshot would show. Nor
 * may a request wait for long, whatever goes on beside it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MIB } from '../../src/base/bytes.js';
import { delay, Sandbox, type ServedVolume } from '../support/sandbox.js';
import { Load, seededRandom, UNIT_BYTES, VersionedDisk } from '../support/versioned-disk.js';

const MINUTES = Number(process.env['CHUNKVOL_GROWTH_MINUTES'] ?? 2);
const DISK_BYTES = 64 * MIB;
const CONNECTIONS = 3;
const KEPT_SNAPSHOTS = 2;
const LOAD_MS = 5_000;
const SAMPLE_MS = 100;
const SYNCED_EACH = 5;
/** Writers wait for the collector, for 5 seconds at most. */
const MAX_ANSWER_MS = 20_000;
/** The garbage collector of the language lets go of memory when it likes. */
const MAX_GROWTH_BYTES = 32 * MIB;

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox.release());

it(
  `a server under load for ${MINUTES} minutes does not grow`,
  async () => {
    const size = ['--size', `${DISK_BYTES / MIB}M`];
    const volume = await sandbox.create(sandbox.path('volume'), ...size);
    const server = await sandbox.serve(volume);
    const started = performance.now();
    const elapsed = (): number => (performance.now() - started) / (MINUTES * 60_000);
    using memory = new Watch(server.running.child.pid!, elapsed);
    const random = seededRandom(Date.now() % 2 ** 31);
    let requests = 0;
    let rounds = 0;
    for (; elapsed() < 1; rounds++) {
      requests += await useOnce(server, random);
      await sandbox.succeed(['-C', volume, 'snapshot', 'create', `s${rounds}`]);
      if (rounds >= KEPT_SNAPSHOTS) {
        const name = `s${rounds - KEPT_SNAPSHOTS}`;
        await sandbox.succeed(['-C', volume, 'snapshot', 'delete', name]);
      }
      if (rounds % SYNCED_EACH === 0) {
        await sandbox.succeed(sandbox.on(volume, 'sync', sandbox.path('copy')));
      }
    }
    const [, early, , late] = memory.peaks.map((bytes) => Math.round(bytes / MIB));
    console.log(
      `${MINUTES} minutes, ${rounds} rounds, ${requests} requests: at most`,
      memory.peaks,
      'bytes',
    );
    expect((await server.stop()).status).toBe(0);
    expect(requests).toBeGreaterThan(1000 * MINUTES);
    expect(late! * MIB, `MiB: ${early} early, ${late} late`).toBeLessThan(
      early! * MIB + MAX_GROWTH_BYTES,
    );
  },
  (MINUTES + 5) * 60_000,
);

/** From zeros to zeros: connections, a load, a look at all that it wrote. Returns the requests that were answered. */
async function useOnce(server: ServedVolume, random: () => number): Promise<number> {
  const clients = await Promise.all(Array.from({ length: CONNECTIONS }, () => server.connect()));
  const disk = new VersionedDisk(DISK_BYTES / UNIT_BYTES);
  const load = new Load(disk, clients, { random });
  await delay(LOAD_MS);
  const stopping = performance.now();
  await load.stop();
  expect(performance.now() - stopping, 'for the last answers').toBeLessThan(MAX_ANSWER_MS);
  expect(load.refusals).toEqual([]);
  const [first] = clients;
  await disk.check((offset, bytes) => first!.read(offset, bytes), disk.acknowledged());
  await first!.trim(0, DISK_BYTES);
  await first!.flush();
  await Promise.all(clients.map((client) => client.disconnect()));
  return load.answered;
}

/** The most that a process has in memory in each quarter of a time, until it is disposed of. */
class Watch implements Disposable {
  readonly peaks: number[] = [0, 0, 0, 0];
  readonly #timer: NodeJS.Timeout;

  /** `elapsed`: the part of the time that is over. */
  constructor(pid: number, elapsed: () => number) {
    this.#timer = setInterval(() => {
      const quarter = Math.min(3, Math.floor(elapsed() * 4));
      this.peaks[quarter] = Math.max(this.peaks[quarter]!, residentBytes(pid));
    }, SAMPLE_MS);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** proc(5): what the process has in memory now; 0 when it has ended. */
function residentBytes(pid: number): number {
  const path = `/proc/${pid}/status`;
  if (!existsSync(path)) return 0;
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(path, 'utf8'))?.[1];
  return Number(kib ?? 0) * 1024;
}
