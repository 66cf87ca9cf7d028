import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exitStatus, isChunkvolError } from '../../../src/base/errors.js';
import { decodeOwn, ownKeyFiles } from '../../../src/store/key-files.js';
import { RemoteMemory } from '../../../src/sync/memory.js';
import { readRemoteBook, receiptOf } from '../../../src/sync/remotes.js';
import { runSync, type SyncOptions, type SyncProgress } from '../../../src/sync/run.js';
import type { SyncReport } from '../../../src/sync/report.js';
import { MemoryRemote } from '../../support/memory-remote.js';
import { environment, SealedVolume } from '../../support/sealed-volume.js';
import { wholeRoots } from '../../support/whole-roots.js';

let base: string;
let volume: SealedVolume;
let remote: MemoryRemote;
let memory: RemoteMemory;

beforeEach(async () => {
  base = fs.mkdtempSync(path.join(os.tmpdir(), 'sync-'));
  volume = await SealedVolume.create(path.join(base, 'volume'));
  remote = new MemoryRemote();
  memory = new RemoteMemory(environment.files, path.join(base, 'state'));
});

afterEach(() => {
  fs.rmSync(base, { recursive: true });
});

function sync(options: SyncOptions = {}, source = volume): Promise<SyncReport> {
  return runSync(source, remote, { memory, ...options });
}

function local(name: string): string {
  return path.join(volume.context.folder, name);
}

/** What must not happen to a remote that a sync refuses. */
async function refused(work: Promise<unknown>, code: string, status: number): Promise<void> {
  const before = remote.digest();
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(isChunkvolError(error) ? error.code : error).toBe(code);
  expect(exitStatus(error)).toBe(status);
  expect(String(error)).not.toContain('\n');
  expect(remote.digest()).toBe(before);
}

