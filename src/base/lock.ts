/**
 * The lock on a volume's folder: at most one process has a volume open for writing.
 *
 * Two locks in one, because neither sees everything:
 * - An abstract Unix socket named after the folder's device and inode. The kernel releases it with the
 *   process, however that ends. It is seen from everywhere in the same network namespace.
 * - The file local/lock, which says who holds the volume. It is seen from other namespaces and other
 *   machines too, but outlives a process that was killed: `judgeLock` tells whether it is stale.
 */
import { createHash, randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import { ChunkvolError, errnoOf, fromSystem } from './errors.js';

export interface FolderLocks {
  /** Throws ChunkvolError: 'in-use' when another process holds the folder, 'io'. */
  acquire(folder: string): Promise<FolderLock>;
}

export interface FolderLock {
  /** No effect the second time. */
  release(): Promise<void>;
}

/** What local/lock says of its holder. */
export interface LockRecord {
  readonly pid: number;
  /** Clock ticks from the boot to the process's start: tells it from a later one of the same number. */
  readonly startTicks: string;
  /** Process numbers mean nothing outside of their namespace. */
  readonly pidNamespace: string;
  /** Changes with every boot. */
  readonly bootId: string;
  readonly machineId: string;
  readonly host: string;
  /** The folder's device and inode number: tells it from a copy of it. */
  readonly device: string;
  readonly inode: string;
}

/** Of a lock file: `stale` may be replaced, the others name who is presumed to hold the volume. */
export type Verdict = 'stale' | 'process' | 'container' | 'host';

export const systemLocks: FolderLocks = {
  async acquire(folder) {
    const here = describeProcess(folder);
    const socket = await lockInKernel(folder);
    try {
      let written = takeLockFile(folder, here);
      return {
        async release() {
          if (written) removeLockFile(folder, here);
          written = false;
          await socket.release();
        },
      };
    } catch (error) {
      await socket.release();
      throw error;
    }
  },
};

/**
 * The abstract socket alone, for a folder that is locked for a moment only.
 * Throws ChunkvolError: 'in-use' when another process has it, 'io'.
 */
export async function lockInKernel(folder: string): Promise<FolderLock> {
  const { device, inode } = folderIdentity(folder);
  const server = net.createServer((socket) => socket.destroy());
  try {
    await listen(server, abstractName(`${device}:${inode}`));
  } catch (error) {
    if (errnoOf(error) !== 'EADDRINUSE') throw fromSystem(error, 'lock', folder);
    const record = readRecord(lockPath(folder));
    const holds = record !== null && startTicksOf(record.pid) === record.startTicks;
    throw inUse(folder, holds ? record : null, 'process');
  }
  server.unref();
  return {
    release: () =>
      new Promise((resolve) => {
        // An error says that it is closed already: releasing twice is allowed.
        server.close(() => {
          resolve();
        });
      }),
  };
}

function listen(server: net.Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path }, resolve);
  });
}

/** All 108 bytes of a socket's address are used, as versions of Node differ in how they pad shorter ones. */
const ABSTRACT_NAME_BYTES = 108;

function abstractName(identity: string): string {
  const digest = createHash('sha256').update(identity).digest('hex');
  return `\0chunkvol/${digest}`.padEnd(ABSTRACT_NAME_BYTES, '.');
}

/** Whether the holder that `record` names may still be at work, seen from the process of `here`. */
export function judgeLock(
  record: LockRecord,
  here: LockRecord,
  startTicksOf: (pid: number) => string | null,
): Verdict {
  const sameInode = record.inode === here.inode;
  if (record.bootId === here.bootId) {
    if (!sameInode || record.device !== here.device) return 'stale';
    if (record.pidNamespace !== here.pidNamespace) return 'container';
    return startTicksOf(record.pid) === record.startTicks ? 'process' : 'stale';
  }
  if (record.machineId === here.machineId) return 'stale';
  // Device numbers differ from machine to machine; the inode of a shared folder does not.
  return sameInode ? 'host' : 'stale';
}

/** Writes local/lock; false where the folder cannot be written to, which a read-only volume may be. */
function takeLockFile(folder: string, here: LockRecord): boolean {
  const path = lockPath(folder);
  const temporary = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    fs.mkdirSync(`${folder}/local`, { recursive: true, mode: 0o700 });
    fs.writeFileSync(temporary, `${JSON.stringify(here)}\n`, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if (['EROFS', 'EACCES', 'EPERM'].includes(errnoOf(error))) return false;
    fs.rmSync(temporary, { force: true });
    throw fromSystem(error, 'write', temporary);
  }
  try {
    removeStale(folder, here, `${temporary}.stale`);
    linkOrWrite(temporary, path, here);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') throw inUse(folder, readRecord(path), 'container');
    throw fromSystem(error, 'write', path);
  } finally {
    fs.rmSync(temporary, { force: true });
  }
}

const NO_LINKS = ['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'];

