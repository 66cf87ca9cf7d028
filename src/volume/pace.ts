/**
 * How fast writers may go on while more is dead in the log than may be: in proportion to what the
 * collector gains, and for a burst as fast as they like. So garbage comes back to its bounds under any load.
 *
 * What is written may come to be as much dead, sooner or later; with the nodes of the map, which die soon,
 * even more. So the closer garbage is to the bound, the smaller is the part of the gain that writers get: they
 * settle where both are in balance, whatever the load costs beside its own bytes.
 */
import type { Clock } from '../base/clock.js';
import {
  BURST_REFILL_MS,
  MAX_HELD_MS,
  MAX_PIECE_BYTES,
  PACE_CHECK_BYTES,
  TRICKLE_BYTES,
  TRICKLE_MS,
} from './limits.js';

/** What writers get of the gain at least. */
const MIN_SHARE = 0.1;

/** In bytes. */
export interface Excess {
  /** What there is too much of, beyond where writers begin to be held. */
  readonly bytes: number;
  /** From there to the bound. */
  readonly marginBytes: number;
  /** How much more may be borne with in a burst. */
  readonly burstBytes: number;
}

export class Pace {
  /** What may be written for what was gained, and has not been. */
  private earned = 0;
  /** What writers get of what is gained. */
  private share = 1;
  /** The share of a burst that is used up: how much one is changes with what is alive. */
  private burst = 0;
  private refilledMs: number;
  private sinceCheck = 0;
  private over = false;
  private burstBytes = 0;
  /** Written without a gain, and since when: in TRICKLE_MS at most. */
  private trickledBytes = 0;
  private trickledMs = -Infinity;
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
    const endMs = this.clock.monotonic() + MAX_HELD_MS;
    while (!this.admitNow(bytes)) {
      this.onWait();
      const isWoken = await this.isWoken();
      if (this.clock.monotonic() >= endMs) return;
      if (!isWoken && this.trickles(bytes)) return;
      this.look();
    }
  }

  /** Whether `bytes` may be taken from a writer without a wait. */
  admitNow(bytes: number): boolean {
    this.sinceCheck += bytes;
    if (this.sinceCheck >= PACE_CHECK_BYTES) this.look();
    return !this.over || this.take(bytes);
  }

  /** The collector has gained so many bytes, or will have when the groups that it empties are gone. */
  noteGained(bytes: number): void {
    this.earned += bytes * this.share;
    this.wake();
  }

  /** Lets everybody who waits look again. */
  wake(): void {
    for (const resume of this.waiting.splice(0)) resume();
  }

  private look(): void {
    const { bytes, marginBytes, burstBytes } = this.excess();
    this.burstBytes = burstBytes;
    this.sinceCheck = 0;
    this.over = bytes > 0;
    this.share = Math.min(1, Math.max(MIN_SHARE, 1 - bytes / marginBytes));
    // What nobody made use of must not take writers beyond the bound later on.
    const room = Math.max(marginBytes - bytes, MAX_PIECE_BYTES);
    this.earned = this.over ? Math.min(this.earned, room) : 0;
  }

  private take(bytes: number): boolean {
    const { burstBytes } = this;
    const now = this.clock.monotonic();
    this.burst = Math.max(0, this.burst - (now - this.refilledMs) / BURST_REFILL_MS);
    this.refilledMs = now;
    if (this.earned >= bytes) {
      this.earned -= bytes;
      return true;
    }
    const burst = this.burst + bytes / burstBytes;
    if (burst > 1) return false;
    this.burst = burst;
    return true;
  }

  private trickles(bytes: number): boolean {
    const now = this.clock.monotonic();
    if (now - this.trickledMs >= TRICKLE_MS) {
      this.trickledMs = now;
      this.trickledBytes = 0;
    }
    if (this.trickledBytes >= TRICKLE_BYTES) return false;
    this.trickledBytes += bytes;
    return true;
  }

  /** False: the time for it has passed. */
  private isWoken(): Promise<boolean> {
    return new Promise((resolve) => {
      const cancel = this.clock.after(TRICKLE_MS, () => {
        resolve(false);
      });
      this.waiting.push(() => {
        cancel();
        resolve(true);
      });
    });
  }
}