describe('runSync', () => {
  it('brings everything to an empty remote, the root last and alone', async () => {
    volume.write(3, true);
    const progress: SyncProgress[] = [];
    const report = await sync({ onProgress: (step) => void progress.push(step) });
    expect(remote.names('chunks')).toHaveLength(6);
    expect(remote.names('keys')).toHaveLength(1);
    expect(wholeRoots(volume.context, remote)).toEqual([report.generation]);
    const uploads = remote.log.filter((entry) => entry.startsWith('upload'));
    expect(uploads).toEqual(['upload 6 chunks', 'upload 1 keys', 'upload 1 roots']);
    expect(remote.log.at(-1)).toBe('download 2 keys');
    const sizes = [...remote.files.values()].map((bytes) => bytes.length);
    expect(report.copiedBytes).toBe(sizes.reduce((sum, bytes) => sum + bytes, 0));
    expect(report.neededBytes).toBe(6 * 2 ** 20);
    expect(report).toMatchObject({ copiedFiles: 8, notes: [], missing: [], dryRun: false });
    expect([...new Set(progress.map((step) => step.phase))]).toEqual([
      'survey',
      'seal',
      'chunks',
      'keys',
      'root',
    ]);
    const chunks = progress.findLast((step) => step.phase === 'chunks')!;
    expect(chunks.doneBytes).toBe(chunks.totalBytes);
  });

  it('copies nothing, and fetches root and key file alone, when nothing has changed', async () => {
    volume.write();
    await sync();
    remote.log.length = 0;
    expect(await sync()).toMatchObject({ copiedFiles: 0, copiedBytes: 0 });
    expect(remote.log).toEqual(['list keys', 'list roots', 'list chunks', 'download 2 keys']);
  });

  it('copies kilobytes after a small change', async () => {
    volume.write(100);
    await sync();
    volume.write(1);
    const report = await sync();
    expect(report.copiedFiles).toBe(7);
    expect(report.copiedBytes).toBeLessThan(40_000);
    expect(wholeRoots(volume.context, remote)).toHaveLength(2);
  });

  it('fetches the roots of copies once only', async () => {
    volume.write();
    await sync();
    const copy = volume.copyTo(path.join(base, 'copy'));
    copy.attach();
    copy.write();
    await sync({}, copy);
    remote.files.set('roots/notes.txt', new Uint8Array(5));
    const downloads: string[][] = [];
    const download = remote.download.bind(remote);
    remote.download = (folder, paths, options) => {
      downloads.push([...paths]);
      return download(folder, paths, options);
    };
    const root = `roots/${(await copy.newestRoot()).name}`;
    await sync({ dryRun: true }).catch(() => undefined);
    expect(downloads).toContainEqual([root]);
    downloads.length = 0;
    await sync({ dryRun: true }).catch(() => undefined);
    expect(downloads).not.toContainEqual([root]);
  });

  it('replaces short files, and nothing else', async () => {
    volume.write();
    await sync();
    const [first, second] = remote.names('chunks') as [string, string];
    const { length } = remote.files.get(first)!;
    remote.cut(first);
    remote.files.set(second, remote.files.get(second)!.fill(1));
    expect(await sync()).toMatchObject({ copiedFiles: 1, replacedFiles: 1 });
    expect(remote.files.get(first)!.length).toBe(length);
    expect(remote.files.get(second)!.every((byte) => byte === 1)).toBe(true);
  });

  it('writes a receipt and remembers what it saw', async () => {
    volume.write();
    const report = await sync();
    const receipt = receiptOf(await readRemoteBook(volume.context), remote.url);
    expect(receipt).toMatchObject({ generation: report.generation, root: report.root });
    expect(receipt!.keyFiles).toHaveLength(1);
    const seen = await memory.recall(volume.context.volumeId, remote.url);
    expect(seen?.generation).toBe(report.generation);
  });

  it('is complete although it could not be written down', async () => {
    volume.write();
    fs.writeFileSync(path.join(base, 'state'), 'no folder');
    const report = await sync();
    expect(report.notes.join()).toContain('remember what is there');
    expect(wholeRoots(volume.context, remote)).toHaveLength(1);
  });

  it('stops when it is told to', async () => {
    volume.write();
    const stop = new AbortController();
    const onProgress = (step: SyncProgress): void => {
      if (step.phase === 'chunks') stop.abort();
    };
    await expect(sync({ signal: stop.signal, onProgress })).rejects.toMatchObject({
      code: 'interrupted',
    });
    expect(remote.names('roots')).toEqual([]);
    expect(await sync()).toMatchObject({ notes: [] });
  });

  it('notices when the remote loses what was copied', async () => {
    volume.write();
    const list = remote.list.bind(remote);
    remote.list = async (folder) => (folder === 'chunks' ? [] : list(folder));
    await expect(sync()).rejects.toMatchObject({ code: 'remote' });
    expect(remote.names('roots')).toEqual([]);
  });

  it('puts a root that does not read back there once more', async () => {
    volume.write();
    const upload = remote.upload.bind(remote);
    let broken = 0;
    remote.upload = async (folder, paths, options) => {
      await upload(folder, paths, options);
      if (paths[0]!.startsWith('roots/') && broken++ === 0) remote.files.get(paths[0]!)!.fill(0);
    };
    await sync();
    expect(wholeRoots(volume.context, remote)).toHaveLength(1);
  });

  it.each(['roots', 'keys'])('puts what was damaged in %s there once more', async (folder) => {
    volume.write();
    await sync();
    const [name] = remote.names(folder) as [string];
    const whole = Buffer.from(remote.files.get(name)!);
    remote.files.get(name)!.fill(0);
    const report = await sync();
    expect(report.notes).toEqual([`${name} was damaged there, and is whole again`]);
    expect(Buffer.compare(remote.files.get(name)!, whole)).toBe(0);
    expect((await sync()).notes).toEqual([]);
  });
});

describe('runSync with --dry-run', () => {
  it('says what would be copied and changes nothing', async () => {
    volume.write();
    const { generation } = (await volume.sealNow()).root;
    volume.write();
    const report = await sync({ dryRun: true });
    expect(report).toMatchObject({ dryRun: true, generation, copiedFiles: 8, unsealedBytes: 0 });
    expect(remote.files.size).toBe(0);
    expect(await memory.recall(volume.context.volumeId, remote.url)).toBeNull();
    expect(fs.readdirSync(local('chunks'))).toHaveLength(6);
    const real = await sync();
    expect(real.copiedFiles).toBe(14);
  });
});

describe('a remote that is not ours', () => {
  let other: SealedVolume;

  beforeEach(async () => {
    other = await SealedVolume.create(path.join(base, 'other'));
    other.write();
    volume.write();
  });

  it('is left alone when it holds another volume', async () => {
    await sync({}, other);
    await refused(sync(), 'remote-foreign', 1);
    await refused(sync({ dryRun: true }), 'remote-foreign', 1);
  });

  it('is known by its roots where key files are missing', async () => {
    await sync({}, other);
    for (const name of remote.names('keys')) remote.files.delete(name);
    await refused(sync(), 'remote-foreign', 1);
  });

  it('is known by its key file where roots are missing', async () => {
    await sync({}, other);
    for (const name of remote.names('roots')) remote.files.delete(name);
    await refused(sync(), 'remote-foreign', 1);
  });

  it('is ours when only somebody else has left a root there', async () => {
    await sync();
    const root = await other.sealNow();
    remote.files.set(`roots/${root.name}`, root.bytes);
    volume.write();
    expect(await sync()).toMatchObject({ copiedFiles: 7 });
  });
});

