/**
 * Benchmark of sync: what is sent, against what has changed. A volume is synced to a local folder by the real
 * rsync; then so much of it is overwritten, one block after another or blocks here and there, and it is synced
 * again. Sent is what is new in the folder: files that were not there, or with another size. Of each byte that
 * changed a half goes on top as parity, and what of the map has changed with it.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MIB } from '../src/base/bytes.js';
import { kernelRandomness } from '../src/base/randomness.js';
import { nodeFiles } from '../src/base/node-files.js';
import { RemoteMemory } from '../src/sync/memory.js';
import { openRemote } from '../src/sync/open-remote.js';
import { runSync } from '../src/sync/run.js';
import type { Volume } from '../src/volume/volume.js';
import type { PartResult } from './report.js';
import { makeScratchFolder, removeScratchFolder } from './server.js';
import { BLOCK_BYTES, fill, makeVolume, open, staysAlive } from './volumes.js';

interface Change {
  readonly kind: 'one after another' | 'here and there';
  readonly blocks: number;
  /** Of what is sent. */
  readonly limitBytes?: number;
}

/** The bytes of the least changes are what a file system writes that does next to nothing. */
const CHANGES: Record<'quick' | 'full', readonly Change[]> = {
  quick: [
    { kind: 'one after another', blocks: 1 },
    { kind: 'one after another', blocks: MIB / BLOCK_BYTES },
    { kind: 'here and there', blocks: MIB / BLOCK_BYTES },
  ],
  full: [
    { kind: 'one after another', blocks: 1, limitBytes: 100 * 1024 },
    { kind: 'here and there', blocks: 100, limitBytes: 2e6 },
    ...[1, 8, 64].flatMap((mib) => [
      { kind: 'one after another' as const, blocks: (mib * MIB) / BLOCK_BYTES },
      { kind: 'here and there' as const, blocks: (mib * MIB) / BLOCK_BYTES },
    ]),
  ],
};
const DISK_MIB = { quick: 32, full: 1024 };

type Row = PartResult['rows'][number];

export async function run(options: { quick: boolean; folder: string }): Promise<PartResult> {
  const size = options.quick ? 'quick' : 'full';
  const rows = await measure(options.folder, DISK_MIB[size], CHANGES[size]);
  return { title: `Sync of a disk that holds ${DISK_MIB[size]} MiB`, rows };
}

function measure(parent: string, diskMib: number, changes: readonly Change[]): Promise<Row[]> {
  return staysAlive(async () => {
    const folder = makeScratchFolder(join(parent, 'sync-'));
    await makeVolume(join(folder, 'volume'), diskMib * MIB);
    const volume = await open(join(folder, 'volume'));
    const copy = new Copy(volume, folder);
    await fill(volume, diskMib * MIB);
    await copy.sync();
    const rows: Row[] = [];
    for (const change of changes) rows.push(...(await syncAfter(volume, copy, change)));
    await volume.close();
    removeScratchFolder(folder);
    return rows;
  });
}

async function syncAfter(volume: Volume, copy: Copy, change: Change): Promise<Row[]> {
  await overwrite(volume, change);
  const changedBytes = change.blocks * BLOCK_BYTES;
  const { sentBytes, seconds } = await copy.sync();
  const { limitBytes } = change;
  const name = `${size(changedBytes)} changed, ${change.kind}`;
  return [
    {
      name: `${name}: sent`,
      unit: 'KB',
      value: sentBytes / 1e3,
      ...(limitBytes !== undefined && { target: `at most ${(limitBytes / 1e3).toFixed(0)} KB` }),
    },
    { name: `${name}: sent / changed`, unit: 'x', value: sentBytes / changedBytes },
    { name: `${name}: time`, unit: 's', value: seconds },
  ];
}

async function overwrite(volume: Volume, { kind, blocks }: Change): Promise<void> {
  const all = volume.sizeBytes / BLOCK_BYTES;
  const first = Math.floor(Math.random() * (all - blocks));
  const chosen = kind === 'one after another' ? range(first, blocks) : distinct(all, blocks);
  for (const block of chosen) {
    await volume.write(block * BLOCK_BYTES, kernelRandomness.bytes(BLOCK_BYTES));
  }
}

/** The folder that a volume is synced to. */
class Copy {
  private readonly path: string;
  private readonly memory: RemoteMemory;
  private before = new Map<string, number>();

  constructor(
    private readonly volume: Volume,
    folder: string,
  ) {
    this.path = join(folder, 'copy');
    this.memory = new RemoteMemory(nodeFiles, join(folder, 'state'));
  }

  async sync(): Promise<{ sentBytes: number; seconds: number }> {
    const start = performance.now();
    await runSync(this.volume, openRemote(this.path), { memory: this.memory });
    const seconds = (performance.now() - start) / 1000;
    const after = fileSizes(this.path);
    let sentBytes = 0;
    for (const [name, bytes] of after) if (this.before.get(name) !== bytes) sentBytes += bytes;
    this.before = after;
    return { sentBytes, seconds };
  }
}

function fileSizes(folder: string): Map<string, number> {
  const sizes = new Map<string, number>();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) sizes.set(path, statSync(path).size);
  }
  return sizes;
}

function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

/** So many different blocks of `all`, in no order. */
function distinct(all: number, count: number): Iterable<number> {
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(Math.floor(Math.random() * all));
  return chosen;
}

function size(bytes: number): string {
  return bytes >= MIB ? `${bytes / MIB} MiB` : `${bytes / 1024} KiB`;
}
