/** What the store refuses from its callers, and what it takes for damage. */
import * as fs from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import type { RootReplica } from '../../../src/format/footer.js';
import { decodeOrNull, openHeader, sealFooter } from '../../../src/store/chunk-meta.js';
import type { GroupWriter } from '../../../src/store/group-writer.js';
import { readRoots } from '../../../src/store/root-files.js';
import { readRootReplica } from '../../../src/store/root-replica.js';
import { SampleVolume, SMALL } from '../repair/sample-volume.js';
import { makeVolume, open, temporaryFolder } from '../../support/volumes.js';

async function begun(): Promise<{ sample: SampleVolume; writer: GroupWriter }> {
  const sample = new SampleVolume();
  const writer = await sample.startGroup(SMALL);
  onTestFinished(async () => {
    await writer.close();
    sample.remove();
  });
  return { sample, writer };
}

it('no piece ends behind its group, and no group twice', async () => {
  const { writer } = await begun();
  const fill = (): void => {
    for (;;) writer.allocate(32 * 1024, 1);
  };
  expect(fill).toThrow(RangeError);
  expect(fill).toThrow('beyond the end');
  writer.finish();
  expect(() => {
    writer.finish();
  }).toThrow('finished once');
});

it('a root that claims to be longer than any is damaged', async () => {
  const { sample, writer } = await begun();
  const replica = { address: 0, bytes: 2 ** 31, generation: 1 } satisfies RootReplica;
  await expect(readRootReplica(sample.slots, writer.group, replica)).rejects.toMatchObject({
    code: 'damaged',
  });
});

it('errors in a decoder are no damage', () => {
  const broken = (): never => {
    throw new TypeError('a bug');
  };
  expect(() => decodeOrNull(broken)).toThrow('a bug');
});

it('footers stand under the names of chunk files alone', async () => {
  const { sample } = await begun();
  const { maintenance } = sample.context.keys;
  for (const name of ['chunk', 'abcd']) {
    const sealing = (): Uint8Array => sealFooter(maintenance, name, new Uint8Array(0), [], 0);
    expect(sealing).toThrow(RangeError);
    expect(sealing).toThrow('not a file name');
  }
  expect(openHeader(maintenance, new Uint8Array(10))).toBeNull();
});

it('of roots of one generation, which only two histories have, the order is always the same', async () => {
  const folders = [temporaryFolder(), temporaryFolder()] as const;
  await makeVolume(folders[0]);
  fs.cpSync(folders[0], folders[1], { recursive: true });
  for (const [index, folder] of folders.entries()) {
    const volume = await open(folder);
    await volume.write(0, new Uint8Array(4096).fill(index + 1));
    await volume.close();
  }
  const [into, from] = folders.map((folder) => `${folder}/roots`) as [string, string];
  fs.cpSync(from, into, { recursive: true });
  const volume = await open(folders[1], { readOnly: true });
  onTestFinished(() => volume.close());
  const { roots } = await readRoots({ ...volume.context, folder: folders[0] });
  const twins = roots.filter(({ root }) => root.generation === roots[0]!.root.generation);
  expect(twins.length).toBe(2);
  expect(twins[0]!.name < twins[1]!.name).toBe(true);
});
