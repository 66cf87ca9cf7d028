import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeFiles } from '../../../src/base/node-files.js';
import { unlock } from '../../../src/store/key-files.js';
import { readRoots } from '../../../src/store/root-files.js';
import { RemoteMemory } from '../../../src/sync/memory.js';
import {
  downloadVolume,
  type RestoreOptions,
  type RestoreReport,
} from '../../../src/sync/restore.js';
import { runSync } from '../../../src/sync/run.js';
import { isRestoring } from '../../../src/sync/target.js';
import { MemoryRemote } from '../../support/memory-remote.js';
import { credential, environment, SealedVolume } from '../../support/sealed-volume.js';

let base: string;
let target: string;
let volume: SealedVolume;
let remote: MemoryRemote;

/** Two states on the remote: generation 2 with one group, generation 3 with two. */
beforeEach(async () => {
  base = fs.mkdtempSync(path.join(os.tmpdir(), 'restore-'));
  target = path.join(base, 'restored');
  volume = await SealedVolume.create(path.join(base, 'volume'));
  remote = new MemoryRemote();
  for (let i = 0; i < 2; i++) {
    volume.write();
    await sync(volume);
  }
  remote.log.length = 0;
});

afterEach(() => {
  fs.rmSync(base, { recursive: true });
});

async function sync(source: SealedVolume, acceptFork = false): Promise<void> {
  const memory = new RemoteMemory(
    environment.files,
    path.join(base, 'state', source.context.folder),
  );
  await runSync(source, remote, { memory, acceptFork });
}

/** On another machine, which has a memory of its own. */
function restore(options: Partial<RestoreOptions> = {}): Promise<RestoreReport> {
  const memory = new RemoteMemory(environment.files, path.join(base, 'elsewhere'));
  return downloadVolume(environment, remote, target, { credential, memory, ...options });
}

/** Paths on the remote of the members of a group. */
function members(ordinal: number): string[] {
  return volume.groups()[ordinal - 1]!.paths.map((file) => `chunks/${path.basename(file)}`);
}

async function generations(): Promise<number[]> {
  const { roots } = await readRoots({ ...volume.context, folder: target });
  return roots.map(({ root }) => root.generation);
}

function files(folder: string): string[] {
  return fs.readdirSync(path.join(target, folder)).map((name) => `${folder}/${name}`);
}

