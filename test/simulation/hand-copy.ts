/**
 * A copy of a volume's folder that somebody makes by hand, with a tool that knows nothing of volumes, while
 * the volume is in use: folder by folder, each file at a moment of its own, the first part of it earlier than
 * the rest. What is gone by then is left out.
 */
import { SimulatedFiles } from './files.js';
import { FOLDER, type World } from './world.js';

/** An empty disk of another machine. */
export function elsewhere(world: World): SimulatedFiles {
  const files = new SimulatedFiles(world.dice.next());
  files.machine = 'another machine';
  return files;
}

/** `work` goes on between the reads. What `copy` has of an earlier time is replaced, and never deleted. */
export async function copyByHand(
  world: World,
  copy: SimulatedFiles,
  work: () => Promise<unknown>,
): Promise<void> {
  const { dice, files } = world;
  // As rsync has them, or in any order.
  const isSorted = dice.chance(0.5);
  const inOrder = (names: string[]): string[] => {
    if (!isSorted) shuffle(names, (limit) => dice.below(limit));
    return names;
  };
  const parents = files.paths(FOLDER).map((path) => path.slice(0, path.lastIndexOf('/')));
  for (const folder of inOrder([...new Set(parents)])) {
    for (const path of inOrder(files.paths(folder))) {
      const first = files.peek(path);
      if (dice.chance(0.3)) await work();
      const second = files.peek(path);
      if (!first || !second) continue;
      second.set(first.subarray(0, dice.below(Math.min(first.length, second.length) + 1)));
      copy.poke(path, second);
    }
  }
}

function shuffle(items: string[], below: (limit: number) => number): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
}
