/**
 * A running machine that is cloned, memory and all: the same history is run again from its seed up to a
 * certain step, and goes on differently from there, with a kernel whose generator was seeded anew. One
 * ledger sees all of it: under one key no nonce may meet two plaintexts.
 *
 * What docs/security.md says of the group that was open at that moment holds here: its parity, unit MACs
 * and footers are made in each clone under the same seal id. Only slots and records are demanded.
 */
import { Dice } from './dice.js';
import { Ledger } from './engine.js';
import { World, type Shape } from './world.js';

export interface CloneCount {
  readonly clones: number;
  /** Positions that several clones have written, each under a nonce of its own. */
  readonly meetings: number;
}

export async function runClones(seed: number, shape: Shape, clones: number): Promise<CloneCount> {
  const ledger = new Ledger();
  const dice = new Dice(seed + 0xc10e);
  const steps = dice.below(4);
  for (let clone = 0; clone < clones; clone++) {
    const world = await World.create(seed, shape, ledger);
    await world.reopen();
    for (let i = 0; i < steps; i++) await world.step();
    // A group is open, and part of it durable.
    await write(world, 30_000);
    await world.flush();
    world.divergeAs(dice.next());
    await write(world, 20_000);
    await world.flush();
    if (dice.chance(0.2)) await world.step();
    world.files.halt();
    const wrong = ledger.violations.find((line) => line.startsWith('slot:'));
    if (wrong !== undefined) throw new Error(wrong);
    ledger.violations.length = 0;
  }
  return { clones, meetings: ledger.meetings };
}

async function write(world: World, bytes: number): Promise<void> {
  const data = world.dice.bytes(bytes);
  await world.change({ offset: 4096, bytes, data, trim: false, durable: false });
}
