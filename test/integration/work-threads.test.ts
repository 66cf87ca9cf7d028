/** Real threads, as the compiled program has them, under a real volume. */
import { execFileSync, spawnSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { MIB } from '../../src/base/bytes.js';
import { ENGINE_NAMES, engineByName } from '../../src/crypto/engines.js';
import type { Environment } from '../../src/store/context.js';
import { WorkThreads } from '../../src/store/work-threads.js';
import type { Volume } from '../../src/volume/volume.js';
import { environment, makeVolume, open, patterned, temporaryFolder } from '../support/volumes.js';
import { delay, PROGRAM } from '../support/sandbox.js';

const SCRIPT = new URL('../../dist/store/work-thread.js', import.meta.url);
const BYTES = 24 * MIB;

let threads: WorkThreads;

afterEach(() => threads.stop());

/** A world with two threads, and how many jobs they have done. */
function withThreads(script: URL = SCRIPT): { world: Environment; done: () => number } {
  const { engine } = environment;
  threads = new WorkThreads(engine.name, 2, script);
  let done = 0;
  const count = <T>(job: Promise<T> | null): Promise<T> | null => {
    job?.then(
      () => done++,
      () => undefined,
    );
    return job;
  };
  const { worthBytes } = threads;
  const world: Environment = {
    ...environment,
    workers: {
      worthBytes,
      open: (...args) => count(threads.open(...args)),
      rows: (group) => {
        const rows = threads.rows(group);
        return {
          seal: (...args) => count(rows.seal(...args)),
          finish: (...args) => count(rows.finish(...args)),
          close: () => {
            rows.close();
          },
        };
      },
    },
  };
  return { world, done: () => done };
}

/** Writes until the threads, which take their time to start, have had some of it. */
async function writeUntil(
  volume: Volume,
  bytes: Uint8Array,
  isEnough: () => boolean,
): Promise<void> {
  do {
    await volume.write(0, bytes);
    await volume.flush();
    await delay(10);
  } while (!isEnough());
}

/** Whether the disk begins with these bytes, read into memory that threads can be given. */
async function holds(volume: Volume, bytes: Uint8Array): Promise<boolean> {
  const into = new Uint8Array(new SharedArrayBuffer(bytes.length));
  await volume.read(0, into);
  return Buffer.compare(into, bytes) === 0;
}

describe('threads', () => {
  it('write and read what one thread alone would', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { chunkBytes: 64 * MIB });
    const { world, done } = withThreads();
    const bytes = patterned(BYTES, 1);
    const volume = await open(folder, {}, world);
    await writeUntil(volume, bytes, () => done() > 100);
    expect(await holds(volume, bytes)).toBe(true);
    const before = done();
    expect(await holds(volume, bytes)).toBe(true);
    expect(done()).toBeGreaterThan(before + 20);
    await volume.close();

    const alone = await open(folder);
    expect(await holds(alone, bytes)).toBe(true);
    expect(alone.slots.counters.reconstructedSlots).toBe(0);
    await alone.close();
  });

  it('may end at any time: the work is done without them', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { chunkBytes: 64 * MIB });
    const { world, done } = withThreads();
    const volume = await open(folder, {}, world);
    await writeUntil(volume, patterned(BYTES, 2), () => done() > 10);
    const bytes = patterned(BYTES, 3);
    const writing = volume.write(0, bytes);
    await threads.stop();
    await writing;
    await volume.flush();
    const ended = done();
    expect(await holds(volume, bytes)).toBe(true);
    await volume.close();
    expect(done()).toBe(ended);

    const alone = await open(folder);
    expect(await holds(alone, bytes)).toBe(true);
    await alone.close();
  });

  it('that cannot start are not missed', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { chunkBytes: 64 * MIB });
    const { world, done } = withThreads(pathToFileURL('/no/such/file.js'));
    const bytes = patterned(BYTES, 4);
    const volume = await open(folder, {}, world);
    await writeUntil(volume, bytes, () => true);
    await delay(200);
    await writeUntil(volume, bytes, () => true);
    expect(await holds(volume, bytes)).toBe(true);
    expect(done()).toBe(0);
    await volume.close();
  });

  it.each(ENGINE_NAMES)('tell what is damaged from what is not (%s)', async (name) => {
    const engine = engineByName(name);
    threads = new WorkThreads(name, 1, SCRIPT);
    const key = engine.slotKey(patterned(32, 5));
    const batch = sharedBatch(32);
    engine.sealSlots(key, batch, patterned(8, 6));
    let failed: Uint8Array | null = null;
    batch.slots[7 * 4120 + 5]! ^= 1;
    while (failed === null) {
      await delay(10);
      failed = await (threads.open(key, batch) ?? null);
    }
    expect([...failed].map((each, i) => (each === 0 ? -1 : i)).filter((i) => i >= 0)).toEqual([7]);
  });
});

/** Gives a thread work for so many milliseconds, from its start on, then ends in the middle of it. */
const ENDING = `
  import { WorkThreads } from '${new URL('../../dist/store/work-threads.js', import.meta.url).href}';
  const shared = (bytes) => new Uint8Array(new SharedArrayBuffer(bytes));
  const batch = {
    count: 1, plainBytes: 4096, plain: shared(4096), plainAt: Uint32Array.of(0), slots: shared(4120),
    slotAt: Uint32Array.of(0), positions: Uint32Array.of(0), numbers: Float64Array.of(0), kind: 1,
  };
  const threads = new WorkThreads('${environment.engine.name}', 2);
  const end = performance.now() + Number(process.argv[1]);
  const work = () => {
    for (let i = 0; i < 20; i++) threads.open({ raw: new Uint8Array(32) }, batch);
    if (performance.now() < end) setImmediate(work);
    else process.exit(7);
  };
  work();
`;

describe('the program', () => {
  it('ends as it should, whatever its threads are doing', () => {
    for (let ms = 0; ms < 150; ms += 5) {
      const words = ['--input-type=module', '-e', ENDING, `${ms}`];
      const { status, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
      expect(status, `after ${ms} ms: ${stderr}`).toBe(7);
    }
  });

  it('says so when it cannot understand how many threads are wanted', () => {
    const env = { ...process.env, CHUNKVOL_THREADS: 'many', CHUNKVOL_PASSPHRASE: 'secret' };
    const words = [PROGRAM, 'create', `${temporaryFolder()}/volume`, '--size', '64M'];
    let message = '';
    try {
      execFileSync(process.execPath, words, { env, stdio: 'pipe' });
    } catch (error) {
      message = String((error as { stderr: Buffer }).stderr);
    }
    expect(message).toBe('chunkvol: $CHUNKVOL_THREADS: not a number of threads: many\n');
  });
});

function sharedBatch(count: number): Parameters<WorkThreads['open']>[1] {
  const list = (bytes: number): number[] => Array.from({ length: count }, (_, i) => i * bytes);
  return {
    count,
    plainBytes: 4096,
    plain: new Uint8Array(new SharedArrayBuffer(count * 4096)),
    plainAt: Uint32Array.from(list(4096)),
    slots: new Uint8Array(new SharedArrayBuffer(count * 4120)),
    slotAt: Uint32Array.from(list(4120)),
    positions: Uint32Array.from(list(515)),
    numbers: Float64Array.from(list(1)),
    kind: 1,
  };
}
