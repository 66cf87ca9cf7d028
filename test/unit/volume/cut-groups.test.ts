/** Groups that wait to be sealed, and cannot be. */
import { expect, it, vi } from 'vitest';
import type { StoreContext } from '../../../src/store/context.js';
import type { Group } from '../../../src/store/group.js';
import type { OpenFiles } from '../../../src/store/open-files.js';
import { CutGroups } from '../../../src/volume/cut-groups.js';
import { SimulatedClock } from '../../simulation/dice.js';

const SECOND_MS = 1000;

it('are tried again ever more rarely, and told of once', async () => {
  const clock = new SimulatedClock();
  const start = clock.monotonic();
  const attempts: number[] = [];
  const openFiles = {
    use: () => Promise.resolve(void attempts.push((clock.monotonic() - start) / SECOND_MS)),
    forget: () => undefined,
  };
  const onNotice = vi.fn();
  const cutGroups = new CutGroups(
    { clock } as unknown as StoreContext,
    openFiles as unknown as OpenFiles,
    onNotice,
  );
  cutGroups.add({ ordinal: 7, id: new Uint8Array(16), paths: ['a'] } as unknown as Group, null);
  for (let second = 0; second < 6000; second++) {
    cutGroups.retry();
    await cutGroups.idle();
    clock.advance(SECOND_MS);
  }
  expect(attempts).toEqual([0, 2, 6, 14, 30, 62, 126, 254, 510, 1022, 2046, 3070, 4094, 5118]);
  expect(onNotice).toHaveBeenCalledOnce();
  await expect(cutGroups.finish()).rejects.toThrow(/could not be sealed .* no header/);
});
