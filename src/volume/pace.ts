/**
 * How fast writers may go on while more is dead in the log than may be: in proportion to what the
 * collector moves, and for a burst as fast as they like. So garbage comes back to its bounds under any load.
 *
 * The proportion is that of the hardest load at the bounds: blocks overwritten evenly, with a quarter as
 * much dead as is alive. The emptiest groups are two thirds alive then (Rosenblum and Ousterhout, 1992,
 * figure 5), so that two bytes are moved for each that is written; with nodes of the map, which die soon, and
 * room for counts that lag behind, nearly three. Beyond the bounds groups are emptier, and garbage falls.
 */
import type { Clock } from '../base/clock.js';
import { BURST_REFILL_MS, PACE_CHECK_BYTES } from './limits.js';

/** Bytes that may be written for each that is moved. */
const WRITTEN_PER_MOVED = 0.36;

/** A writer waits no longer than this at a time: a collector may have to walk first. */
const MAX_WAIT_MS = 250;

/** What there is too much of, and how much more may be borne with in a burst; in bytes. */
export interface Excess {
  readonly bytes: number;
  readonly burstBytes: number;
}

export class Pace {
  /** What may be written for what was moved, and has not been. */
  private earned = 0;
  /** What is used up of a burst. */
  private burst = 0;
  private refilledMs: number;
  private sinceCheck = 0;
  private over = false;
  private burstBytes = 0;
  private waiting: (() => void)[] = [];

  constructor(
    private readonly clock: Clock,
    private readonly excess: () => Excess,
    /** Called when writers have to wait. */
    private readonly onWait: () => void,
  ) {
    this.refilledMs = clock.monotonic();
  }

  /** Resolves when `bytes` may be taken from a writer. */
  async admit(bytes: number): Promise<void> {
    this.sinceCheck += bytes;
    if (this.sinceCheck >= PACE_CHECK_BYTES) this.look();
    while (this.over && !this.take(bytes)) {
      this.onWait();
      if (!(await this.isWoken())) return;
      this.look();
    }
  }

  /** The collector has moved so many bytes. */
  noteMoved(bytes: number): void {
    this.earned += bytes * WRITTEN_PER_MOVED;
    this.wake();
  }

  /** Lets everybody who waits look again. */
  wake(): void {
    for (const resume of this.waiting.splice(0)) resume();
  }

  private look(): void {
    const { bytes, burstBytes } = this.excess();
    this.burstBytes = burstBytes;
    this.sinceCheck = 0;
    this.over = bytes > 0;
    if (!this.over) this.earned = 0;
  }

  private take(bytes: number): boolean {
    const { burstBytes } = this;
    const now = this.clock.monotonic();
    const refill = (burstBytes * (now - this.refilledMs)) / BURST_REFILL_MS;
    this.burst = Math.max(0, this.burst - refill);
    this.refilledMs = now;
    if (this.earned >= bytes) {
      this.earned -= bytes;
      return true;
    }
    if (this.burst + bytes > burstBytes) return false;
    this.burst += bytes;
    return true;
  }

  /** False: the time for it has passed. */
  private isWoken(): Promise<boolean> {
    return new Promise((resolve) => {
      const cancel = this.clock.after(MAX_WAIT_MS, () => {
        resolve(false);
      });
      this.waiting.push(() => {
        cancel();
        resolve(true);
      });
    });
  }
}
