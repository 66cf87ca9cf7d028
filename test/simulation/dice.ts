/** What a simulated world draws from: dice that give the same numbers for the same seed, and time that a test turns. */
import type { Clock } from '../../src/base/clock.js';
import type { Randomness } from '../../src/base/randomness.js';
import { turn } from './turn.js';

/** A small generator (sfc32): fast, and good enough to look random to a volume. */
export class Dice {
  private a = 0;
  private b = 0;
  private c = 0;
  private counter = 0;

  constructor(seed: number) {
    this.reseed(seed);
  }

  /** From here on as dice of this seed, of up to 53 bits. */
  reseed(seed: number): void {
    this.a = seed >>> 0;
    this.b = 0x9e3779b9 ^ Math.floor(seed / 2 ** 32);
    this.c = 0x243f6a88;
    this.counter = 1;
    for (let i = 0; i < 12; i++) this.next();
  }

  /** A whole number from 0 below 2^32. */
  next(): number {
    const sum = (this.a + this.b + this.counter) >>> 0;
    this.counter = (this.counter + 1) >>> 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) >>> 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + sum) >>> 0;
    return sum;
  }

  /** A whole number from 0 below `limit`. */
  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  chance(probability: number): boolean {
    return this.next() < probability * 2 ** 32;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  bytes(length: number): Uint8Array {
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.next();
    return new Uint8Array(words.buffer, 0, length);
  }

  /**
   * Dice of their own, whose throws do not change those of this one. Of a million of them no two are the
   * same: what two kernels draw must differ.
   */
  fork(): Dice {
    return new Dice(this.next() * 2 ** 21 + (this.next() >>> 11));
  }
}

/** The kernel's generator of one simulated machine. */
export class SimulatedRandomness implements Randomness {
  constructor(private readonly dice: Dice) {}

  /** What a hypervisor lets a clone's kernel do. */
  reseed(seed: number): void {
    this.dice.reseed(seed);
  }

  bytes(length: number): Uint8Array {
    return this.dice.bytes(length);
  }
}

/** Turns of the event loop that work may take before time passes for it. */
const PATIENCE_TURNS = 300;
const STEP_MS = 20;
/** Who set a timer for no longer than this waits for it; others are for later. */
const MOMENT_MS = 250;

/** Time stands still until `advance`, or while somebody waits for it to pass. */
export class SimulatedClock implements Clock {
  private nowMs = 1_700_000_000_000;
  /** How far the wall clock is from where it should be. */
  private shiftMs = 0;
  private timers: { dueMs: number; delayMs: number; callback: () => void }[] = [];

  now(): number {
    return this.nowMs + this.shiftMs;
  }

  monotonic(): number {
    return this.nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { dueMs: this.nowMs + delayMs, delayMs, callback };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  /**
   * Time passes, little by little, when `work` takes long and somebody waits for a moment to pass. What takes
   * real time, as the first use of a kernel does, must not: a seed would not be the same world again.
   */
  async during<T>(work: Promise<T>): Promise<T> {
    const state = { settled: false };
    const end = (): void => {
      state.settled = true;
    };
    work.then(end, end);
    for (let turns = 1; !state.settled; turns++) {
      await turn();
      if (turns > PATIENCE_TURNS && this.isWaitedFor) this.advance(STEP_MS);
    }
    return work;
  }

  private get isWaitedFor(): boolean {
    return this.timers.some(({ delayMs }) => delayMs <= MOMENT_MS);
  }

  /** The wall clock is set, forwards or backwards; time itself goes on as it does. */
  jump(ms: number): void {
    this.shiftMs += ms;
  }

  advance(ms: number): void {
    this.nowMs += ms;
    const due = this.timers.filter(({ dueMs }) => dueMs <= this.nowMs);
    this.timers = this.timers.filter(({ dueMs }) => dueMs > this.nowMs);
    for (const { callback } of due) callback();
  }
}
