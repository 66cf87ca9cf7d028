/** Parity that comes later than the data, and in any order. */
import { expect, it, onTestFinished } from 'vitest';
import { KIB } from '../../../src/base/bytes.js';
import { ChunkvolError } from '../../../src/base/errors.js';
import { makeGeometry } from '../../../src/base/geometry.js';
import { sealWriter } from '../../../src/store/seal.js';
import { holdParity } from '../../support/held-parity.js';
import { delay } from '../../support/sandbox.js';
import { SampleVolume } from '../repair/sample-volume.js';

const GEOMETRY = makeGeometry(4, 2, 1024 * KIB, 4 * KIB);

it('counts as far as there is no gap in it, and is waited for by nobody but who wants all', async () => {
  const sample = new SampleVolume();
  onTestFinished(() => {
    sample.remove();
  });
  const { workers, due } = holdParity(sample.context.engine);
  const writer = await sample.startGroup(GEOMETRY, { ...sample.context, workers });
  const rowBlocks = Math.ceil((GEOMETRY.data * GEOMETRY.unitBytes) / (4 * KIB));
  sample.writeBlocks(writer, rowBlocks * 3);
  writer.endCommit();
  await writer.write();
  await writer.sync();
  expect(due.length).toBeGreaterThanOrEqual(2);
  expect(writer.group.parityRows).toBe(0);

  const all = writer.writeAll().then(() => 'done');
  due[1]!();
  // Time enough for the files, which nobody tells of.
  expect(await Promise.race([all, delay(300).then(() => 'waiting')])).toBe('waiting');
  expect(writer.group.parityRows).toBe(0);
  due[0]!();
  for (const finish of due.slice(2)) finish();
  expect(await all).toBe('done');
  expect(writer.group.parityRows).toBe(due.length);
  await writer.close();
});

it.each(['io', 'no-space'] as const)(
  'that fails at once keeps the group from its seal: %s',
  async (code) => {
    const sample = new SampleVolume();
    onTestFinished(() => {
      sample.remove();
    });
    const writer = await sample.startGroup(GEOMETRY);
    sample.writeBlocks(writer, 3);
    writer.endCommit();
    // The last file is one of parity. Nobody waits for it yet when it fails.
    const file = writer.files.at(-1)!;
    const write = file.write.bind(file);
    file.write = (bytes, at, cache) =>
      cache === 'bypass'
        ? Promise.reject(new ChunkvolError(code, 'refused'))
        : write(bytes, at, cache);
    const plan = {
      end: writer.address,
      firstSequence: 1,
      endSequence: 2,
      chain: new Uint8Array(32),
      root: null,
      full: false,
    };
    await expect(sealWriter(sample.context, writer, plan)).rejects.toMatchObject({ code });
    expect(writer.group.paths.every((path) => path.endsWith('.open'))).toBe(true);
    await writer.close();
  },
);
