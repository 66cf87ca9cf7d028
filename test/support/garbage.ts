/** How much of a volume's log is dead, for tests that bound it. */
import { delay } from './sandbox.js';

const SETTLE_TIMEOUT_MS = 60_000;

interface Stored {
  readonly storedBytes: number;
  readonly garbageBytes: number;
}

/** Dead bytes for each live one. */
export function garbageShare({ garbageBytes, storedBytes }: Stored): number {
  return garbageBytes / (storedBytes - garbageBytes);
}

/** The collector has some seconds for what came last; then `isFine` must hold. */
export async function untilCollected<T extends Stored>(
  status: () => Promise<T>,
  isFine: (report: T) => boolean,
): Promise<void> {
  const deadlineMs = Date.now() + SETTLE_TIMEOUT_MS;
  for (;;) {
    const report = await status();
    if (isFine(report)) return;
    if (Date.now() > deadlineMs) throw new Error(`too much garbage: ${JSON.stringify(report)}`);
    await delay(200);
  }
}
