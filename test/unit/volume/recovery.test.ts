/** What a folder can lack, what recovery says of it, and what who only reads is shown all the same. */
import * as fs from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import type { MoveEntry } from '../../../src/format/commit.js';
import type { OpenOptions } from '../../../src/volume/open.js';
import type { Volume } from '../../../src/volume/volume.js';
import { makeOpenRoot, partsOf } from '../../support/inside.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

const BLOCK = 4 * KIB;
const GEOMETRY = { data: 2, parity: 1 };
const NAME = '0123456789abcdef0123456789abcdef';

/** A volume that was written and closed, with a root at its creation and one after it. */
async function makeWritten(): Promise<string> {
  const folder = temporaryFolder();
  await makeVolume(folder, GEOMETRY);
  const volume = await open(folder);
  await volume.write(0, patterned(64 * KIB, 1));
  await volume.close();
  return folder;
}

function filesOf(folder: string): string[] {
  return fs.readdirSync(folder).map((name) => `${folder}/${name}`);
}

/** The volume, open, with what was written to it since and a root that names the open group. */
async function withOpenRoot(folder: string): Promise<Volume> {
  const volume = await open(folder);
  await volume.write(0, patterned(64 * KIB, 2));
  await volume.flush();
  await makeOpenRoot(volume);
  return volume;
}

/** Leaves the folder as it is now, although the volume is closed after. */
async function crash(folder: string, volume: Volume): Promise<void> {
  const kept = temporaryFolder();
  fs.cpSync(folder, kept, { recursive: true });
  await volume.close().catch(() => undefined);
  // The folders stay: others in their place would be a copy.
  for (const sub of fs.readdirSync(folder)) {
    for (const path of filesOf(`${folder}/${sub}`)) fs.rmSync(path, { recursive: true });
  }
  fs.cpSync(kept, folder, { recursive: true });
}

/** Opens a volume; the notices that came with it. */
async function opened(
  folder: string,
  options: Partial<OpenOptions> = {},
): Promise<{ volume: Volume; notices: string }> {
  const notices: string[] = [];
  const onNotice = (line: string): void => void notices.push(line);
  const volume = await open(folder, { ...options, onNotice });
  onTestFinished(() => volume.close());
  return { volume, notices: notices.join('\n') };
}

/** What opening a folder fails with. */
function failure(folder: string): Promise<unknown> {
  return open(folder).then(
    (volume) => volume.close().then(() => null),
    (error: unknown) => error,
  );
}

async function expectAt(volume: Volume, offset: number, expected: Uint8Array): Promise<void> {
  const bytes = new Uint8Array(expected.length);
  await volume.read(offset, bytes);
  expect(Buffer.compare(bytes, expected), `byte ${offset}`).toBe(0);
}

describe('a folder without any root', () => {
  it('is lost when no group carries one', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, GEOMETRY);
    filesOf(`${folder}/roots`).forEach((path) => {
      fs.rmSync(path);
    });
    const error = await failure(folder);
    expect(error).toMatchObject({ code: 'lost' });
    expect(String(error)).toContain('no root of the volume');
  });
});

describe('a folder whose only root needs what is gone', () => {
  it('is lost, and says what helps', async () => {
    const folder = await makeWritten();
    const bySize = filesOf(`${folder}/roots`).sort(
      (a, b) => fs.statSync(a).size - fs.statSync(b).size,
    );
    bySize.slice(0, -1).forEach((path) => {
      fs.rmSync(path);
    });
    filesOf(`${folder}/chunks`).forEach((path) => {
      fs.rmSync(path);
    });
    const error = await failure(folder);
    expect(error).toMatchObject({ code: 'lost' });
    expect(String(error)).toContain('misses more chunk files than parity can replace');
    expect(String(error)).toContain('repair --from');
  });
});

describe('an open group that a root names, and that is too short', () => {
  it('is flushed data that misses, but not for who only reads', async () => {
    const folder = await makeWritten();
    const volume = await withOpenRoot(folder);
    const { paths } = volume.groups().find(({ state }) => state === 'open')!;
    const whole = fs.readFileSync(paths[0]!);
    fs.truncateSync(paths[0]!, 600);

    const error = await failure(folder);
    expect(error).toMatchObject({ code: 'flushed-data-missing' });
    expect(String(error)).toContain(paths[0]!);
    const { volume: shown, notices } = await opened(folder, { readOnly: true });
    expect(notices).toContain('is missing or too short');
    await expectAt(shown, 0, patterned(BLOCK, 1));

    fs.writeFileSync(paths[0]!, whole);
    await volume.close();
  });
});

