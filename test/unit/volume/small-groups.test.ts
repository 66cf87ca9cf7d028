/** Volumes in groups of 1 MiB, the smallest there are: what has to fit into one is cut so that it does. */
import { expect, it } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

const BLOCK_BYTES = 4 * KIB;
/** Each in a node of the map of its own: these nodes are more than a group can hold. */
const COUNT = 400;
const STEP_BYTES = 2 * MIB;

it('takes writes all over a disk whose changed map is larger than a group', async () => {
  const folder = temporaryFolder();
  const sizeBytes = COUNT * STEP_BYTES;
  await makeVolume(folder, { data: 1, parity: 0, chunkBytes: MIB, sizeBytes });
  const volume = await open(folder);
  for (let i = 0; i < COUNT; i++) {
    await volume.write(i * STEP_BYTES, patterned(BLOCK_BYTES, i));
    if (i % 50 === 0) await volume.flush();
  }
  await volume.close();

  const again = await open(folder);
  const block = Buffer.alloc(BLOCK_BYTES);
  for (let i = 0; i < COUNT; i++) {
    await again.read(i * STEP_BYTES, block);
    expect(block.equals(patterned(BLOCK_BYTES, i)), `block ${i}`).toBe(true);
  }
  await again.close();
});
