/** Files of two histories in one folder: never a mixture of both, and never one of them without a word. */
import { describe, expect, it, vi } from 'vitest';
import { isChunkvolError } from '../../../src/base/errors.js';
import { Ledger } from '../../simulation/engine.js';
import { simulate } from '../../simulation/simulate.js';
import { FOLDER, readBlocks, SHAPES, World } from '../../simulation/world.js';

vi.mock('../../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

async function write(world: World, offset: number, bytes: number): Promise<void> {
  const data = world.dice.bytes(bytes);
  await world.change({ offset, bytes, data, trim: false, durable: false });
}

describe('two copies of a volume', () => {
  it('that went on apart and are put into one folder are a fork', async () => {
    await simulate(8, async (seed) => {
      const shape = SHAPES[seed % SHAPES.length]!;
      const origin = await World.create(seed, shape);
      await origin.reopen();
      await write(origin, 0, 50_000);
      await origin.close();
      const copies = [origin.fork(seed + 1, 'machine'), origin.fork(seed + 2, 'machine')];
      for (const copy of copies) {
        await copy.reopen();
        await write(copy, 4096, 40_000);
        await copy.flush();
        copy.kill();
      }
      const [mixed, other] = copies as [World, World];
      for (const path of other.files.paths(`${FOLDER}/chunks`)) {
        if (!mixed.files.peek(path)) mixed.files.poke(path, other.files.peek(path));
      }
      const opened = await mixed.open();
      expect(opened.kind === 'failed' && isChunkvolError(opened.error, 'fork')).toBe(true);
    });
  });

  it('that were cloned while open, and whose files are mixed, are never read as a mixture', async () => {
    let mixtures = 0;
    await simulate(24, async (seed) => {
      const shape = SHAPES[(seed % 2) * 3]!;
      const ledger = new Ledger();
      const clones: World[] = [];
      for (const clone of [1, 2]) {
        const world = await World.create(seed, shape, ledger);
        await world.reopen();
        await write(world, 0, 4096);
        await world.flush();
        world.divergeAs(clone);
        // One block a commit: commits end where stripe units do, and no slot tells the files apart.
        for (let i = 0; i < 30; i++) {
          await write(world, world.dice.below(40) * 4096, 4096);
          await world.flush();
        }
        world.files.halt();
        clones.push(world);
      }
      const [mixed, other] = clones as [World, World];
      const files = mixed.files.copied(seed, 'elsewhere');
      for (const path of files.paths(`${FOLDER}/chunks`)) {
        if (mixed.dice.chance(0.5)) files.poke(path, other.files.peek(path));
      }
      const reader = mixed.fork(seed, 'elsewhere', files);
      const opened = await reader.open({ readOnly: true });
      if (opened.kind !== 'worked') return;
      const { sequence } = await opened.value.status();
      const blocks = [...new Set([...mixed.oracle.blocks, ...other.oracle.blocks])];
      const found = await readBlocks(
        opened.value,
        blocks.sort((a, b) => a - b),
      );
      const isOne = clones.some(({ timeline }) => {
        const state = timeline.stateBefore(sequence);
        return [...found].every(([block, bytes]) => {
          return Buffer.compare(bytes, state.get(block) ?? Buffer.alloc(4096)) === 0;
        });
      });
      expect(isOne).toBe(true);
      mixtures++;
    });
    expect(mixtures).toBeGreaterThan(5);
  });
});