describe('downloadVolume', () => {
  it('brings back all files, byte by byte, and the roots that open with them', async () => {
    const report = await restore();
    for (const name of remote.files.keys()) {
      expect(fs.readFileSync(path.join(target, name)).equals(remote.files.get(name)!)).toBe(true);
    }
    expect(report).toMatchObject({ generation: 3, name: 'disk', missing: [], fetchedFiles: 12 });
    expect(await generations()).toEqual([3, 2]);
    const unlocked = await unlock(nodeFiles, target, credential);
    expect(unlocked.volumeKey).toEqual(report.unlocked.volumeKey);
    expect(await isRestoring({ files: nodeFiles, folder: target })).toBe(false);
    expect(files('local')).toHaveLength(1);
    expect(fs.readdirSync(path.join(target, files('local')[0]!, 'roots'))).toEqual([]);
  });

  it('says on a machine that has not seen the remote that it cannot tell its age', async () => {
    expect((await restore()).notes.join()).toContain('--expect-generation');
    fs.rmSync(target, { recursive: true });
    expect((await restore()).notes).toEqual([]);
  });

  it('asks for the key before it fetches anything else', async () => {
    const secret = new Uint8Array(32).fill(8);
    const wrong = restore({ credential: { kind: 'key-file', secret } });
    await expect(wrong).rejects.toMatchObject({
      code: 'wrong-key',
      message: 'wrong key file for the volume in memory:there',
    });
    expect(remote.log).toEqual(['list keys', 'download 1 keys']);
    expect(await restore()).toMatchObject({ generation: 3 });
  });

  it.each([
    [
      'a file',
      () => {
        fs.writeFileSync(path.join(target, 'letter.txt'), '');
      },
    ],
    [
      'a volume',
      () => {
        fs.mkdirSync(path.join(target, 'keys'));
      },
    ],
  ])('takes no folder that holds %s', async (_, fill) => {
    fs.mkdirSync(target);
    fill();
    await expect(restore()).rejects.toMatchObject({ code: 'exists' });
    expect(remote.log).toEqual([]);
  });

  it('takes no file for a folder', async () => {
    fs.writeFileSync(target, '');
    await expect(restore()).rejects.toMatchObject({ code: 'exists' });
  });

  it('takes an empty folder, with the lock of whoever restores in it', async () => {
    fs.mkdirSync(path.join(target, 'local'), { recursive: true });
    fs.writeFileSync(path.join(target, 'local/lock'), '');
    expect(await restore()).toMatchObject({ generation: 3 });
  });

  it('finds no volume on an empty remote', async () => {
    remote.files.clear();
    await expect(restore()).rejects.toMatchObject({ code: 'not-a-volume' });
  });

  it('does not go on with the restore of another volume', async () => {
    const list = remote.list.bind(remote);
    remote.list = (folder) => (folder === 'roots' ? Promise.reject(new Error()) : list(folder));
    await expect(restore()).rejects.toThrow();
    const other = await SealedVolume.create(path.join(base, 'other'));
    remote = new MemoryRemote('memory:elsewhere');
    await sync(other);
    await expect(restore()).rejects.toMatchObject({ code: 'exists' });
  });

  it('does not mix what an earlier attempt brought with what it brings itself', async () => {
    remote.unreadable.add(members(1)[0]!).add(members(1)[1]!).add(members(1)[2]!);
    await expect(restore()).rejects.toMatchObject({ code: 'remote' });
    expect(await isRestoring({ files: nodeFiles, folder: target })).toBe(true);
    remote.unreadable.clear();
    for (const member of members(2).slice(0, 3)) remote.files.delete(member);
    expect(await restore()).toMatchObject({ generation: 2 });
    expect(files('chunks').sort()).toEqual(members(1).sort());
  });

  it('fetches again what an earlier attempt has left, whatever it looks like', async () => {
    const list = remote.list.bind(remote);
    remote.list = (folder) => (folder === 'chunks' ? Promise.reject(new Error()) : list(folder));
    await expect(restore()).rejects.toThrow();
    remote.list = list;
    const roots = path.join(
      target,
      files('local').find((name) => name.includes('fetched'))!,
      'roots',
    );
    for (const name of fs.readdirSync(roots)) {
      const file = path.join(roots, name);
      fs.writeFileSync(file, new Uint8Array(fs.statSync(file).size));
    }
    expect(await restore()).toMatchObject({ generation: 3 });
  });

  it('tries again when files do not come the first time', async () => {
    const download = remote.download.bind(remote);
    const bad = members(1).slice(0, 3);
    for (const member of bad) remote.unreadable.add(member);
    remote.download = (folder, paths, options) => {
      const result = download(folder, paths, options);
      return result.finally(() => {
        if (paths[0]!.startsWith('chunks/')) remote.unreadable.clear();
      });
    };
    expect(await restore()).toMatchObject({ generation: 3, missing: [] });
    expect(remote.log.filter((entry) => entry.endsWith('chunks')).slice(1)).toEqual([
      'download 12 chunks',
      'download 3 chunks',
    ]);
  });

  it('leaves behind older roots that need files of their own', async () => {
    volume.forgetGroup();
    volume.write();
    await sync(volume);
    await volume.checkpoint(true);
    await sync(volume);
    expect((await restore()).generation).toBe(5);
    expect(await generations()).toEqual([5, 4]);
  });

  it('refuses a disk that is too small before it fills it', async () => {
    const small = { ...nodeFiles, freeBytes: () => Promise.resolve(1000) };
    const options = {
      credential,
      memory: new RemoteMemory(environment.files, path.join(base, 'm')),
    };
    const work = downloadVolume({ ...environment, files: small }, remote, target, options);
    await expect(work).rejects.toMatchObject({ code: 'no-space' });
    expect(remote.log.join()).not.toContain('chunks,');
  });
});

