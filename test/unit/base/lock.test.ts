import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  folderIdentity,
  judgeLock,
  lockInKernel,
  systemLocks,
  type LockRecord,
} from '../../../src/base/lock.js';

let folder: string;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chunkvol-lock-'));
});

afterEach(() => {
  fs.rmSync(folder, { recursive: true });
});

function lockFile(): string {
  return path.join(folder, 'local', 'lock');
}

function readRecord(): LockRecord {
  return JSON.parse(fs.readFileSync(lockFile(), 'utf8')) as LockRecord;
}

/** What this process writes, with some of it changed, as if somebody else had left it. */
async function leave(changes: Partial<LockRecord>): Promise<LockRecord> {
  const lock = await systemLocks.acquire(folder);
  const record = { ...readRecord(), ...changes };
  await lock.release();
  fs.writeFileSync(lockFile(), JSON.stringify(record));
  return record;
}

describe('systemLocks', () => {
  it('refuses a second holder, and names the first', async () => {
    const lock = await systemLocks.acquire(folder);
    await expect(systemLocks.acquire(folder)).rejects.toMatchObject({
      code: 'in-use',
      message: expect.stringContaining(`process ${process.pid}`) as string,
    });
    await lock.release();
  });

  it('refuses it under another name of the folder, too', async () => {
    const lock = await systemLocks.acquire(folder);
    const alias = `${folder}-alias`;
    fs.symlinkSync(folder, alias);
    try {
      await expect(systemLocks.acquire(alias)).rejects.toMatchObject({ code: 'in-use' });
    } finally {
      fs.rmSync(alias);
      await lock.release();
    }
  });

  it('lets the next one in after the release, and leaves no file', async () => {
    const first = await systemLocks.acquire(folder);
    expect(fs.statSync(lockFile()).mode & 0o777).toBe(0o600);
    await first.release();
    expect(fs.readdirSync(path.join(folder, 'local'))).toEqual([]);
    const second = await systemLocks.acquire(folder);
    await first.release();
    expect(fs.existsSync(lockFile())).toBe(true);
    await second.release();
  });

  it('lets exactly one in of many at once', async () => {
    const attempts = Array.from({ length: 20 }, () => systemLocks.acquire(folder));
    const results = await Promise.allSettled(attempts);
    const held = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(held).toHaveLength(1);
    await held[0]!.release();
  });

  it('takes over the file of a process that is gone', async () => {
    const child = spawn('true');
    await once(child, 'exit');
    await leave({ pid: child.pid!, startTicks: '12345' });
    const lock = await systemLocks.acquire(folder);
    expect(readRecord().pid).toBe(process.pid);
    await lock.release();
  });

  it('takes over the file of an earlier process with the same number', async () => {
    await leave({ pid: process.ppid, startTicks: '1' });
    await (await systemLocks.acquire(folder)).release();
  });

  it('refuses while the file names a living process, whatever its network namespace', async () => {
    const stat = fs.readFileSync(`/proc/${process.ppid}/stat`, 'utf8');
    const startTicks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!;
    await leave({ pid: process.ppid, startTicks });
    await expect(systemLocks.acquire(folder)).rejects.toMatchObject({
      code: 'in-use',
      message: expect.stringContaining(`process ${process.ppid}`) as string,
    });
    // The refusal must not have kept the kernel's lock.
    fs.rmSync(lockFile());
    await (await systemLocks.acquire(folder)).release();
  });

  it('takes over the file that came along with a copy of the folder', async () => {
    const lock = await systemLocks.acquire(folder);
    const copy = `${folder}-copy`;
    fs.cpSync(folder, copy, { recursive: true });
    const second = await systemLocks.acquire(copy);
    await second.release();
    await lock.release();
    fs.rmSync(copy, { recursive: true });
  });

  it('refuses when another machine holds the folder, and says what to do', async () => {
    const changes = { bootId: 'other boot', machineId: 'other machine', host: 'nas', device: '99' };
    await leave(changes);
    await expect(systemLocks.acquire(folder)).rejects.toMatchObject({
      code: 'in-use',
      message: expect.stringMatching(/host nas; .*remove .*local\/lock/) as string,
    });
  });

  it.each(['', '{', 'null', '{"pid": "x"}'])('takes over the torn file %j', async (contents) => {
    fs.mkdirSync(path.join(folder, 'local'));
    fs.writeFileSync(lockFile(), contents);
    await (await systemLocks.acquire(folder)).release();
  });

  it('says that there is no such folder', async () => {
    await expect(systemLocks.acquire(`${folder}/none`)).rejects.toMatchObject({
      code: 'not-a-volume',
    });
  });
});

describe('lockInKernel', () => {
  it('writes nothing', async () => {
    const lock = await lockInKernel(folder);
    await expect(lockInKernel(folder)).rejects.toMatchObject({ code: 'in-use' });
    expect(fs.readdirSync(folder)).toEqual([]);
    await lock.release();
  });
});

describe('judgeLock', () => {
  const here: LockRecord = {
    pid: 100,
    startTicks: '5000',
    pidNamespace: 'pid:[1]',
    bootId: 'boot 1',
    machineId: 'machine 1',
    host: 'one',
    device: '8',
    inode: '77',
  };
  const living = (pid: number): string | null => (pid === 200 ? '6000' : null);
  const holder: LockRecord = { ...here, pid: 200, startTicks: '6000' };

  it.each<[string, Partial<LockRecord>, string]>([
    ['a living process', {}, 'process'],
    ['a process that is gone', { pid: 300 }, 'stale'],
    ['a later process of the same number', { startTicks: '5999' }, 'stale'],
    ['a copy of the folder', { inode: '78' }, 'stale'],
    ['a copy on another disk', { device: '9' }, 'stale'],
    ['a process of another container', { pidNamespace: 'pid:[2]' }, 'container'],
    ['an earlier boot', { bootId: 'boot 0' }, 'stale'],
    ['another machine', { bootId: 'x', machineId: 'machine 2' }, 'host'],
    [
      'another machine, which numbers devices otherwise',
      { bootId: 'x', machineId: 'machine 2', device: '9' },
      'host',
    ],
    ['a copy from another machine', { bootId: 'x', machineId: 'machine 2', inode: '78' }, 'stale'],
  ])('%s', (_, changes, verdict) => {
    expect(judgeLock({ ...holder, ...changes }, here, living)).toBe(verdict);
  });
});

describe('folderIdentity', () => {
  it('is exact for inodes beyond 2^53', () => {
    expect(folderIdentity(folder).inode).toBe(String(fs.statSync(folder, { bigint: true }).ino));
  });
});
