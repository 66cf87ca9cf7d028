/**
 * Dead data where collections do not come to: in the group that the log ends in, in those that they fill
 * themselves, and in full ones of theirs that are younger than the log's.
 */
import { expect, it, onTestFinished, vi } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import type { Group } from '../../../src/store/group.js';
import { partsOf } from '../../support/inside.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

vi.mock('../../../src/volume/limits.js', async (original) => ({
  ...(await original<object>()),
  COLLECT_INTERVAL_MS: 20,
}));

const BLOCK = 4 * KIB;
const DISK = 24 * MIB;
/** As much garbage is always borne with. */
const GROUP = 4 * MIB;

it('comes back while nobody writes', async () => {
  const folder = temporaryFolder();
  await makeVolume(folder, { sizeBytes: DISK });
  const volume = await open(folder);
  onTestFinished(() => volume.close());
  const { end } = partsOf(volume);
  const younger = (): Group[] =>
    end.parts.groups.all().filter(({ ordinal }) => ordinal > end.durable.ordinal);
  const liveBytes = (groups: Group[]): number =>
    groups.reduce((sum, each) => sum + each.liveBytes, 0);

  for (let at = 0; at < DISK; at += MIB) await volume.write(at, patterned(MIB, at));
  await volume.flush();
  for (let at = 0; at < DISK; at += 2 * BLOCK) await volume.write(at, patterned(BLOCK, at));
  await volume.flush();
  await vi.waitFor(
    () => {
      expect(liveBytes(younger())).toBeGreaterThan(1.2 * GROUP);
    },
    { timeout: 10_000 },
  );
  await volume.trim(0, DISK);
  await volume.flush();
  await vi.waitFor(
    async () => {
      expect((await volume.status()).garbageBytes).toBeLessThan(GROUP);
    },
    { timeout: 10_000 },
  );
});
