/** Folders that were copied file by file while they were in use: their open files are long enough, and torn. */
import * as fs from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import type { CollectorParts } from '../../../src/volume/collector.js';
import type { Volume } from '../../../src/volume/volume.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

const BLOCK = 4 * KIB;
const DISK = 2 * MIB;

/** No user asks for a checkpoint: it comes after much was written. */
async function checkpoint(volume: Volume): Promise<void> {
  const inside = volume as unknown as { parts: { collector: { parts: CollectorParts } } };
  const { writePath, checkpointer } = inside.parts.collector.parts;
  await writePath.exclusively(() => checkpointer.checkpoint());
}

it('do not count by roots of groups that were open', async () => {
  const folder = temporaryFolder();
  await makeVolume(folder, { data: 2, parity: 1, sizeBytes: DISK });
  const volume = await open(folder);
  onTestFinished(() => volume.close());
  const versions = [1, 2].map((turn) => (at: number) => patterned(BLOCK, at + turn));
  for (const version of versions) {
    await volume.sealNow();
    for (let at = 0; at < DISK; at += BLOCK) await volume.write(at, version(at));
    await volume.flush();
  }
  const before = fs.readdirSync(`${folder}/roots`).length;
  await checkpoint(volume);
  expect(fs.readdirSync(`${folder}/roots`).length).toBe(before + 1);

  const copy = temporaryFolder();
  fs.cpSync(folder, copy, { recursive: true });
  const torn = volume.groups().find(({ state }) => state === 'open')!;
  for (const path of torn.paths.map((each) => each.replace(folder, copy))) {
    const bytes = fs.readFileSync(path);
    fs.writeFileSync(path, bytes.fill(0x55, bytes.length / 2));
  }
  const copied = await open(copy);
  onTestFinished(() => copied.close());
  const bytes = new Uint8Array(BLOCK);
  const found = [0, 0];
  for (let at = 0; at < DISK; at += BLOCK) {
    await copied.read(at, bytes);
    const which = versions.findIndex((version) => Buffer.compare(version(at), bytes) === 0);
    expect(which, `block at ${at}`).toBeGreaterThanOrEqual(0);
    found[which]!++;
  }
  // The log is followed as far as it came along.
  expect(Math.min(...found)).toBeGreaterThan(0);
});
