/**
 * Limits of a simulated volume, to be put in the place of src/volume/limits.ts by `vi.mock`: a staging
 * buffer that is quickly made, and, while `limits.tight` is set, all limits so low that they are met
 * all the time: checkpoints in the middle of groups, a map that does not fit its cache, full buffers.
 */
import { KIB, MIB } from '../../src/base/bytes.js';

export const limits: { tight: boolean } = { tight: false };

const TIGHT: Readonly<Record<string, number>> = {
  STAGING_BYTES: MIB,
  MIN_COMMIT_TARGET_BYTES: 64 * KIB,
  MAX_COMMIT_TARGET_BYTES: 64 * KIB,
  MAX_STAGED_HOLES: 16,
  UNDURABLE_TARGET_BYTES: 512 * KIB,
  UNWRITTEN_LIMIT_BYTES: 128 * KIB,
  MAX_TAIL_BYTES: 300 * KIB,
  MAX_DIRTY_NODES: 20,
  MAX_CACHED_NODES: 48,
  MAX_NODES_PER_COMMIT: 7,
  KEPT_CLOSED_ROOTS: 2,
};

/** To be put over the module's by `vi.mock`, for a volume that lives for years: all are met all the time. */
export const LOW_LIMITS: Readonly<Record<string, number>> = {
  MIN_RESERVE_BYTES: 1024 * KIB,
  STAGING_BYTES: 1024 * KIB,
  MIN_COMMIT_TARGET_BYTES: 128 * KIB,
  MAX_COMMIT_TARGET_BYTES: 128 * KIB,
  MAX_CACHED_NODES: 64,
  MAX_DIRTY_NODES: 40,
  MAX_NODES_PER_COMMIT: 7,
  MAX_TAIL_BYTES: 1024 * KIB,
  MAX_GATHERED_SLOTS: 300,
  MAX_MOVED_SLOTS: 24,
  MIN_GARBAGE_BYTES: 512 * KIB,
  MAX_SHORT_GROUPS: 5,
  KEPT_CLOSED_ROOTS: 3,
};

/** What `vi.mock` gives in the place of the module, whose own exports are `real`. */
export function simulatedLimits(real: object): object {
  const simulated = { ...real, STAGING_BYTES: 2 * MIB };
  return new Proxy(simulated, {
    get(target, name, receiver) {
      const tight = limits.tight && typeof name === 'string' ? TIGHT[name] : undefined;
      return tight ?? (Reflect.get(target, name, receiver) as unknown);
    },
  });
}