/** Neither ever replaces a file: of two processes that come here at once, one fails with EEXIST. */
function linkOrWrite(temporary: string, path: string, here: LockRecord): void {
  try {
    fs.linkSync(temporary, path);
  } catch (error) {
    if (!NO_LINKS.includes(errnoOf(error))) throw error;
    // On a file system without links there is a moment in which the file is empty.
    fs.writeFileSync(path, `${JSON.stringify(here)}\n`, { flag: 'wx', mode: 0o600 });
  }
}

/**
 * Removes a stale file. It is moved aside first, to see that it is the one that was judged: another
 * process may have replaced it in between.
 */
function removeStale(folder: string, here: LockRecord, aside: string): void {
  const path = lockPath(folder);
  if (!fs.existsSync(path)) return;
  const judged = readRecord(path);
  const verdict = judged === null ? 'stale' : judgeLock(judged, here, startTicksOf);
  if (verdict !== 'stale') throw inUse(folder, judged, verdict);
  fs.renameSync(path, aside);
  const moved = readRecord(aside);
  const same = JSON.stringify(moved) === JSON.stringify(judged);
  if (!same) fs.renameSync(aside, path);
  fs.rmSync(aside, { force: true });
  if (!same) throw inUse(folder, moved, 'container');
}

function removeLockFile(folder: string, here: LockRecord): void {
  const record = readRecord(lockPath(folder));
  const ours = record?.pid === here.pid && record.startTicks === here.startTicks;
  if (ours) fs.rmSync(lockPath(folder), { force: true });
}

/** null when there is none, or one that a power cut left torn. */
function readRecord(path: string): LockRecord | null {
  try {
    const parsed: unknown = JSON.parse(fs.readFileSync(path, 'utf8'));
    return isLockRecord(parsed) ? parsed : null;
  } catch (error) {
    if (error instanceof SyntaxError || errnoOf(error) === 'ENOENT') return null;
    throw fromSystem(error, 'read', path);
  }
}

const TEXT_FIELDS = [
  'startTicks',
  'pidNamespace',
  'bootId',
  'machineId',
  'host',
  'device',
  'inode',
] as const satisfies readonly (keyof LockRecord)[];

function isLockRecord(value: unknown): value is LockRecord {
  if (typeof value !== 'object' || value === null) return false;
  const record = value as Partial<Record<keyof LockRecord, unknown>>;
  const texts = TEXT_FIELDS.every((field) => typeof record[field] === 'string');
  return texts && Number.isSafeInteger(record.pid);
}

function inUse(folder: string, record: LockRecord | null, verdict: Verdict): ChunkvolError {
  return new ChunkvolError('in-use', `the volume in ${folder} is in use by ${holder()}`);

  function holder(): string {
    if (record === null) return 'another process';
    const remedy = `if that is surely gone, remove ${lockPath(folder)}`;
    if (verdict === 'host') return `process ${record.pid} on host ${record.host}; ${remedy}`;
    if (verdict === 'container') {
      return `process ${record.pid} of another container (${record.host}); ${remedy}`;
    }
    return `process ${record.pid} (${commandOf(record.pid)})`;
  }
}

function commandOf(pid: number): string {
  const line = readOrEmpty(`/proc/${pid}/cmdline`).split('\0').filter(Boolean);
  return line.slice(0, 3).map(baseName).join(' ') || 'unknown';
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Throws ChunkvolError('not-a-volume') where there is no such folder, 'io'. */
export function folderIdentity(folder: string): { device: string; inode: string } {
  try {
    const { dev, ino } = fs.statSync(folder, { bigint: true });
    return { device: String(dev), inode: String(ino) };
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw fromSystem(error, 'open', folder);
    throw new ChunkvolError('not-a-volume', `${folder} does not exist`, { cause: error });
  }
}

function describeProcess(folder: string): LockRecord {
  const host = os.hostname();
  return {
    pid: process.pid,
    startTicks: startTicksOf(process.pid) ?? '',
    pidNamespace: readLinkOrEmpty('/proc/self/ns/pid'),
    bootId: readOrEmpty('/proc/sys/kernel/random/boot_id').trim(),
    machineId: readOrEmpty('/etc/machine-id').trim() || host,
    host,
    ...folderIdentity(folder),
  };
}

const START_TIME_FIELD = 22;

/** null when there is no such process, or only its remains. Field numbers are those of proc(5). */
function startTicksOf(pid: number): string | null {
  const stat = readOrEmpty(`/proc/${pid}/stat`);
  // The second field, the command in parentheses, may itself hold spaces and parentheses.
  const rest = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ended = rest[0] === 'Z' || rest[0] === 'X';
  return ended ? null : (rest[START_TIME_FIELD - 3] ?? null);
}

function readOrEmpty(path: string): string {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function readLinkOrEmpty(path: string): string {
  try {
    return fs.readlinkSync(path);
  } catch {
    return '';
  }
}

function lockPath(folder: string): string {
  return `${folder}/local/lock`;
}
