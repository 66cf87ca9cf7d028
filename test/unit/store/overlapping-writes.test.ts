/** Writes at a group's end that begin while earlier ones are under way, and fail in any order. */
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { ChunkvolError, isChunkvolError } from '../../../src/base/errors.js';
import { makeGeometry } from '../../../src/base/geometry.js';
import type { GroupWriter } from '../../../src/store/group-writer.js';
import { holdParity } from '../../support/held-parity.js';
import { delay } from '../../support/sandbox.js';
import { BLOCK_BYTES, KIB, SampleVolume } from '../repair/sample-volume.js';

const GEOMETRY = makeGeometry(4, 2, 4096 * KIB, BLOCK_BYTES);
const ROW_BLOCKS = Math.ceil((GEOMETRY.data * GEOMETRY.unitBytes) / BLOCK_BYTES);

/** A write that has not reached its file. */
interface Held {
  readonly bytes: Buffer;
  readonly position: number;
  refuse(): void;
}

let sample: SampleVolume;

beforeEach(() => {
  sample = new SampleVolume();
  onTestFinished(() => {
    sample.remove();
  });
});

function layOutCommit(writer: GroupWriter, blocks: number): void {
  sample.writeBlocks(writer, blocks);
  writer.endCommit();
}

/** Holds the next `count` writes to the first file of a group. */
function holdWrites(writer: GroupWriter, count: number): Held[] {
  const held: Held[] = [];
  const file = writer.files[0]!;
  const write = file.write.bind(file);
  file.write = (bytes, position, cache) => {
    if (held.length === count) return write(bytes, position, cache);
    return new Promise((_resolve, reject) => {
      const refuse = (): void => {
        reject(new ChunkvolError('no-space', 'no room'));
      };
      held.push({ bytes: Buffer.from(bytes), position, refuse });
    });
  };
  return held;
}

/** Two commits in one unit, and the writes of both, which are held. */
async function twoUnderWay(
  writer: GroupWriter,
): Promise<{ held: Held[]; writes: Promise<string>[] }> {
  const held = holdWrites(writer, 2);
  const writes: Promise<string>[] = [];
  for (let commits = 1; commits <= 2; commits++) {
    layOutCommit(writer, 3);
    const outcome = (error: unknown): string =>
      isChunkvolError(error, 'no-space') ? 'no space' : 'failed';
    writes.push(writer.write().then(() => 'written', outcome));
    await delay(20);
    expect(held.length).toBe(commits);
  }
  return { held, writes };
}

function isStored(writer: GroupWriter, { bytes, position }: Held): boolean {
  const stored = sample.contents(writer.group)[0]!;
  return stored.subarray(position, position + bytes.length).equals(bytes);
}

it('a write is not done before what an earlier one failed to write is in the files', async () => {
  const writer = await sample.startGroup(GEOMETRY);
  const held = holdWrites(writer, 1);
  layOutCommit(writer, 3);
  const first = writer.write();
  await delay(20);
  layOutCommit(writer, 3);
  const second = writer.write();
  expect(await Promise.race([second, delay(100).then(() => 'waiting')])).toBe('waiting');
  held[0]!.refuse();
  await expect(first).rejects.toThrow('no room');
  await second;
  expect(isStored(writer, held[0]!)).toBe(true);
  expect(writer.unwrittenBytes).toBe(0);
  await writer.close();
});

it.each([
  { name: 'the earlier first', order: [0, 1] },
  { name: 'the later first', order: [1, 0] },
])('all is written after two have failed, $name', async ({ order }) => {
  const writer = await sample.startGroup(GEOMETRY);
  const { held, writes } = await twoUnderWay(writer);
  for (const index of order) {
    held[index]!.refuse();
    await delay(20);
  }
  expect(await Promise.all(writes)).toEqual(['no space', 'no space']);
  await writer.drain(0);
  expect(held.map((write) => isStored(writer, write))).toEqual([true, true]);
  await writer.close();
});

it('rows go on their way while others are under way, a few at a time', async () => {
  const { workers, due } = holdParity(sample.context.engine);
  const writer = await sample.startGroup(GEOMETRY, { ...sample.context, workers });
  const rows = (): number =>
    Math.ceil(sample.contents(writer.group)[0]!.length / GEOMETRY.unitBytes);
  const states: string[] = [];
  for (let commit = 0; commit < 3; commit++) {
    layOutCommit(writer, ROW_BLOCKS * 4);
    writer.write().then(
      () => states.push('written'),
      () => states.push('failed'),
    );
  }
  await delay(300);
  // The parity of none is there yet.
  expect(due.length).toBe(12);
  expect(rows()).toBe(8);
  expect(states).toEqual(['written']);
  const drained = writer.drain(0).then(() => 'drained');
  await writer.drain(16 * GEOMETRY.data * GEOMETRY.unitBytes);
  expect(await Promise.race([drained, delay(100).then(() => 'waiting')])).toBe('waiting');
  due[0]!();
  await delay(100);
  expect(rows()).toBe(9);
  for (const finish of due.slice(1)) finish();
  expect(await drained).toBe('drained');
  expect(states).toEqual(['written', 'written', 'written']);
  await writer.close();
});