describe('a volume that was written in two copies', () => {
  let copy: SealedVolume;

  beforeEach(async () => {
    volume.write();
    await sync();
    copy = volume.copyTo(path.join(base, 'copy'));
    copy.attach();
  });

  it('is refused on the side that comes second, and accepted once', async () => {
    volume.write();
    await volume.sealNow();
    volume.write();
    await sync();
    copy.write();
    await refused(sync({}, copy), 'fork', 6);
    await refused(sync({ dryRun: true }, copy), 'fork', 6);
    const { generation } = await sync({ acceptFork: true }, copy);
    expect(Math.max(...wholeRoots(volume.context, remote))).toBe(generation);
    copy.write();
    await sync({}, copy);
    expect(wholeRoots(volume.context, remote)).toHaveLength(4);
    await refused(sync(), 'fork', 6);
    await sync({ acceptFork: true });
    volume.write();
    await sync();
    await refused(sync({}, copy), 'fork', 6);
  });

  it('has the passphrases of the one that was accepted last, whoever changed theirs how often', async () => {
    await volume.changeKeys();
    await volume.changeKeys();
    volume.write();
    await sync();
    await copy.changeKeys();
    copy.write();
    await sync({ acceptFork: true }, copy);
    const [newest] = await ownKeyFiles(copy.context);
    const counters = remote.names('keys').map((name) => {
      return [name, decodeOwn(copy.context.keys, remote.files.get(name)!)!.counter] as const;
    });
    const [highest] = counters.sort(([, a], [, b]) => b - a);
    expect(highest![0]).toBe(`keys/${newest!.name}`);
    expect(counters[1]![1]).toBeLessThan(highest![1]);
  });

  it('is refused though the root of the other could not be read at first', async () => {
    copy.write();
    // On another machine: here nobody knows what it has brought there.
    await sync({ memory: new RemoteMemory(environment.files, path.join(base, 'elsewhere')) }, copy);
    const name = `roots/${(await copy.newestRoot()).name}`;
    const whole = remote.files.get(name)!;
    remote.files.set(
      name,
      whole.map((byte) => byte ^ 1),
    );
    await sync({ dryRun: true });
    remote.files.set(name, whole);
    volume.write();
    await refused(sync(), 'fork', 6);
  });

  it('is refused when the remote is ahead', async () => {
    volume.write();
    await sync();
    await refused(sync({}, copy), 'fork', 6);
  });

  it('is no fork when one goes on from the other', async () => {
    copy.write();
    await sync({}, copy);
    const third = copy.copyTo(path.join(base, 'third'));
    third.attach();
    third.write();
    await sync({}, third);
    expect(wholeRoots(volume.context, remote)).toHaveLength(3);
  });

  it('is noticed when the other copy comes while we are copying', async () => {
    volume.write();
    await volume.sealNow();
    copy.write();
    const upload = remote.upload.bind(remote);
    remote.upload = async (folder, paths, options) => {
      remote.upload = upload;
      await upload(folder, paths, options);
      await sync({}, copy);
    };
    const before = (await volume.newestRoot()).name;
    await expect(sync()).rejects.toMatchObject({ code: 'fork' });
    expect(remote.names('roots')).not.toContain(`roots/${before}`);
  });

  it('is no fork when the folder was copied there by hand with its open root', async () => {
    const name = await volume.checkpoint(false);
    remote.files.set(`roots/${name}`, fs.readFileSync(local(`roots/${name}`)));
    expect(await sync()).toMatchObject({ copiedFiles: 0 });
  });
});

