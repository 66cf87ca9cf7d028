/** From the progress of one transfer to that of a whole sync or restore. */
import { ChunkvolError } from '../base/errors.js';
import type { TransferOptions } from './remote.js';

export interface Progress<Phase extends string> {
  readonly phase: Phase;
  readonly doneBytes: number;
  /** 0 where a phase moves nothing to speak of. */
  readonly totalBytes: number;
}

export interface ProgressOptions<Phase extends string> {
  readonly bandwidthLimit?: string | undefined;
  readonly onProgress?: ((progress: Progress<Phase>) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Says that a phase begins; throws ChunkvolError 'interrupted' when the user has stopped it all. */
export function beginPhase<Phase extends string>(
  options: ProgressOptions<Phase>,
  phase: Phase,
  totalBytes = 0,
): void {
  if (options.signal?.aborted === true) {
    throw new ChunkvolError('interrupted', 'interrupted; run the command again to go on');
  }
  options.onProgress?.({ phase, doneBytes: 0, totalBytes });
}

/** Options for the transfer that is this phase. */
export function transferOptions<Phase extends string>(
  options: ProgressOptions<Phase>,
  phase: Phase,
  totalBytes: number,
): TransferOptions {
  const { bandwidthLimit, onProgress, signal } = options;
  return {
    bandwidthLimit,
    signal,
    // What a tool sends twice would take the sum beyond the total.
    onProgress: (moved) =>
      onProgress?.({ phase, doneBytes: Math.min(moved, totalBytes), totalBytes }),
  };
}
