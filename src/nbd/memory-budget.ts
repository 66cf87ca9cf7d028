/**
 * Memory for the payloads of all connections of a server together: a thousand clients that each ask for
 * the largest payload and never read it must not take a thousand times its memory.
 *
 * - Each connection may always hold OWN_BYTES, so that small requests are served whatever others do.
 * - What it holds beyond that comes from a common store, first come, first served.
 * - Who holds some of the store, lets its socket stand still for STALL_MS, and keeps others waiting, is
 *   cut off. A device that takes its time is no fault of its client's.
 */
import type { Clock } from '../base/clock.js';
import { MAX_PAYLOAD_BYTES } from './protocol.js';

/** What each connection may hold without asking. */
export const OWN_BYTES: number = 256 * 1024;
/** What all connections may hold beyond that, together. */
export const COMMON_BYTES: number = 8 * MAX_PAYLOAD_BYTES;
/** How long a client that neither sends nor reads may keep others waiting. */
export const STALL_MS = 10_000;
/** Those who keep others waiting are looked at no more often than this. */
const MIN_WATCH_MS = 100;

export class MemoryBudget {
  #leftBytes = COMMON_BYTES;
  readonly #accounts = new Set<Account>();
  /** In order of arrival. */
  readonly #waiting = new Set<Account>();
  #cancelTimer: (() => void) | null = null;

  constructor(private readonly clock: Clock) {}

  /** For one connection: `isStalled` tells whether it waits for its client, `cutOff` ends it. */
  open(isStalled: () => boolean, cutOff: () => void): Account {
    const account = new Account(this, this.clock, isStalled, cutOff);
    this.#accounts.add(account);
    return account;
  }

  /** Takes from the store, unless there is too little or others came first: then `account` waits. */
  take(account: Account, bytes: number): boolean {
    const [first] = this.#waiting;
    const isNext = first === undefined || first === account;
    if (bytes > 0 && (!isNext || bytes > this.#leftBytes)) {
      this.#waiting.add(account);
      this.#watch();
      return false;
    }
    this.#waiting.delete(account);
    this.#leftBytes -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.#leftBytes += bytes;
    this.#serve();
  }

  /** What it holds still counts, and may have it cut off. */
  stopWaiting(account: Account): void {
    if (this.#waiting.delete(account)) this.#serve();
  }

  close(account: Account): void {
    this.#accounts.delete(account);
    this.stopWaiting(account);
  }

  /** Lets those who wait try again, until one has to go on waiting. */
  #serve(): void {
    for (const account of this.#waiting) {
      account.retry();
      if (this.#waiting.has(account)) return;
    }
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  /** Until the one that has stood still for longest has done so for long enough. */
  #watch(): void {
    if (this.#cancelTimer !== null) return;
    const holders = [...this.#accounts].filter((account) => account.holdsCommon);
    const stoodMs = Math.max(0, ...holders.map((account) => account.stoodMs));
    const delayMs = Math.max(MIN_WATCH_MS, STALL_MS - stoodMs);
    this.#cancelTimer = this.clock.after(delayMs, () => {
      this.#cancelTimer = null;
      for (const account of [...this.#accounts]) account.cutOffIfStalled();
      if (this.#waiting.size > 0) this.#watch();
    });
  }
}

/** What one connection holds. */
export class Account {
  #heldBytes = 0;
  #movedMs: number;
  #retry: () => void = () => undefined;

  constructor(
    private readonly budget: MemoryBudget,
    private readonly clock: Clock,
    private readonly isStalled: () => boolean,
    private readonly cutOff: () => void,
  ) {
    this.#movedMs = clock.monotonic();
  }

  /** False when there is none left: `retry` is called, once, when there may be some. */
  take(bytes: number, retry: () => void): boolean {
    const common = commonBytes(this.#heldBytes + bytes) - commonBytes(this.#heldBytes);
    this.#retry = retry;
    if (!this.budget.take(this, common)) return false;
    // The client's time begins now, however long it had to wait.
    if (common > 0) this.moved();
    this.#heldBytes += bytes;
    return true;
  }

  give(bytes: number): void {
    const before = commonBytes(this.#heldBytes);
    this.#heldBytes -= bytes;
    const common = before - commonBytes(this.#heldBytes);
    if (common > 0) this.budget.give(common);
  }

  /** The client has sent or read something. */
  moved(): void {
    this.#movedMs = this.clock.monotonic();
  }

  /** Takes nothing more. */
  stopWaiting(): void {
    this.budget.stopWaiting(this);
  }

  /** Nobody is there any more to be cut off. */
  close(): void {
    this.budget.close(this);
  }

  get holdsCommon(): boolean {
    return commonBytes(this.#heldBytes) > 0;
  }

  /** How long its client has neither sent nor read. */
  get stoodMs(): number {
    return this.clock.monotonic() - this.#movedMs;
  }

  retry(): void {
    this.#retry();
  }

  cutOffIfStalled(): void {
    if (this.holdsCommon && this.stoodMs >= STALL_MS && this.isStalled()) this.cutOff();
  }
}

function commonBytes(heldBytes: number): number {
  return Math.max(0, heldBytes - OWN_BYTES);
}
