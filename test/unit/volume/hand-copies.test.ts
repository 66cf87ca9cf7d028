/** Copies of the folder that are made by hand while the volume is in use. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { isChunkvolError } from '../../../src/base/errors.js';
import type { Volume } from '../../../src/volume/volume.js';
import { copyByHand, elsewhere } from '../../simulation/hand-copy.js';
import * as heads from '../../simulation/heads.js';
import { limits } from '../../simulation/limits.js';
import { simulate } from '../../simulation/simulate.js';
import { makeOpenRoot } from '../../support/inside.js';
import { FOLDER, SHAPES, World, type Attempt } from '../../simulation/world.js';

vi.mock('../../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

const TIMEOUT_MS = 600_000;

afterEach(() => {
  limits.tight = false;
});

/** Small writes, each flushed, have files run ahead of the log; then a root comes that names them. */
async function runAhead(world: World): Promise<void> {
  for (let i = 0; i < 20; i++) {
    await world.change(world.drawChange());
    await world.flush();
  }
  await world.flush(() => makeOpenRoot(world.volume!));
}

/** Now and then without what tells that it is a copy: then it is the user who has to say that it may lack something. */
async function openCopy(copy: World): Promise<Attempt<Volume>> {
  const isUnknown = copy.dice.chance(0.3);
  if (isUnknown)
    for (const path of copy.files.paths(`${FOLDER}/local`)) copy.files.poke(path, null);
  const opened = await copy.open();
  const isMissing =
    opened.kind === 'failed' && isChunkvolError(opened.error, 'flushed-data-missing');
  return isUnknown && isMissing ? copy.open({ tolerance: 'loss' }) : opened;
}

describe('a copy made by hand while nothing is deleted', () => {
  it(
    'opens at the state that was sealed at its beginning, or at a newer one',
    async () => {
      let newer = 0;
      await simulate(30, async (seed) => {
        limits.tight = seed % 2 === 0;
        const world = await World.create(seed, SHAPES[seed % SHAPES.length]!);
        const { dice } = world;
        await world.reopen();
        for (let i = 0; i < 6; i++) await world.step();
        const work = async (): Promise<void> => {
          if (dice.chance(0.1)) await heads.collect(world, true);
          else if (dice.chance(0.3)) await runAhead(world);
          else for (let i = dice.below(8); i > 0; i--) await world.step();
        };
        const files = elsewhere(world);
        let held = 0;
        for (let copies = 1 + dice.below(3); copies > 0; copies--) {
          const release = world.volume!.holdDeletion();
          const { root } = await world.volume!.sealNow();
          held = root.tail.sequence;
          await work();
          await copyByHand(world, files, work);
          release();
          await work();
        }

        const copy = world.fork(dice.next(), files.machine, files);
        const opened = await openCopy(copy);
        if (opened.kind !== 'worked') throw copy.explained(opened);
        const { sequence } = await opened.value.status();
        expect(sequence).toBeGreaterThanOrEqual(held);
        if (sequence > held) newer++;
        await copy.adopt(opened.value, true);
        for (let i = 0; i < 3; i++) await copy.step();
        copy.kill();
        await copy.reopen();
        for (const each of [copy, world]) each.files.halt();
      });
      expect(newer).toBeGreaterThan(5);
    },
    TIMEOUT_MS,
  );
});
