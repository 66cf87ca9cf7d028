/**
 * Blocks overwritten here and there, without an end and as fast as the disk takes them, on a disk that is
 * 80 % full: the hardest load for a log. Writers have to keep to the pace of the collector, or what is dead
 * grows without bounds.
 */
import { expect, it } from 'vitest';
import { MIB } from '../../src/base/bytes.js';
import type { Volume } from '../../src/volume/volume.js';
import { garbageShare, untilCollected } from '../support/garbage.js';
import { seededRandom } from '../support/versioned-disk.js';
import { makeVolume, open, patterned, temporaryFolder } from '../support/volumes.js';

/** A group is a thirty-second of the disk. */
const DISK_BYTES = 256 * MIB;
const CHUNK_BYTES = 2 * MIB;
const FULL_BLOCKS = Math.floor((0.8 * DISK_BYTES) / 4096);
const AT_ONCE = 16;
const ROUNDS = 10;
/** Rounds in which garbage comes to what it stays at. */
const FIRST_ROUNDS = 4;

const MAX_SHARE_UNDER_LOAD = 0.5;
const MAX_SHARE_AT_REST = 0.25;
/** Bytes written to the log for each byte of the load, before parity. */
const MAX_AMPLIFICATION = 4.5;

it('steady overwriting leaves garbage and write amplification within bounds', async () => {
  const folder = temporaryFolder();
  await makeVolume(folder, { sizeBytes: DISK_BYTES, chunkBytes: CHUNK_BYTES });
  const volume = await open(folder);
  for (let at = 0; at < FULL_BLOCKS * 4096; at += MIB)
    await volume.write(at, patterned(MIB, at + 1));
  const random = seededRandom(1);
  const shares: number[] = [];
  let before = await volume.status();
  for (let round = 0; round < ROUNDS; round++) {
    if (round === FIRST_ROUNDS) before = await volume.status();
    await overwrite(volume, FULL_BLOCKS / 4, random);
    if (round >= FIRST_ROUNDS) shares.push(garbageShare(await volume.status()));
  }
  const after = await volume.status();
  const amplification =
    (after.loggedBytes - before.loggedBytes) / (after.writtenBytes - before.writtenBytes);
  console.log(`steady overwriting: ${JSON.stringify({ amplification, shares })}`);
  expect(Math.max(...shares)).toBeLessThan(MAX_SHARE_UNDER_LOAD);
  expect(amplification).toBeLessThan(MAX_AMPLIFICATION);

  await untilCollected(
    () => volume.status(),
    (report) => garbageShare(report) <= MAX_SHARE_AT_REST,
  );
  await volume.close();
});

async function overwrite(volume: Volume, blocks: number, random: () => number): Promise<void> {
  for (let done = 0; done < blocks; done += AT_ONCE) {
    const writes = Array.from({ length: AT_ONCE }, () => {
      const block = Math.floor(random() * FULL_BLOCKS);
      return volume.write(block * 4096, patterned(4096, block + done));
    });
    await Promise.all(writes);
  }
  await volume.flush();
}