describe('a group that was sealed after a root named it as open', () => {
  it('must be there for that root to count, as any other', async () => {
    const folder = await makeWritten();
    const volume = await withOpenRoot(folder);
    const { ordinal } = volume.groups().find(({ state }) => state === 'open')!;
    await volume.sealNow();
    const { paths } = volume.groups().find((group) => group.ordinal === ordinal)!;
    await crash(folder, volume);
    for (const path of paths.slice(1)) fs.rmSync(path);
    expect(await failure(folder)).toMatchObject({ code: 'flushed-data-missing' });
    const { volume: again, notices } = await opened(folder, { tolerance: 'loss' });
    expect(notices).toContain('needs chunk files that are not here whole');
    await expectAt(again, 0, patterned(64 * KIB, 1));
  });
});

describe('a seal that was interrupted', () => {
  it('is read as it stands by who may not finish it', async () => {
    const folder = await makeWritten();
    // In more than one member.
    const bytes = patterned(300 * KIB, 3);
    const roots = new Set(filesOf(`${folder}/roots`));
    const volume = await open(folder);
    await volume.write(0, bytes);
    await volume.sealNow();
    const [, ...others] = volume.groups().at(-1)!.paths;
    await volume.close();
    for (const path of filesOf(`${folder}/roots`)) if (!roots.has(path)) fs.rmSync(path);
    for (const path of others) fs.renameSync(path, `${path}.open`);
    const before = fs.readdirSync(`${folder}/chunks`);
    const { volume: reader } = await opened(folder, { readOnly: true });
    await expectAt(reader, 0, bytes);
    await reader.close();
    expect(fs.readdirSync(`${folder}/chunks`)).toEqual(before);
    const { volume: writer } = await opened(folder);
    await expectAt(writer, 0, bytes);
    expect(others.every((path) => fs.existsSync(path))).toBe(true);
  });
});

describe('a move to a group that is not what the log says', () => {
  it.each([
    ['another group than the one of this number', 'id'],
    ['a group of another number', 'ordinal'],
  ])('is flushed data that misses: %s', async (_, what) => {
    const folder = await makeWritten();
    const volume = await open(folder);
    await volume.write(0, patterned(64 * KIB, 2));
    await volume.flush();
    const { end, writePath } = partsOf(volume);
    const { id, ordinal } = end.writer!.group;
    const group = { id, ordinal, end: 4 * KIB };
    const wrong = what === 'id' ? { id: Buffer.alloc(16, 5) } : { ordinal: ordinal + 1 };
    const move: MoveEntry = {
      kind: 'move',
      group: { ...group, ...wrong },
      blocks: Float64Array.of(0),
      old: Uint32Array.of(ordinal, 64),
      positions: Uint32Array.of(64),
    };
    await writePath.exclusively(async () => {
      end.parts.log.appendRecords(end.writer!, [move]);
      await end.makeDurable();
    });
    await crash(folder, volume);
    expect(await failure(folder)).toMatchObject({
      code: 'flushed-data-missing',
      message: expect.stringContaining('misses blocks that were moved to it') as string,
    });
    const { volume: reader } = await opened(folder, { readOnly: true });
    await expectAt(reader, 0, patterned(64 * KIB, 2));
  });
});

describe('a file whose header cannot be read', () => {
  it('may be all that is left of flushed data, when it has the name of an open one', async () => {
    const folder = await makeWritten();
    fs.writeFileSync(`${folder}/chunks/${NAME}.open`, patterned(8 * KIB, 5));
    const error = await failure(folder);
    expect(error).toMatchObject({ code: 'flushed-data-missing' });
    expect(String(error)).toContain(`${NAME}.open cannot be read`);
    const { notices } = await opened(folder, { readOnly: true });
    expect(notices).toContain(`${NAME}.open cannot be read`);
  });

  it('is nothing when it was never more than begun', async () => {
    const folder = await makeWritten();
    fs.writeFileSync(`${folder}/chunks/${NAME}.new`, patterned(100, 5));
    const { notices } = await opened(folder);
    expect(notices).toBe('');
  });
});

/** A copy whose chunk files are older than its roots: blocks 0 to 39 are as patterned(BLOCK, 100 + i) there. */
async function tornCopy(): Promise<string> {
  const folder = await makeWritten();
  const copy = temporaryFolder();
  const volume = await open(folder);
  onTestFinished(() => volume.close());
  // Files that run ahead of the log are as long as any later root says.
  for (let i = 0; i < 40; i++) {
    await volume.write(i * BLOCK, patterned(BLOCK, 100 + i));
    await volume.flush();
  }
  fs.cpSync(`${folder}/chunks`, `${copy}/chunks`, { recursive: true });
  for (let i = 0; i < 4; i++) await volume.write(i * BLOCK, patterned(BLOCK, 200 + i));
  await volume.flush();
  await makeOpenRoot(volume);
  for (const name of fs.readdirSync(folder).filter((each) => each !== 'chunks')) {
    fs.cpSync(`${folder}/${name}`, `${copy}/${name}`, { recursive: true });
  }
  return copy;
}

