/** The rows of groups that are over serve others: they are enough, and what is in them harms nobody. */
import * as fs from 'node:fs';
import { expect, it, onTestFinished, vi } from 'vitest';
import { RowCodec } from '../../../src/erasure/row-codec.js';
import { place } from '../../../src/erasure/stripe.js';
import { SLOT_KIND } from '../../../src/format/commit.js';
import type { Group } from '../../../src/store/group.js';
import { RowCodecs } from '../../../src/store/row-codecs.js';
import { BLOCK_BYTES, SampleVolume, SMALL } from '../repair/sample-volume.js';

const SLOT_BYTES = BLOCK_BYTES + 24;
/** Three rows and a part of one. */
const BLOCKS = 200;

/** The text that each block of a group begins with. */
async function contents(sample: SampleVolume, group: Group): Promise<string[]> {
  const found: string[] = [];
  for (let block = 0, at = 0; block < BLOCKS; block++, at += SLOT_BYTES) {
    at = place(group.geometry, at, SLOT_BYTES);
    const plain = new Uint8Array(BLOCK_BYTES);
    await sample.slots.read({
      group,
      key: group.keys.slot,
      address: at,
      count: 1,
      plainBytes: BLOCK_BYTES,
      kind: SLOT_KIND.block,
      numbers: Float64Array.of(block),
      plain,
      plainAt: Uint32Array.of(0),
    });
    found.push(Buffer.from(plain).toString('latin1', 0, `block ${block} `.length));
  }
  return found;
}

it('the rows of a sealed group serve the next one', async () => {
  const sample = new SampleVolume();
  onTestFinished(() => {
    sample.remove();
  });
  const made = vi.spyOn(RowCodec.prototype, 'another');
  onTestFinished(() => {
    made.mockRestore();
  });
  const codecs = await RowCodecs.create(SMALL);
  await sample.addGroup({ blocks: BLOCKS, codecs });
  const atFirst = made.mock.calls.length;
  expect(atFirst).toBeGreaterThan(0);
  const later = await sample.addGroup({ blocks: BLOCKS, codecs });
  expect(made.mock.calls.length).toBe(atFirst);

  // With two files gone all rests on parity that was computed in used memory.
  for (const path of later.paths.slice(0, 2)) fs.rmSync(path);
  const expected = Array.from({ length: BLOCKS }, (_, block) => `block ${block} `);
  expect(await contents(sample, later)).toEqual(expected);
});