describe('a remote that went back in time', () => {
  beforeEach(async () => {
    volume.write();
    await sync();
    volume.write();
    const newest = await sync();
    remote.files.delete(`roots/${newest.root}`);
  });

  it('is refused, and can be accepted', async () => {
    await refused(sync(), 'rollback', 6);
    await sync({ acceptRollback: true });
    await sync();
  });

  it('is refused when it is empty', async () => {
    remote.files.clear();
    await refused(sync(), 'rollback', 6);
  });

  it('is known by the receipt where the memory is gone, and by the memory where that is gone', async () => {
    fs.rmSync(path.join(base, 'state'), { recursive: true });
    await refused(sync(), 'rollback', 6);
    await sync({ acceptRollback: true });
    remote.files.delete(`roots/${(await volume.newestRoot()).name}`);
    fs.rmSync(local('local'), { recursive: true });
    await refused(sync(), 'rollback', 6);
  });

  it('is told that nothing can be told on a machine that knows neither', async () => {
    fs.rmSync(path.join(base, 'state'), { recursive: true });
    fs.rmSync(local('local'), { recursive: true });
    expect((await sync()).notes.join()).toContain('has not seen memory:there before');
  });
});

describe('a folder with losses', () => {
  let members: string[];

  beforeEach(async () => {
    volume.write();
    await volume.sealNow();
    members = volume.groups()[0]!.paths;
  });

  it('is copied as far as it is whole, up to what parity replaces', async () => {
    fs.rmSync(members[0]!);
    fs.truncateSync(members[5]!, 1000);
    const report = await sync();
    expect(remote.names('chunks')).toHaveLength(4);
    expect(report.localFaults.map((member) => member.place)).toEqual([0, 5]);
    expect(report.missing).toEqual(report.localFaults);
    expect(report.notes.join()).toContain('run chunkvol repair');
    expect(wholeRoots(volume.context, remote)).toHaveLength(1);
  });

  it('is refused beyond that, before anything is copied', async () => {
    for (const member of members.slice(0, 3)) fs.rmSync(member);
    await refused(sync(), 'lost', 4);
  });

  it('is no loss when the remote has the files', async () => {
    await sync();
    for (const member of members.slice(0, 3)) fs.rmSync(member);
    volume.write();
    const report = await sync();
    expect(report.localFaults).toHaveLength(3);
    expect(report.missing).toEqual([]);
    expect(report.notes.join()).toContain('the remote has them all');
  });

  it('is refused without a key file', async () => {
    fs.rmSync(local('keys'), { recursive: true });
    await refused(sync(), 'damaged', 4);
  });
});

describe('key files', () => {
  beforeEach(async () => {
    volume.write();
    await sync();
    await volume.changeKeys();
  });

  it('are replaced there, ours only', async () => {
    const foreign = `keys/${'0'.repeat(32)}`;
    remote.files.set(foreign, new Uint8Array(80));
    expect((await sync()).removedKeyFiles).toBe(1);
    const ours = fs.readdirSync(local('keys')).map((name) => `keys/${name}`);
    expect(remote.names('keys')).toEqual([...ours, foreign].sort());
  });

  it('that a newer one has replaced here are not copied', async () => {
    await sync();
    const [old] = remote.names('keys') as [string];
    const bytes = remote.files.get(old)!;
    await volume.changeKeys();
    fs.writeFileSync(local(old), bytes);
    remote.files.delete(old);
    await sync();
    expect(remote.names('keys')).toHaveLength(1);
    expect(remote.names('keys')).not.toContain(old);
  });

  it('that are damaged here do not take the place of good ones there', async () => {
    await sync();
    const there = remote.names('keys').map((name) => [name, remote.files.get(name)] as const);
    const [name] = fs.readdirSync(local('keys')) as [string];
    const whole = fs.readFileSync(path.join(local('keys'), name));
    for (const damaged of [Buffer.alloc(0), Buffer.alloc(whole.length)]) {
      fs.writeFileSync(path.join(local('keys'), name), damaged);
      await refused(sync(), 'damaged', 4);
      expect(remote.names('keys').map((each) => [each, remote.files.get(each)])).toEqual(there);
    }
  });

  it('stay where nothing can be removed, and that is told', async () => {
    remote.writeOnce = true;
    const report = await sync();
    expect(report.removedKeyFiles).toBe(0);
    expect(report.notes.join()).toContain('old passphrases');
    expect(remote.names('keys')).toHaveLength(2);
    remote.writeOnce = false;
    expect((await sync()).removedKeyFiles).toBe(1);
  });

  it('of a newer date, put there by another copy, stay', async () => {
    const copy = volume.copyTo(path.join(base, 'copy'));
    await copy.changeKeys();
    const [name] = fs.readdirSync(path.join(base, 'copy', 'keys')) as [string];
    const bytes = fs.readFileSync(path.join(base, 'copy', 'keys', name));
    remote.files.set(`keys/${name}`, new Uint8Array(bytes));
    await sync();
    expect(remote.names('keys')).toContain(`keys/${name}`);
  });
});
