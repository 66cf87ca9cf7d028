/**
 * Remotes that go back in time, lose their newest state, or hold two histories, met by a machine that
 * knows the remote, by a fresh one that is told what to expect, and by one that knows nothing. The table
 * in docs/testing.md says the same.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isChunkvolError } from '../../../src/base/errors.js';
import { RemoteMemory } from '../../../src/sync/memory.js';
import { downloadVolume } from '../../../src/sync/restore.js';
import { runSync } from '../../../src/sync/run.js';
import { MemoryRemote } from '../../support/memory-remote.js';
import { credential, environment, SealedVolume } from '../../support/sealed-volume.js';

/** The newest state that the remote has had. */
const NEWEST = 3;

let base: string;
let volume: SealedVolume;
let remote: MemoryRemote;

beforeEach(async () => {
  base = fs.mkdtempSync(path.join(os.tmpdir(), 'rollback-'));
  volume = await SealedVolume.create(path.join(base, 'volume'));
  remote = new MemoryRemote();
  for (let i = 0; i < 2; i++) {
    volume.write();
    await runSync(volume, remote, { memory: memoryOf('writer') });
  }
});

afterEach(() => {
  fs.rmSync(base, { recursive: true });
});

function memoryOf(machine: string): RemoteMemory {
  return new RemoteMemory(environment.files, path.join(base, 'state', machine));
}

function membersOf(ordinal: number): string[] {
  return volume.groups()[ordinal - 1]!.paths.map((file) => `chunks/${path.basename(file)}`);
}

/** What a host may do to the remote. */
const DEEDS = {
  'old root': async () => {
    remote.files.delete(`roots/${(await volume.newestRoot()).name}`);
  },
  'old key file': async () => {
    const [name] = remote.names('keys') as [string];
    const bytes = remote.files.get(name)!;
    await volume.changeKeys();
    await runSync(volume, remote, { memory: memoryOf('writer') });
    // The root that knows of the change stays; the key file is the one before it.
    volume.write();
    await runSync(volume, remote, { memory: memoryOf('writer') });
    for (const each of remote.names('keys')) remote.files.delete(each);
    remote.files.set(name, bytes);
  },
  'mixed generations': () => {
    for (const member of membersOf(2).slice(0, 3)) remote.files.delete(member);
    return Promise.resolve();
  },
  fork: async () => {
    const copy = volume.copyTo(path.join(base, 'copy'));
    copy.attach();
    for (let i = 0; i < 2; i++) {
      copy.write();
      await runSync(copy, remote, { memory: memoryOf('copy'), acceptFork: true });
    }
    volume.write();
    await runSync(volume, remote, { memory: memoryOf('writer'), acceptFork: true });
  },
  'tip deleted': async () => {
    remote.files.delete(`roots/${(await volume.newestRoot()).name}`);
    for (const member of membersOf(2)) remote.files.delete(member);
  },
} as const;

type Deed = keyof typeof DEEDS;

/** What a restore ends with: an error's code, or the generation and what is said about it. */
async function verdict(memory: RemoteMemory, expectGeneration?: number): Promise<string> {
  const target = path.join(base, `restored-${String(expectGeneration)}`);
  try {
    const report = await downloadVolume(environment, remote, target, {
      credential,
      memory,
      expectGeneration,
    });
    const notes = report.notes.join('\n');
    const said = [
      ['has not seen', 'cannot tell its age'],
      ['key file there is older', 'old key file'],
      ['written in two copies', 'two copies'],
      ['lacks', 'falls back'],
    ].flatMap(([words, short]) => (notes.includes(words!) ? [short] : []));
    return [`generation ${report.generation}`, ...said].join(', ');
  } catch (error) {
    if (!isChunkvolError(error)) throw error;
    return error.code;
  }
}

describe.each<[Deed, { known: string; expecting: string; fresh: string; writer: string }]>([
  [
    'old root',
    {
      known: 'rollback',
      expecting: 'rollback',
      fresh: 'generation 2, cannot tell its age',
      writer: 'rollback',
    },
  ],
  [
    'old key file',
    {
      known: 'generation 5, old key file',
      expecting: 'generation 5, old key file',
      fresh: 'generation 5, cannot tell its age, old key file',
      writer: 'mended',
    },
  ],
  [
    'mixed generations',
    {
      known: 'rollback',
      expecting: 'rollback',
      fresh: 'generation 2, cannot tell its age, falls back',
      writer: 'mended',
    },
  ],
  [
    'fork',
    {
      known: 'generation 6, two copies',
      expecting: 'generation 6, two copies',
      fresh: 'generation 6, cannot tell its age, two copies',
      writer: 'mended',
    },
  ],
  [
    'tip deleted',
    {
      known: 'rollback',
      expecting: 'rollback',
      fresh: 'generation 2, cannot tell its age',
      writer: 'rollback',
    },
  ],
])('a remote with: %s', (deed, wanted) => {
  it('is met as the table says by each kind of machine', async () => {
    // It has restored from there before, and knows what there was.
    await verdict(memoryOf('known'));
    fs.rmSync(path.join(base, 'restored-undefined'), { recursive: true });
    await DEEDS[deed]();
    const writer = await runSync(volume, remote, { memory: memoryOf('writer') }).then(
      () => 'mended',
      (error: unknown) => (isChunkvolError(error) ? error.code : String(error)),
    );
    await (writer === 'mended' && deed !== 'fork' ? DEEDS[deed]() : Promise.resolve());
    const known = await verdict(memoryOf('known'));
    fs.rmSync(path.join(base, 'restored-undefined'), { recursive: true, force: true });
    const expecting = await verdict(memoryOf('expecting'), NEWEST);
    const fresh = await verdict(memoryOf('fresh'));
    expect({ known, expecting, fresh, writer }).toEqual(wanted);
  });
});
