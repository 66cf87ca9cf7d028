/**
 * Volumes that benchmarks make for themselves: 4 + 2, blocks of 4 KiB, opened with a key file, in this
 * process or by the compiled program.
 */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { GIB, MIB } from '../src/base/bytes.js';
import { systemClock } from '../src/base/clock.js';
import { makeGeometry } from '../src/base/geometry.js';
import { nodeFiles } from '../src/base/node-files.js';
import { kernelRandomness } from '../src/base/randomness.js';
import { chooseEngine } from '../src/crypto/engines.js';
import type { Environment } from '../src/store/context.js';
import { unlock } from '../src/store/key-files.js';
import { createVolume } from '../src/volume/create.js';
import { openVolume } from '../src/volume/open.js';
import type { Volume } from '../src/volume/volume.js';

export const BLOCK_BYTES = 4096;
export const DATA = 4;
export const PARITY = 2;
/** The compiled program, which `npm run bench` builds first. */
export const PROGRAM: string = fileURLToPath(new URL('../../dist/cli/start.cjs', import.meta.url));

const credential = { kind: 'key-file', secret: Buffer.alloc(32, 7) } as const;
export const environment: Environment = {
  files: nodeFiles,
  clock: systemClock,
  random: kernelRandomness,
  engine: chooseEngine(),
};

/** Chunk files of 1 GiB, as `create` makes them, unless told. */
export async function makeVolume(
  path: string,
  sizeBytes: number,
  chunkBytes: number = GIB,
): Promise<void> {
  await createVolume(environment, path, {
    name: 'bench',
    sizeBytes,
    geometry: makeGeometry(DATA, PARITY, chunkBytes, BLOCK_BYTES),
    blockBytes: BLOCK_BYTES,
    credential,
  });
}

export async function open(path: string): Promise<Volume> {
  const unlocked = await unlock(nodeFiles, path, credential);
  return openVolume(environment, path, { unlocked });
}

/** Timers of a volume keep no process alive, as sockets do in a server: this does, during `work`. */
export async function staysAlive<T>(work: () => Promise<T>): Promise<T> {
  const alive = setInterval(() => undefined, 60_000);
  try {
    return await work();
  } finally {
    clearInterval(alive);
  }
}

/** Random bytes over the first part of the disk. */
export async function fill(volume: Volume, bytes: number): Promise<void> {
  for (let at = 0; at < bytes; at += MIB) {
    await volume.write(at, kernelRandomness.bytes(Math.min(MIB, bytes - at)));
  }
  await volume.flush();
}

/** Writes the key that opens these volumes to a file, for the program. */
export function writeKey(path: string): void {
  writeFileSync(path, credential.secret, { mode: 0o600 });
}

/** Runs a program to its end and returns the seconds that it took; throws unless its status is 0. */
export async function secondsOf(
  program: string,
  words: readonly string[],
  cwd?: string,
): Promise<number> {
  const start = performance.now();
  await promisify(execFile)(program, words, { cwd, maxBuffer: 16 * MIB });
  return (performance.now() - start) / 1000;
}
