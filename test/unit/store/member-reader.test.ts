/** Reading a member whose file gets another name meanwhile. */
import { expect, it } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import type { Files } from '../../../src/base/files.js';
import { nodeFiles } from '../../../src/base/node-files.js';
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
