/** A change of the key file that is cut short, or fails, at any call: the volume always opens. */
import { describe, expect, it } from 'vitest';
import { isChunkvolError } from '../../../src/base/errors.js';
import { wrapVolumeKey, type Credential } from '../../../src/crypto/key-slot.js';
import { keySlot, publishKeyFile, unlock } from '../../../src/store/key-files.js';
import { Dice, SimulatedRandomness } from '../../simulation/dice.js';
import type { SimulatedFiles } from '../../simulation/files.js';
import { FOLDER, SHAPES, World } from '../../simulation/world.js';
import { keyFile } from '../../support/volumes.js';

const after: Credential = { kind: 'key-file', secret: Buffer.alloc(32, 9) };
const CRASHES = 12;

/** Replaces the credential of a fresh volume. */
async function changeKey(files: SimulatedFiles): Promise<void> {
  const random = new SimulatedRandomness(new Dice(7));
  const { volumeKey, keys, keyFile: old } = await unlock(files, FOLDER, keyFile);
  const slots = [keySlot(random.bytes(8), 0, await wrapVolumeKey(volumeKey, after, random))];
  await publishKeyFile(files, FOLDER, keys, { ...old, counter: old.counter + 1, slots });
}

async function freshFiles(seed: number): Promise<SimulatedFiles> {
  return (await World.create(seed, SHAPES[0]!)).files;
}

async function opensWith(files: SimulatedFiles, credential: Credential): Promise<boolean> {
  try {
    await unlock(files, FOLDER, credential);
    return true;
  } catch (error) {
    if (isChunkvolError(error, 'wrong-key')) return false;
    throw error;
  }
}

describe('a key change', () => {
  it('leaves the old or the new key after a crash at any call, the new one after it is done', async () => {
    const files = await freshFiles(1);
    const frozen: SimulatedFiles[] = [];
    files.onEffect = () => void frozen.push(files.afterKill(0));
    await changeKey(files);
    const seen = new Set<string>();
    for (const [moment, each] of frozen.entries()) {
      for (let crash = 0; crash < CRASHES; crash++) {
        const found = each.afterPowerCut(moment * CRASHES + crash);
        const opens = [await opensWith(found, keyFile), await opensWith(found, after)];
        expect(opens, `crash ${crash} after call ${moment}`).toContain(true);
        seen.add(opens.join());
      }
    }
    for (let crash = 0; crash < CRASHES; crash++) {
      expect(await opensWith(files.afterPowerCut(crash), after)).toBe(true);
    }
    expect(seen.size).toBeGreaterThan(1);
  });

  it('that fails at any call leaves a volume that opens, and can be tried again', async () => {
    for (let index = 0, hit = true; hit; index++) {
      const files = await freshFiles(index);
      hit = false;
      files.onCall = (call) => {
        hit ||= call.index === index;
        return call.index === index ? (index % 2 ? 'EIO' : 'ENOSPC') : 'works';
      };
      const failed = await changeKey(files).then(
        () => null,
        (error: unknown) => error,
      );
      files.onCall = () => 'works';
      if (failed !== null) expect(isChunkvolError(failed)).toBe(true);
      const opens = [await opensWith(files, keyFile), await opensWith(files, after)];
      expect(opens, `call ${index}`).toContain(true);
      if (failed === null) expect(opens[1]).toBe(true);
      if (opens[0]) await changeKey(files);
      files.halt();
      expect(await opensWith(files.afterPowerCut(index), after), `call ${index}`).toBe(true);
    }
  });
});
