/** Which long operations keep which others from starting. */
import { describe, expect, it } from 'vitest';
import type { OperationContext } from '../../../src/cli/control-server.js';
import { LongWork, type LongName } from '../../../src/cli/long-work.js';
import { Gate } from '../../support/nbd-harness.js';

const NAMES: readonly LongName[] = ['sync', 'scrub', 'repair', 'gc'];
const context = {} as OperationContext;

describe('long work', () => {
  it.each<[LongName, LongName[]]>([
    ['sync', ['gc']],
    ['scrub', []],
    ['repair', []],
    ['gc', ['sync']],
  ])('of the kind %s leaves room for %j only', async (running, allowed) => {
    const long = new LongWork();
    const gate = new Gate();
    const first = long.exclusive(running, () => gate.passed)({}, context);
    for (const name of NAMES) {
      const second = long.exclusive(name, () => Promise.resolve('done'))({}, context);
      if (allowed.includes(name)) expect(await second).toBe('done');
      else {
        await expect(second).rejects.toMatchObject({
          code: 'in-use',
          message: `a ${running} of this volume is running; try again when it is done`,
        });
      }
    }
    gate.open();
    await first;
    for (const name of NAMES) await long.exclusive(name, () => Promise.resolve())({}, context);
  });

  it('that failed is over', async () => {
    const long = new LongWork();
    const failing = long.exclusive('gc', () => Promise.reject(new Error('full')));
    await expect(failing({}, context)).rejects.toThrow('full');
    await expect(failing({}, context)).rejects.toThrow('full');
  });
});
