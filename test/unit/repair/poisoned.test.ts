/**
 * Files that somebody without the keys has rewritten, swapped, or exchanged in the middle of a repair:
 * what is read is right or an error, and what a repair leaves is the file that was, or no worse one.
 */
import { describe, expect, it } from 'vitest';
import { isChunkvolError } from '../../../src/base/errors.js';
import { repairVolume } from '../../../src/repair/repair.js';
import type { SimulatedFiles } from '../../simulation/files.js';
import { simulate } from '../../simulation/simulate.js';
import { SHAPES, World } from '../../simulation/world.js';

/** A closed volume, its files as they were, and the members of its first group. */
async function sealedWorld(
  seed: number,
): Promise<{ world: World; sound: Map<string, Uint8Array>; members: string[] }> {
  const world = await World.create(seed, SHAPES[seed % 2]!);
  await world.reopen();
  for (let i = 0; i < 4; i++) {
    const data = world.dice.bytes(90_000);
    await world.change({
      offset: i * 100_000,
      bytes: data.length,
      data,
      trim: false,
      durable: false,
    });
  }
  await world.close();
  await world.reopen();
  const members = [...world.volume!.groups()[0]!.paths];
  const sound = new Map(members.map((path) => [path, world.files.peek(path)!]));
  return { world, sound, members };
}

function poisoned(world: World, bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  const from = 512 + world.dice.below(Math.max(1, copy.length - 512));
  const length = 1 + world.dice.below(copy.length - from);
  copy.set(world.dice.bytes(length), from);
  return copy;
}

/** Every member is the file that was, or is missing, or is as the test has left it. */
function requireNoFalseRepair(
  files: SimulatedFiles,
  sound: ReadonlyMap<string, Uint8Array>,
  left: ReadonlyMap<string, readonly Uint8Array[]>,
): void {
  for (const [path, bytes] of sound) {
    const now = files.peek(path);
    const allowed = [bytes, ...(left.get(path) ?? [])];
    if (now && !allowed.some((each) => Buffer.compare(each, now) === 0)) {
      // Mended in part: no unit may be worse than the worst that was there.
      const worst = left.get(path)!.at(-1)!;
      for (let at = 0; at < now.length; at++) {
        if (now[at] === bytes[at] || now[at] === worst[at]) continue;
        throw new Error(`${path} holds a byte at ${at} that was never there`);
      }
    }
  }
}

async function repair(world: World): Promise<void> {
  const { context, slots } = world.volume!;
  try {
    await repairVolume(context, world.volume!.groups(), { slots });
  } catch (error) {
    if (!isChunkvolError(error)) throw error;
  }
}

describe('poisoned files', () => {
  it('of any number never lead to a false repair, nor to a wrong byte', async () => {
    await simulate(12, async (seed) => {
      const { world, sound, members } = await sealedWorld(seed);
      const left = new Map<string, Uint8Array[]>();
      const count = 1 + world.dice.below(members.length);
      for (let i = 0; i < count; i++) {
        const path = world.dice.pick(members);
        const bytes = poisoned(world, sound.get(path)!);
        world.files.poke(path, bytes);
        left.set(path, [bytes]);
      }
      const lost = world.dice.pick(members);
      world.files.poke(lost, null);
      world.ledger.forgetContents();
      world.tolerated = ['lost', 'io'];
      await world.look();
      await repair(world);
      requireNoFalseRepair(world.files, sound, left);
      await world.look();
    });
  });

  it('under the name of another member stay as they are', async () => {
    await simulate(4, async (seed) => {
      const { world, sound, members } = await sealedWorld(seed);
      const [path, other] = members as [string, string];
      world.kill();
      world.files.poke(path, sound.get(other)!);
      world.ledger.forgetContents();
      await world.reopen();
      await world.checkAll();
      expect(Buffer.compare(world.files.peek(path)!, sound.get(other)!)).toBe(0);
      await repair(world);
      expect(Buffer.compare(world.files.peek(path)!, sound.get(path)!)).toBe(0);
    });
  });

  it('that are exchanged at any moment of a repair lead to none', async () => {
    await simulate(2, async (seed) => {
      const { world: origin, sound, members } = await sealedWorld(seed);
      const lost = members[0]!;
      for (let moment = 0, reached = true; reached; moment++) {
        const world = origin.fork(moment, 'machine');
        world.files.poke(lost, null);
        // No ledger here: a MAC that is computed of poisoned bytes, to be compared, is none that was made.
        const opened = await world.open();
        if (opened.kind !== 'worked') throw world.explained('cannot be opened');
        world.volume = opened.value;
        const path = members[1 + (moment % (members.length - 1))]!;
        const bytes = poisoned(world, sound.get(path)!);
        const start = world.files.calls;
        reached = false;
        world.files.onCall = ({ index }) => {
          if (index === start + moment) {
            reached = true;
            world.files.poke(path, bytes);
          }
          return 'works';
        };
        await repair(world);
        requireNoFalseRepair(world.files, sound, new Map([[path, [bytes]]]));
        world.files.halt();
      }
    });
  });
});
