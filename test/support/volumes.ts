/** Volumes for tests: small, with the cheapest key derivation, in a folder of their own. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { onTestFinished } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { GIB, KIB, MIB } from '../../src/base/bytes.js';
import { makeGeometry } from '../../src/base/geometry.js';
import { nodeFiles } from '../../src/base/node-files.js';
import { kernelRandomness } from '../../src/base/randomness.js';
import { chooseEngine } from '../../src/crypto/engines.js';
import type { Credential } from '../../src/crypto/key-slot.js';
import type { Environment } from '../../src/store/context.js';
import { unlock } from '../../src/store/key-files.js';
import { createVolume, type CreateOptions } from '../../src/volume/create.js';
import { openVolume, type OpenOptions } from '../../src/volume/open.js';
import type { Volume } from '../../src/volume/volume.js';

export const passphrase: Credential = {
  kind: 'passphrase',
  passphrase: Buffer.from('correct horse battery staple'),
};

/** A key file opens without Argon2: tests that open often use it. */
export const keyFile: Credential = { kind: 'key-file', secret: Buffer.alloc(32, 7) };

export const environment: Environment = {
  files: nodeFiles,
  clock: systemClock,
  random: kernelRandomness,
  engine: chooseEngine(),
};

/** A fresh folder, removed when the test ends. */
export function temporaryFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chunkvol-test-'));
  onTestFinished(() => {
    fs.rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

export async function makeVolume(
  folder: string,
  options: Partial<CreateOptions> & { data?: number; parity?: number; chunkBytes?: number } = {},
  world: Environment = environment,
): Promise<void> {
  const { data = 4, parity = 2, chunkBytes = MIB, blockBytes = 4 * KIB, ...rest } = options;
  await createVolume(world, folder, {
    name: 'test',
    sizeBytes: GIB,
    geometry: makeGeometry(data, parity, chunkBytes, blockBytes),
    blockBytes,
    credential: keyFile,
    ...rest,
  });
}

export async function open(
  folder: string,
  options: Partial<OpenOptions> = {},
  world: Environment = environment,
): Promise<Volume> {
  const unlocked = await unlock(world.files, folder, keyFile);
  return openVolume(world, folder, { unlocked, ...options });
}

/** Bytes that differ from block to block, and from seed to seed. */
export function patterned(bytes: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, bytes);
}
