/** What may be deleted, where the roots of the folder are other than usual. */
import { expect, it } from 'vitest';
import type { StoreContext } from '../../../src/store/context.js';
import type { Group } from '../../../src/store/group.js';
import type { OpenFiles } from '../../../src/store/open-files.js';
import type { RootFile } from '../../../src/store/root-files.js';
import type { GroupTable } from '../../../src/volume/group-table.js';
import type { ReadEpochs } from '../../../src/volume/read-epochs.js';
import { Retention } from '../../../src/volume/retention.js';
import type { Roots } from '../../../src/volume/roots.js';

it('deletes nothing while no closed root is there: a crash would lead back to a replica', async () => {
  const removed: string[] = [];
  const context = {
    folder: '/volume',
    files: { remove: (path: string) => void removed.push(path), syncFolder: () => undefined },
  } as unknown as StoreContext;
  let retired = [
    {
      ordinal: 3,
      id: new Uint8Array(16),
      end: 4096,
      geometry: { data: 1, parity: 0 },
      paths: ['a'],
    },
  ] as unknown as Group[];
  const groups = {
    all: () => [],
    retired: () => retired,
    forget: () => (retired = []),
  } as unknown as GroupTable;
  const roots = { all: [] as RootFile[], held: false, newestClosed: null, lasting: () => [] };
  const retention = new Retention(
    context,
    groups,
    roots as unknown as Roots,
    { forget: () => undefined } as unknown as OpenFiles,
    { passed: () => Promise.resolve() } as unknown as ReadEpochs,
    (line) => expect.unreachable(line),
  );
  expect(await retention.settle(0)).toEqual({ groups: 0, bytes: 0 });
  expect(removed).toEqual([]);

  const root = { groups: [], tail: { ordinal: 4 } };
  Object.assign(roots, { all: [{ root }], newestClosed: { root }, lasting: () => roots.all });
  expect(await retention.settle(0)).toEqual({ groups: 1, bytes: 4096 });
  expect(removed).toEqual(['a']);
});
