/**
 * Cuts a stream of chunks into the pieces that a state machine asks for, one at a time, copying each
 * byte once, straight to where it belongs; or not at all, where the source puts it there itself.
 *
 * The machine states a goal: fill this buffer, or skip that many bytes, then call me. While there is
 * no goal, nothing is consumed: `idle` tells the source to pause, and stating the next goal first
 * uses up what is left over and then calls `onHungry` to let the source flow again. That is the
 * whole of backpressure on input.
 */
import { KIB } from '../base/bytes.js';

/** Less is copied along with what comes before and after it. */
const MIN_SPACE_BYTES: number = 32 * KIB;

/** Up to here, which is a request's header, a loop is done before a call of the system's copy has begun. */
const MAX_LOOP_BYTES = 32;

export class Intake {
  readonly #leftovers: Buffer[] = [];
  #chunkAt = 0;
  #target: Buffer | null = null;
  /** Part of the target that the source may be filling. */
  #space: Buffer | null = null;
  #goalBytes = 0;
  #haveBytes = 0;
  #then: (() => void) | null = null;
  #running = false;

  /** `onHungry` is called when everything pushed has been used up and a goal is waiting for more. */
  constructor(private readonly onHungry: () => void) {}

  /** No goal is set: the source should pause. What is pushed all the same is kept. */
  get idle(): boolean {
    return this.#then === null;
  }

  /** Calls `then` once all of `target` is filled. */
  fill(target: Buffer, then: () => void): void {
    this.#aim(target, target.length, then);
  }

  /** Calls `then` once `bytes` bytes have gone by. */
  skip(bytes: number, then: () => void): void {
    this.#aim(null, bytes, then);
  }

  /** Forgets the goal. */
  stop(): void {
    this.#then = null;
    this.#target = null;
    this.#space = null;
  }

  /** `chunk` is used, or copied, when this returns. */
  push(chunk: Buffer): void {
    this.#leftovers.push(chunk);
    this.#run();
    const left = this.#leftovers.length - 1;
    if (left >= 0) this.#leftovers[left] = Buffer.from(this.#leftovers[left]!);
  }

  /** Memory that the source may bring the next bytes to itself, until the goal is forgotten; often null. */
  space(): Buffer | null {
    const isLong = this.#goalBytes - this.#haveBytes >= MIN_SPACE_BYTES;
    const isFree = this.#target !== null && isLong && this.#leftovers.length === 0;
    this.#space = isFree ? this.#target!.subarray(this.#haveBytes) : null;
    return this.#space;
  }

  /** So many bytes have come to the start of what `space` gave last. */
  filled(bytes: number): void {
    if (this.#space === null) return;
    this.#space = null;
    this.#haveBytes += bytes;
    this.#run();
  }

  #aim(target: Buffer | null, bytes: number, then: () => void): void {
    this.#target = target;
    this.#goalBytes = bytes;
    this.#haveBytes = 0;
    this.#then = then;
    if (this.#running) return;
    this.#run();
    if (!this.idle) this.onHungry();
  }

  /** A goal stated by a `then` is worked on in the same loop: no recursion, however small the pieces. */
  #run(): void {
    this.#running = true;
    while (this.#then !== null) {
      if (this.#haveBytes < this.#goalBytes) {
        const chunk = this.#leftovers[0];
        if (chunk === undefined) break;
        this.#consume(chunk);
      } else {
        const then = this.#then;
        this.stop();
        then();
      }
    }
    this.#running = false;
  }

  #consume(chunk: Buffer): void {
    const bytes = Math.min(this.#goalBytes - this.#haveBytes, chunk.length - this.#chunkAt);
    if (this.#target !== null) copyTo(this.#target, this.#haveBytes, chunk, this.#chunkAt, bytes);
    this.#haveBytes += bytes;
    this.#chunkAt += bytes;
    if (this.#chunkAt === chunk.length) {
      this.#leftovers.shift();
      this.#chunkAt = 0;
    }
  }
}

function copyTo(target: Buffer, targetAt: number, chunk: Buffer, at: number, bytes: number): void {
  if (bytes > MAX_LOOP_BYTES) chunk.copy(target, targetAt, at, at + bytes);
  else for (let each = 0; each < bytes; each++) target[targetAt + each] = chunk[at + each]!;
}
