/** Overlapping reads and writes of many clients, on a volume whose disk answers in any order. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { KIB } from '../../../src/base/bytes.js';
import { Crowd } from '../../simulation/crowd.js';
import { limits } from '../../simulation/limits.js';
import { simulate } from '../../simulation/simulate.js';
import { SHAPES, World } from '../../simulation/world.js';
import { CellHistory } from '../../support/linearizable.js';

vi.mock('../../../src/volume/limits.js', async (original) => {
  const { simulatedLimits } = await import('../../simulation/limits.js');
  return simulatedLimits(await original<object>());
});

afterEach(() => {
  limits.tight = false;
});

describe('operations of many clients at once', () => {
  it.each([false, true])('could have been done one after the other (tight: %s)', async (tight) => {
    limits.tight = tight;
    await simulate(4, async (seed) => {
      const world = await World.create(seed, SHAPES[seed % SHAPES.length]!);
      await world.reopen();
      const volume = world.volume!;
      const crowd = new Crowd([volume, volume], 48 * KIB, world.dice);
      await world.clock.during(crowd.run(1500, 6));
      await volume.sealNow();
      await world.clock.during(crowd.run(300, 3));
      await volume.close();
      crowd.check();
    });
  });
});

type Step = readonly [kind: 'w' | 'r', value: number, start: number, end: number];

describe('the history of a cell', () => {
  const history = (
    ...steps: (readonly [kind: 'w' | 'r', value: number, start: number, end: number])[]
  ) => {
    const cell = new CellHistory();
    for (const [kind, ...step] of steps) {
      if (kind === 'w') cell.wrote(...step);
      else cell.read(...step);
    }
    return cell.fault();
  };

  it('may have overlapping operations in any order', () => {
    expect(history(['w', 1, 0, 9], ['w', 2, 1, 8], ['r', 1, 2, 3], ['r', 2, 4, 5])).toBeNull();
    expect(history(['w', 1, 0, 1], ['w', 2, 2, 6], ['r', 1, 3, 5], ['r', 2, 3, 5])).toBeNull();
    expect(history(['w', 1, 0, 5], ['r', 0, 1, 2], ['w', 0, 6, 7], ['r', 0, 8, 9])).toBeNull();
  });

  it.each<[string, ...Step[]]>([
    ['an old value after a new', ['w', 1, 0, 1], ['w', 2, 2, 9], ['r', 2, 3, 4], ['r', 1, 5, 6]],
    ['a value that was overwritten', ['w', 1, 0, 1], ['w', 2, 2, 3], ['r', 1, 4, 5]],
    ['a value that never was', ['w', 1, 0, 1], ['r', 3, 4, 5]],
    ['a value before its time', ['r', 1, 0, 1], ['w', 1, 2, 3]],
    ['zeros that were overwritten', ['w', 1, 0, 1], ['r', 0, 2, 3]],
    [
      'values that take turns',
      ['w', 1, 0, 9],
      ['w', 2, 0, 9],
      ['r', 1, 1, 2],
      ['r', 2, 3, 4],
      ['r', 1, 5, 6],
    ],
  ])('must not have %s', (_, ...steps) => {
    expect(history(...steps)).not.toBeNull();
  });
});
