/** The staging buffer by itself: what one commit takes, and in which order. */
import { expect, it } from 'vitest';
import { KIB } from '../../../src/base/bytes.js';
import { Staging } from '../../../src/volume/staging.js';

const BLOCK = 4 * KIB;

it('keeps blocks back while holes are left that were staged before them', () => {
  const staging = new Staging(BLOCK, 64 * BLOCK);
  for (let block = 0; block < 10; block += 2) staging.stageHole(block, block + 1);
  staging.stage(8, new Uint8Array(BLOCK).fill(1), 0);
  const cuts = [];
  for (let batch = staging.cut(64, 2); batch; batch = staging.cut(64, 2)) {
    cuts.push({ holes: batch.holes.length, blocks: [...batch.blocks] });
    staging.applied();
    staging.release(batch);
  }
  // In one batch holes come first: the block may go with the last of them.
  expect(cuts).toEqual([
    { holes: 2, blocks: [] },
    { holes: 2, blocks: [] },
    { holes: 1, blocks: [8] },
  ]);
});

it('hands a batch out again until it is applied', () => {
  const staging = new Staging(BLOCK, 64 * BLOCK);
  staging.stage(3, new Uint8Array(BLOCK).fill(3), 0);
  const batch = staging.cut(64, 64);
  staging.stage(4, new Uint8Array(BLOCK).fill(4), 0);
  expect(staging.cut(64, 64)).toBe(batch);
  staging.applied();
  expect([...staging.cut(64, 64)!.blocks]).toEqual([4]);
});
