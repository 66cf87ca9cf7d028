/** Which long operations on one volume may run beside one another. */
import { ChunkvolError } from '../base/errors.js';
import type { Operation } from './control-server.js';

export type LongName = 'sync' | 'scrub' | 'repair' | 'gc';

/** Sync and collection get along: what a sync copies is pinned. None runs twice at a time. */
const RIVALS: Readonly<Record<LongName, readonly LongName[]>> = {
  sync: ['sync', 'scrub', 'repair'],
  scrub: ['sync', 'scrub', 'repair', 'gc'],
  repair: ['sync', 'scrub', 'repair', 'gc'],
  gc: ['scrub', 'repair', 'gc'],
};

export class LongWork {
  readonly #running = new Set<LongName>();

  /** The operation, which fails with 'in-use' while one of its rivals runs. */
  exclusive(name: LongName, operation: Operation): Operation {
    return async (args, context) => {
      const rival = RIVALS[name].find((other) => this.#running.has(other));
      if (rival !== undefined) {
        const message = `a ${rival} of this volume is running; try again when it is done`;
        throw new ChunkvolError('in-use', message);
      }
      this.#running.add(name);
      try {
        return await operation(args, context);
      } finally {
        this.#running.delete(name);
      }
    };
  }
}
