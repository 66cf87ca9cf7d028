/** Waiting for something that tells nobody when it happens. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ChunkvolError } from '../base/errors.js';

const POLL_MS = 25;

/** Resolves true once `condition` holds, false after `timeoutMs`. Throws 'interrupted'. */
export async function waitUntil(
  condition: () => boolean,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (signal?.aborted) throw new ChunkvolError('interrupted', 'interrupted');
    if (performance.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}
