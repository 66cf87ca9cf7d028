/**
 * Trees of files for tests of file systems: made of what the machine has in /usr/share and of generated
 * files, so that they are as large as asked for on any machine, and compared by digests.
 */
import { createCipheriv, createHash } from 'node:crypto';
import type { Dirent } from 'node:fs';
import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  readFile,
  readdir,
  readlink,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';

const REAL_FILES = '/usr/share';
/** Larger files would leave the tree with too few. */
const MAX_REAL_FILE_BYTES = 4 * 2 ** 20;
/** How much of the tree may be real; the rest is generated, which is tested in this way everywhere. */
const REAL_PART = 0.7;

const SMALL_FILE_BYTES = 12_000;
const LARGE_FILE_BYTES = 8 * 2 ** 20;
const FILES_PER_FOLDER = 100;
const PARALLEL = 16;

/** What is at a path: `link TARGET` or `MODE SHA-256`. */
export type TreeDigest = ReadonlyMap<string, string>;

/** Makes a tree of at least so many files and bytes in `folder`, which must not be there. */
export async function makeTree(
  folder: string,
  minimum: { readonly files: number; readonly bytes: number },
): Promise<void> {
  const real = await copyReal(join(folder, 'real'), {
    files: minimum.files * REAL_PART,
    bytes: minimum.bytes * REAL_PART,
  });
  await generate(join(folder, 'generated'), {
    files: minimum.files - real.files,
    bytes: minimum.bytes - real.bytes,
  });
}

/** Digests of everything in a tree but folders, by path. */
export async function digestTree(folder: string): Promise<TreeDigest> {
  const paths: string[] = [];
  for await (const path of walk(folder)) paths.push(path);
  const digests = new Map<string, string>(paths.map((path) => [path, '']));
  await inParallel(paths, async (path) => {
    digests.set(path, await digestFile(join(folder, path)));
  });
  return digests;
}

/** Digests of the named files, by path. */
export async function digestFiles(paths: readonly string[]): Promise<TreeDigest> {
  const digests = new Map<string, string>();
  for (const path of paths) digests.set(path, await digestFile(path));
  return digests;
}

/** Paths that are not the same in both: few, so that a failing test can show them. */
export function differences(expected: TreeDigest, found: TreeDigest): string[] {
  const paths = new Set([...expected.keys(), ...found.keys()]);
  const different = [...paths].filter((path) => expected.get(path) !== found.get(path));
  return different
    .slice(0, 20)
    .map(
      (path) => `${path}: ${expected.get(path) ?? 'absent'} became ${found.get(path) ?? 'absent'}`,
    );
}

async function digestFile(path: string): Promise<string> {
  const stat = await lstat(path);
  if (stat.isSymbolicLink()) return `link ${await readlink(path)}`;
  const digest = createHash('sha256').update(await readFile(path));
  return `${(stat.mode & 0o7777).toString(8)} ${digest.digest('hex')}`;
}

/** Copies files and links of this machine as long as there is room for them; returns how much that was. */
async function copyReal(
  folder: string,
  room: { readonly files: number; readonly bytes: number },
): Promise<{ files: number; bytes: number }> {
  const done = { files: 0, bytes: 0 };
  for await (const path of walk(REAL_FILES)) {
    if (done.files >= room.files) break;
    const source = join(REAL_FILES, path);
    const stat = await lstat(source).catch(() => null);
    // Files come and go while packages are installed.
    if (!stat || stat.size > MAX_REAL_FILE_BYTES || done.bytes + stat.size > room.bytes) continue;
    const target = join(folder, path);
    await mkdir(dirname(target), { recursive: true });
    if (stat.isSymbolicLink()) {
      await symlink(await readlink(source), target);
    } else {
      await copyFile(source, target);
      await chmod(target, stat.mode & 0o777);
      done.bytes += stat.size;
      done.files++;
    }
  }
  return done;
}

/** Makes small files until there are enough, then large ones until their bytes are. */
async function generate(
  folder: string,
  wanted: { readonly files: number; readonly bytes: number },
): Promise<void> {
  let bytes = 0;
  for (let index = 0; index < wanted.files; index++) {
    const subfolder = join(folder, `folder ${Math.floor(index / FILES_PER_FOLDER)}`);
    if (index % FILES_PER_FOLDER === 0) await mkdir(subfolder, { recursive: true });
    const length = (index * 7919) % SMALL_FILE_BYTES;
    await writeFile(join(subfolder, oddName(index)), contents(index, length));
    bytes += length;
  }
  await mkdir(join(folder, 'large'), { recursive: true });
  for (let index = 0; bytes < wanted.bytes; index++) {
    await writeFile(join(folder, 'large', `${index}`), contents(index, LARGE_FILE_BYTES));
    bytes += LARGE_FILE_BYTES;
  }
}

/** Of all lengths, up to the 255 bytes that file systems allow, and not in ASCII alone. */
function oddName(index: number): string {
  return `${index} é${'x'.repeat((index * 37) % 240)}`;
}

/** Random bytes, text or zeros, always the same for an index. */
function contents(index: number, bytes: number): Uint8Array {
  const kind = index % 4;
  if (kind === 0) return new Uint8Array(bytes);
  if (kind === 1) return Buffer.alloc(bytes, `line ${index} of a text that repeats itself\n`);
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16, index % 251));
  return cipher.update(Buffer.alloc(bytes, `${index}`));
}

/** Paths of files and links below `folder`, relative to it, each folder in the order of its names. */
async function* walk(folder: string, below = ''): AsyncGenerator<string> {
  const entries = await readdir(join(folder, below), { withFileTypes: true }).catch(ifAbsent);
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(below, entry.name);
    if (entry.isDirectory()) yield* walk(folder, path);
    else if (entry.isFile() || entry.isSymbolicLink()) yield path;
  }
}

/** A folder that is not there has no entries; one that cannot be read is a failure. */
function ifAbsent(error: NodeJS.ErrnoException): Dirent[] {
  if (error.code === 'ENOENT') return [];
  throw error;
}

async function inParallel(
  items: readonly string[],
  work: (item: string) => Promise<void>,
): Promise<void> {
  const rest = items[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}
