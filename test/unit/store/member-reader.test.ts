/** Stored bytes of a member, wherever its file is: all that was asked for, or word that they are not there. */
import * as fs from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import { KIB } from '../../../src/base/bytes.js';
import { partsOf } from '../../support/inside.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

it('are there whole, or not at all: where a file is too short, or gone', async () => {
  const folder = temporaryFolder();
  await makeVolume(folder, { data: 2, parity: 1 });
  const volume = await open(folder);
  onTestFinished(() => volume.close());
  await volume.write(0, patterned(64 * KIB, 1));
  await volume.sealNow();
  const { slots, end } = partsOf(volume);
  const group = end.parts.groups.all().at(-1)!;
  const [path] = group.paths;
  const stored = fs.readFileSync(path!).subarray(8 * KIB, 16 * KIB);
  const bytes = new Uint8Array(8 * KIB);

  expect(await slots.members.read(group, 0, 8 * KIB, bytes)).toBe(true);
  expect(Buffer.compare(bytes, stored)).toBe(0);
  fs.truncateSync(path!, 12 * KIB);
  expect(await slots.members.read(group, 0, 8 * KIB, bytes)).toBe(false);
  expect(await slots.members.read(group, 0, 8 * KIB, bytes.subarray(4 * KIB))).toBe(true);
  fs.rmSync(path!);
  slots.openFiles.forget(path!);
  expect(await slots.members.read(group, 0, 8 * KIB, bytes)).toBe(false);
});
