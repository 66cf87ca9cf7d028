// The files of the demo: real ones (the packages that npm has installed) and photographs' worth of noise,
// and the checksums by which they are compared.
import { createHash, randomBytes } from 'node:crypto';
import { copyFile, lstat, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const REAL_FILES = fileURLToPath(new URL('../node_modules', import.meta.url));
const MAX_REAL_FILES = 1000;
const MAX_REAL_BYTES = 50e6;
const MAX_FILE_BYTES = 10e6;
const NOISE_FILES = 20;
const NOISE_BYTES = 4e6;

/** Stands in files of the tree, so that it can be looked for where nobody should find it. */
export const SECRET = 'The safe is behind the painting.';

/** Makes the tree in `folder`; returns the number of files and bytes. */
export async function makeFiles(folder, stage) {
  let files = 0;
  let bytes = 0;
  for await (const source of walk(REAL_FILES)) {
    stage.checkSignal();
    const { size } = await lstat(source);
    if (size > MAX_FILE_BYTES || bytes + size > MAX_REAL_BYTES) continue;
    const target = join(folder, 'packages', relative(REAL_FILES, source));
    await mkdir(dirname(target), { recursive: true });
    await copyFile(source, target);
    bytes += size;
    if (++files === MAX_REAL_FILES) break;
  }
  await mkdir(join(folder, 'photos'), { recursive: true });
  for (let number = 1; number <= NOISE_FILES; number++) {
    await writeFile(join(folder, 'photos', `${number}.jpg`), randomBytes(NOISE_BYTES));
  }
  const letter = `${SECRET}\n`.repeat(1000);
  await writeFile(join(folder, 'letter.txt'), letter);
  return {
    files: files + NOISE_FILES + 1,
    bytes: bytes + NOISE_FILES * NOISE_BYTES + letter.length,
  };
}

/** SHA-256 of each file below `folder`, by path. */
export async function checksums(folder, stage) {
  const sums = new Map();
  for await (const path of walk(folder)) {
    stage.checkSignal();
    sums.set(relative(folder, path), sha256(await readFile(path)));
  }
  return sums;
}

/** Throws unless both hold the same paths and checksums; returns how many. */
export function compare(expected, found) {
  const paths = new Set([...expected.keys(), ...found.keys()]);
  const different = [...paths].filter((path) => expected.get(path) !== found.get(path));
  if (different.length === 0 && expected.size > 0) return expected.size;
  const examples = different.slice(0, 5).join(', ');
  throw new Error(
    `${different.length} of ${expected.size} files are not what they were: ${examples}`,
  );
}

/** One checksum over all of them. */
export function summary(sums) {
  const lines = [...sums].map(([path, sum]) => `${sum}  ${path}\n`).sort();
  return sha256(lines.join(''));
}

export function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Paths of the files below a folder, each folder's in the order of their names. */
export async function* walk(folder) {
  const entries = await readdir(folder, { withFileTypes: true });
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* walk(path);
    else if (entry.isFile()) yield path;
  }
}