describe('a remote with losses', () => {
  it('is restored with up to m files of each group missing, and they are named', async () => {
    const lost = [members(1)[0]!, members(1)[5]!, members(2)[2]!, members(2)[3]!];
    remote.files.delete(lost[0]!);
    remote.files.delete(lost[3]!);
    remote.cut(lost[1]!);
    remote.unreadable.add(lost[2]!);
    const report = await restore();
    expect(report.generation).toBe(3);
    expect(report.missing.map((member) => member.path).sort()).toEqual(lost.sort());
    expect(report.missing.map(({ ordinal, place }) => [ordinal, place])).toEqual([
      [1, 0],
      [1, 5],
      [2, 2],
      [2, 3],
    ]);
    expect(report.fetchedFiles).toBe(8);
    expect(files('chunks')).toHaveLength(8);
  });

  it('falls back to an older state, and says why', async () => {
    for (const member of members(2).slice(1, 4)) remote.files.delete(member);
    const report = await restore();
    expect(report.generation).toBe(2);
    expect(report.notes.join('\n')).toMatch(/generation 3 of .* lacks 3 of the 6 files of group 2/);
    expect(await generations()).toEqual([2]);
    expect(files('chunks')).toHaveLength(6);
  });

  it('is lost when no state is whole', async () => {
    for (const member of members(1).slice(0, 3)) remote.files.delete(member);
    remote.files.delete(`roots/${(await firstRoot()).name}`);
    await expect(restore()).rejects.toMatchObject({ code: 'lost' });
    expect(remote.log.join()).not.toMatch(/download \d+ chunks/);
  });

  it('is lost when no root can be read', async () => {
    for (const name of remote.names('roots')) remote.cut(name);
    await expect(restore()).rejects.toMatchObject({ code: 'lost' });
  });

  it('ignores roots and key files that are cut short, or not ours', async () => {
    const other = await SealedVolume.create(path.join(base, 'other'));
    const [otherRoot] = (await readRoots(other.context)).roots;
    remote.files.set(`roots/${otherRoot!.name}`, otherRoot!.bytes);
    remote.files.set(`keys/${'1'.repeat(32)}`, new Uint8Array(100).fill(3));
    remote.files.set(`roots/${'f'.repeat(32)}`, new Uint8Array(900).fill(9));
    const newest = await volume.newestRoot();
    remote.cut(`roots/${newest.name}`);
    expect(await restore()).toMatchObject({ generation: 2 });
    expect(await generations()).toEqual([2]);
    expect(files('keys')).toHaveLength(1);
  });

  it('is not restored from a root under a name that is not its own', async () => {
    const newest = await volume.newestRoot();
    remote.files.delete(`roots/${newest.name}`);
    remote.files.set(`roots/${'e'.repeat(32)}`, newest.bytes);
    expect(await restore()).toMatchObject({ generation: 2 });
  });
});

describe('a remote that went back in time', () => {
  it('is refused when a newer state is expected', async () => {
    await expect(restore({ expectGeneration: 4 })).rejects.toMatchObject({ code: 'rollback' });
    expect(await restore({ expectGeneration: 3 })).toMatchObject({ generation: 3, notes: [] });
  });

  it('is refused when what is expected is there and not whole', async () => {
    for (const member of members(2).slice(1, 4)) remote.files.delete(member);
    await expect(restore({ expectGeneration: 3 })).rejects.toMatchObject({ code: 'rollback' });
    expect(await restore({ expectGeneration: 2 })).toMatchObject({ generation: 2 });
  });

  it('is refused when this machine has seen a newer one', async () => {
    await restore();
    fs.rmSync(target, { recursive: true });
    remote.files.delete(`roots/${(await volume.newestRoot()).name}`);
    await expect(restore()).rejects.toMatchObject({ code: 'rollback' });
    expect(await restore({ expectGeneration: 2 })).toMatchObject({ generation: 2 });
  });

  it('keeps an older key file, and that is told', async () => {
    const [key] = remote.names('keys') as [string];
    const bytes = remote.files.get(key)!;
    await volume.changeKeys();
    volume.write();
    await sync(volume);
    for (const name of remote.names('keys')) remote.files.delete(name);
    remote.files.set(key, bytes);
    expect((await restore()).notes.join()).toContain('key file there is older');
  });
});

describe('a remote with two lines of history', () => {
  it('is restored to the newer one, alone, and that is told', async () => {
    const copy = volume.copyTo(path.join(base, 'copy'));
    copy.attach();
    volume.write();
    await sync(volume);
    for (let i = 0; i < 2; i++) {
      copy.write();
      await sync(copy, true);
    }
    const report = await restore();
    expect(report.generation).toBe(6);
    expect(report.notes.join()).toContain('written in two copies: 1 states');
    expect(await generations()).toEqual([6, 5, 3, 2]);
    expect(files('chunks')).toHaveLength(24);
  });

  it('leaves the other line behind, even where it needs no files of its own', async () => {
    const copy = volume.copyTo(path.join(base, 'copy'));
    copy.attach();
    await volume.checkpoint(true);
    await sync(volume);
    copy.write(2);
    await copy.sealNow();
    copy.write();
    await sync(copy, true);
    expect((await restore()).generation).toBe(5);
    expect(await generations()).toEqual([5, 3, 2]);
  });
});

async function firstRoot(): Promise<{ name: string }> {
  const { roots } = await readRoots(volume.context);
  return roots.at(-1)!;
}