async function expectOldBlocks(volume: Volume): Promise<void> {
  for (let i = 0; i < 40; i++) await expectAt(volume, i * BLOCK, patterned(BLOCK, 100 + i));
}

describe('a folder that was copied by hand while in use', () => {
  it('shows the state that its chunk files had, whatever newer root came along', async () => {
    const copy = await tornCopy();
    for (const readOnly of [true, false]) {
      const { volume } = await opened(copy, { readOnly });
      await expectOldBlocks(volume);
      await volume.close();
    }
    // As a volume of its own it goes on from there.
    const { volume: again } = await opened(copy);
    await expectOldBlocks(again);
  });

  it('keeps what lies behind its end', async () => {
    const copy = await tornCopy();
    const before = new Map(filesOf(`${copy}/chunks`).map((path) => [path, fs.readFileSync(path)]));
    const { volume, notices } = await opened(copy);
    expect(notices).toContain(`is kept in ${copy}/local/set-aside`);
    const kept = filesOf(`${copy}/local/set-aside`).filter((path) => path.includes('.from-'));
    expect(kept.length).toBe(GEOMETRY.data);
    for (const path of kept) {
      const [, name, from] = /([0-9a-f]{32}\.open)\.from-(\d+)$/.exec(path)!;
      const tail = before.get(`${copy}/chunks/${name!}`)!.subarray(Number(from));
      expect(tail.length).toBeGreaterThan(0);
      expect(Buffer.compare(fs.readFileSync(path), tail)).toBe(0);
    }
    await volume.close();
    const { notices: later } = await opened(copy);
    expect(later).toBe('');
  });

  it('is missing flushed data where nothing tells that it is a copy', async () => {
    const copy = await tornCopy();
    fs.rmSync(`${copy}/local`, { recursive: true });
    expect(await failure(copy)).toMatchObject({ code: 'flushed-data-missing' });
    for (const options of [{ readOnly: true }, { tolerance: 'loss' as const }]) {
      const { volume } = await opened(copy, options);
      await expectOldBlocks(volume);
      await volume.close();
    }
  });

  it.each([
    ['opens at an open root where there is no other', 'whole'],
    ['is lost where its files are too short for that one too', 'short'],
  ])('%s', async (_, files) => {
    const folder = temporaryFolder();
    const copy = temporaryFolder();
    await makeVolume(folder, GEOMETRY);
    const [born] = filesOf(`${folder}/roots`);
    const volume = await withOpenRoot(folder);
    onTestFinished(() => volume.close());
    fs.cpSync(folder, copy, { recursive: true });
    fs.rmSync(born!.replace(folder, copy));
    const [first] = volume.groups()[0]!.paths;
    if (files === 'short') fs.truncateSync(first!.replace(folder, copy), 600);

    if (files === 'short') {
      expect(await failure(copy)).toMatchObject({ code: 'lost' });
      return;
    }
    // It goes on, into the next group and beyond it.
    const { volume: copied } = await opened(copy);
    for (let at = 0; at < 6; at++) await copied.write(at * MIB, patterned(MIB, at));
    await copied.close();
    const { volume: again } = await opened(copy);
    await expectAt(again, 5 * MIB, patterned(MIB, 5));
  });

  it.each([true, false])(
    'ends before a sealed group of which too little came along (read-only: %s)',
    async (readOnly) => {
      const folder = await makeWritten();
      const before = new Set(filesOf(`${folder}/roots`));
      const volume = await withOpenRoot(folder);
      onTestFinished(() => volume.close());
      await volume.sealNow();
      const copy = temporaryFolder();
      fs.cpSync(folder, copy, { recursive: true });
      for (const path of filesOf(`${folder}/roots`)) {
        if (!before.has(path)) fs.rmSync(path.replace(folder, copy));
      }
      const { paths } = volume.groups().at(-1)!;
      for (const path of paths.slice(1)) fs.rmSync(path.replace(folder, copy));
      const { volume: copied, notices } = await opened(copy, { readOnly });
      expect(notices).toContain('misses more chunk files than parity can replace');
      await expectAt(copied, 0, patterned(64 * KIB, 1));
    },
  );
});

describe('files that are none of a volume', () => {
  it('are left alone among its chunk files, whatever they are called', async () => {
    const folder = await makeWritten();
    const strangers = ['notes.txt', `${NAME}.bak`, `${NAME}x`];
    // As somebody who knows no better may have put them by.
    const genuine = fs.readFileSync(filesOf(`${folder}/chunks`)[0]!);
    for (const name of strangers) fs.writeFileSync(`${folder}/chunks/${name}`, genuine);
    const { volume, notices } = await opened(folder);
    await expectAt(volume, 0, patterned(64 * KIB, 1));
    await volume.close();
    expect(notices).toBe('');
    for (const name of strangers) {
      expect(Buffer.compare(fs.readFileSync(`${folder}/chunks/${name}`), genuine)).toBe(0);
    }
  });
});
