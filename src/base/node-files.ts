/** The real file system behind the Files interface: node:fs, with the system's errors translated. */
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { settleAll } from './async.js';
import { loadCachedRead } from './cached-read.js';
import { DirectWriter, writeOnce } from './direct-write.js';
import { errnoOf, fromSystem } from './errors.js';
import type { Files, FileStat, OpenFile, OpenMode } from './files.js';

const { O_CREAT, O_EXCL, O_NONBLOCK, O_RDONLY, O_RDWR } = fs.constants;

/** O_NONBLOCK: a pipe that stands where a file should be must not keep anybody waiting for its other end. */
const FLAGS: Record<OpenMode, number> = {
  read: O_RDONLY | O_NONBLOCK,
  update: O_RDWR | O_NONBLOCK,
  create: O_RDWR | O_CREAT | O_EXCL,
};

/** The file system has no hard links, or none from here to there, or no more for this file. */
const NO_LINKS: ReadonlySet<string> = new Set(['EXDEV', 'EPERM', 'ENOTSUP', 'ENOSYS', 'EMLINK']);

/** Reads and writes are split into requests of at most this size (Linux itself stops at 2 GiB). */
const MAX_REQUEST_BYTES = 1 << 30;

/**
 * Writes up to this size are made at once: they go to the page cache in a few microseconds, while a
 * turn through the thread pool costs tens.
 */
const MAX_IMMEDIATE_BYTES = 16 * 1024;

const open = promisify(fs.open);
const fsync = promisify(fs.fsync);
const fdatasync = promisify(fs.fdatasync);
const ftruncate = promisify(fs.ftruncate);
const fstat = promisify(fs.fstat);
const close = promisify(fs.close);

const cachedRead = loadCachedRead();

class NodeFile implements OpenFile {
  private readonly direct: DirectWriter;

  constructor(
    readonly path: string,
    private readonly fd: number,
  ) {
    this.direct = new DirectWriter(fd);
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const want = Math.min(into.length - done, MAX_REQUEST_BYTES);
      const got = await readOnce(this.fd, into, done, want, position + done).catch(
        this.failed('read'),
      );
      if (got === 0) break;
      done += got;
    }
    return done;
  }

  readNow(into: Uint8Array, position: number): boolean {
    return cachedRead !== null && cachedRead(this.fd, into, position);
  }

  async write(bytes: Uint8Array, position: number, cache?: 'bypass'): Promise<void> {
    let done = 0;
    if (bytes.length <= MAX_IMMEDIATE_BYTES) done = this.writeNow(bytes, position);
    else if (cache === 'bypass') done = await this.writeDirect(bytes, position);
    while (done < bytes.length) {
      const want = Math.min(bytes.length - done, MAX_REQUEST_BYTES);
      done += await writeOnce(this.fd, bytes, done, want, position + done).catch(
        this.failed('write'),
      );
    }
  }

  private writeDirect(bytes: Uint8Array, position: number): Promise<number> {
    return this.direct.write(bytes, position).catch(this.failed('write'));
  }

  private writeNow(bytes: Uint8Array, position: number): number {
    try {
      return fs.writeSync(this.fd, bytes, 0, bytes.length, position);
    } catch (error) {
      return this.failed('write')(error);
    }
  }

  async sync(): Promise<void> {
    await fdatasync(this.fd).catch(this.failed('sync'));
  }

  async truncate(bytes: number): Promise<void> {
    await ftruncate(this.fd, bytes).catch(this.failed('truncate'));
  }

  async size(): Promise<number> {
    return (await fstat(this.fd).catch(this.failed('stat'))).size;
  }

  async close(): Promise<void> {
    await settleAll([this.direct.close(), close(this.fd)]).catch(this.failed('close'));
  }

  private failed(action: string): (error: unknown) => never {
    return (error) => {
      throw fromSystem(error, action, this.path);
    };
  }
}

/** fs.read by callback: half the cost of the promise form (see bench/). */
function readOnce(
  fd: number,
  into: Uint8Array,
  offset: number,
  length: number,
  position: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(fd, into, offset, length, position, (error, got) => {
      if (error) reject(error);
      else resolve(got);
    });
  });
}

async function attempt<T>(action: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fromSystem(error, action, path);
  }
}

/** The same, with `fallback` where the path does not exist. */
async function attemptUnlessGone<T>(
  action: string,
  path: string,
  fallback: T,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return fallback;
    throw fromSystem(error, action, path);
  }
}

/** Node's own recursive mkdir never ends where a folder exists and takes none, as in /proc. */
async function makeFolders(path: string, mode: number): Promise<void> {
  try {
    await makeOne(path, mode);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
    await makeFolders(dirname(path), mode);
    await makeOne(path, mode);
  }
}

async function makeOne(path: string, mode: number): Promise<void> {
  try {
    await fs.promises.mkdir(path, mode);
  } catch (error) {
    const isThere = errnoOf(error) === 'EEXIST' && (await fs.promises.stat(path)).isDirectory();
    if (!isThere) throw error;
  }
}

export const nodeFiles: Files = {
  async open(path, mode) {
    return attempt(mode === 'create' ? 'create' : 'open', path, async () => {
      const fd = await open(path, FLAGS[mode], 0o600);
      try {
        if (!(await fstat(fd)).isFile()) throw new Error('it is not a file');
        return new NodeFile(path, fd);
      } catch (error) {
        await close(fd);
        throw error;
      }
    });
  },

  async stat(path) {
    return attemptUnlessGone<FileStat | null>('stat', path, null, async () => {
      const stat = await fs.promises.stat(path);
      return {
        kind: stat.isFile() ? 'file' : stat.isDirectory() ? 'folder' : 'other',
        bytes: stat.size,
        modifiedMs: stat.mtimeMs,
        device: String(stat.dev),
        inode: String(stat.ino),
      };
    });
  },

  async list(folder) {
    return attemptUnlessGone<string[]>('list', folder, [], async () =>
      (await fs.promises.readdir(folder)).sort(),
    );
  },

  async makeFolder(path, mode = 0o700) {
    await attempt('create', path, () => makeFolders(path, mode));
  },

  async rename(from, to) {
    await attempt('rename', from, () => fs.promises.rename(from, to));
  },

  async link(from, to) {
    try {
      await fs.promises.link(from, to);
      return true;
    } catch (error) {
      if (NO_LINKS.has(errnoOf(error))) return false;
      throw fromSystem(error, 'link', from);
    }
  },

  async remove(path) {
    await attemptUnlessGone('remove', path, undefined, () => fs.promises.unlink(path));
  },

  async syncFolder(path) {
    await attempt('sync', path, async () => {
      const fd = fs.openSync(path, 'r');
      try {
        await fsync(fd);
      } finally {
        fs.closeSync(fd);
      }
    });
  },

  async touch(path, modifiedMs) {
    const seconds = modifiedMs / 1000;
    await attempt('set the time of', path, () => fs.promises.utimes(path, seconds, seconds));
  },

  async freeBytes(path) {
    return attempt('stat', path, async () => {
      const stat = await fs.promises.statfs(path);
      return stat.bavail * stat.bsize;
    });
  },
};
