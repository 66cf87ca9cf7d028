import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import { candidates } from '../../../src/store/reconstruct.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

describe.each([
  [1, 0],
  [1, 1],
  [2, 1],
  [16, 4],
  [32, 8],
])('groups of %i + %i', (data, parity) => {
  it('survive the loss of their parity, and silent damage beside it', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { data, parity });
    const volume = await open(folder);
    const bytes = patterned(2 * MIB, 5);
    await volume.write(MIB, bytes);
    await volume.close();
    const whole = await open(folder);
    const groups = whole.groups().map((group) => group.paths);
    await whole.close();
    for (const paths of groups) {
      // One member is changed without a trace; the others that may be lost are gone.
      for (const path of paths.slice(1, parity)) fs.unlinkSync(path);
      if (parity > 0) scramble(paths[0]!);
    }
    const damaged = await open(folder);
    const read = new Uint8Array(bytes.length);
    await damaged.read(MIB, read);
    expect(Buffer.compare(read, bytes)).toBe(0);
    await damaged.close();
  });
});

/** Turns every byte behind the header around. */
function scramble(path: string): void {
  const bytes = fs.readFileSync(path);
  for (let at = 512; at < bytes.length - 4096; at++) bytes[at]! ^= 0xff;
  fs.writeFileSync(path, bytes);
}

it('sets of members to try leave every member out soon', () => {
  const items = Array.from({ length: 19 }, (_, i) => i);
  const first = [...take(candidates(items, 16), 19)];
  for (const item of items) expect(first.some((set) => !set.includes(item))).toBe(true);
  expect([...candidates([1, 2, 3], 3)]).toEqual([[1, 2, 3]]);
});

function* take<T>(source: Iterable<T>, count: number): Generator<T> {
  let left = count;
  for (const item of source) {
    if (left-- === 0) return;
    yield item;
  }
}
