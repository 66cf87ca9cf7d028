/** Stored bytes of a member, wherever its file is: also where it gets another name meanwhile, or is too short. */
import * as fs from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import type { Files } from '../../../src/base/files.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import { partsOf } from '../../support/inside.js';
import {
  environment,
  makeVolume,
  open,
  patterned,
  temporaryFolder,
} from '../../support/volumes.js';

it('finds the bytes of a group that is sealed between the look at it and the opening of its file', async () => {
  const folder = temporaryFolder();
  await makeVolume(folder, { data: 1, parity: 0, sizeBytes: 8 * MIB });
  let seal: (() => Promise<unknown>) | null = null;
  const files: Files = Object.assign(Object.create(nodeFiles) as Files, {
    open: async (...[path, mode]: Parameters<Files['open']>) => {
      const sealing = mode === 'read' && path.endsWith('.open') ? seal : null;
      if (sealing) {
        seal = null;
        await sealing();
      }
      return nodeFiles.open(path, mode);
    },
  });
  const volume = await open(folder, {}, { ...environment, files });
  const written = patterned(64 * 1024, 1);
  await volume.write(0, written);
  await volume.flush();
  seal = () => volume.sealNow();
  const found = new Uint8Array(written.length);
  await volume.read(0, found);
  expect(Buffer.compare(found, written)).toBe(0);
  expect(seal).toBeNull();
  await volume.close();
});

it('says when they are not there whole: where a file is too short, or gone', async () => {
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
