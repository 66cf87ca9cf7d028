/**
 * Blocks overwritten here and there, without an end and as fast as the disk takes them, on a disk that is
 * 80 % full: the hardest load for a log. Writers have to keep to the pace of the collector, or what is dead
 * grows without bounds; and where some blocks are overwritten more often than others, the collector must not
 * move them all along.
 */
import { expect, it } from 'vitest';
import { MIB } from '../../src/base/bytes.js';
import type { Volume } from '../../src/volume/volume.js';
import { garbageShare, untilCollected } from '../support/garbage.js';
import { seededRandom } from '../support/versioned-disk.js';
import { makeVolume, open, patterned, temporaryFolder } from '../support/volumes.js';

/** A group is a thirty-second of the disk. */
const DISK_BYTES = 512 * MIB;
const CHUNK_BYTES = 4 * MIB;
const FULL_BLOCKS = Math.floor((0.8 * DISK_BYTES) / 4096);
const AT_ONCE = 16;
const ROUNDS = 16;
/** Rounds in which garbage comes to what it stays at. */
const FIRST_ROUNDS = 4;
/** Rounds until twice as much was written as the disk holds: what lives long has found its place by then. */
const SETTLING_ROUNDS = 8;

const MAX_SHARE_UNDER_LOAD = 0.25;
const MAX_SHARE_AT_REST = 0.25;

/** Draws a block, as a share of all. */
type Load = (random: () => number) => number;

const even: Load = (random) => random();
/** Nine writes of ten go to a tenth of the disk. */
const skewed: Load = (random) => (random() < 0.9 ? random() * 0.1 : 0.1 + random() * 0.9);

/** Amplification: bytes written to the log for each byte of the load, before parity. */
it.each([
  ['even', even, 4],
  ['skewed', skewed, 2],
])(
  'steady %s overwriting leaves garbage and amplification within bounds',
  async (name, load, most) => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: DISK_BYTES, chunkBytes: CHUNK_BYTES });
    const volume = await open(folder);
    for (let at = 0; at < FULL_BLOCKS * 4096; at += MIB)
      await volume.write(at, patterned(MIB, at + 1));
    const random = seededRandom(1);
    const shares: number[] = [];
    let before = await volume.status();
    for (let round = 0; round < ROUNDS; round++) {
      if (round === SETTLING_ROUNDS) before = await volume.status();
      await overwrite(volume, FULL_BLOCKS / 4, () => load(random));
      if (round >= FIRST_ROUNDS) shares.push(garbageShare(await volume.status()));
    }
    const after = await volume.status();
    const amplification =
      (after.loggedBytes - before.loggedBytes) / (after.writtenBytes - before.writtenBytes);
    console.log(`steady ${name} overwriting: ${JSON.stringify({ amplification, shares })}`);
    expect(Math.max(...shares)).toBeLessThan(MAX_SHARE_UNDER_LOAD);
    expect(amplification).toBeLessThan(most);

    await untilCollected(
      () => volume.status(),
      (report) => garbageShare(report) <= MAX_SHARE_AT_REST,
    );
    await volume.close();
  },
);

async function overwrite(volume: Volume, blocks: number, draw: () => number): Promise<void> {
  for (let done = 0; done < blocks; done += AT_ONCE) {
    const writes = Array.from({ length: AT_ONCE }, () => {
      const block = Math.floor(draw() * FULL_BLOCKS);
      return volume.write(block * 4096, patterned(4096, block + done));
    });
    await Promise.all(writes);
  }
  await volume.flush();
}
