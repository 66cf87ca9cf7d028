/** Volumes that live for years: worlds of random operations of every kind, each in one long row. */
import { MIB } from '../../src/base/bytes.js';
import { SnapshotWorld, type SnapshotShape } from './snapshot-world.js';

const SHAPES: readonly SnapshotShape[] = [
  { data: 2, parity: 1, sizeBytes: 8 * MIB },
  { data: 1, parity: 0, sizeBytes: 2 * MIB },
  { data: 4, parity: 2, sizeBytes: 64 * MIB },
];

/**
 * One life of so many operations, checked while it lasts and at its end. Returns how often each was begun.
 * An error tells the last ones.
 */
export async function live(seed: number, operations: number): Promise<ReadonlyMap<string, number>> {
  const world = await SnapshotWorld.create(seed, SHAPES[seed % SHAPES.length]!);
  try {
    for (let i = 0; i < operations; i++) await inTime(world.step());
    await inTime(world.finish());
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`${what}, after ${world.history.join(', ')}`, { cause: error });
  }
  return world.done;
}

/** A step that waits for ever is ended with an error that says which one it was. */
async function inTime(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error('a step took longer than a minute'));
    }, 60_000);
  });
  await Promise.race([work, late]).finally(() => {
    clearTimeout(timer);
  });
}
