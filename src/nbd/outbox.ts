/**
 * What is to be sent on one socket: replies gather while the event loop turns, and go out in one
 * writev. One batch is under way at a time; what comes meanwhile is the next.
 *
 * Its owner bounds what it holds: `onSent` tells when a batch has reached the kernel, and the owner
 * admits new requests only then. Short replies are encoded straight into a shared strip of memory,
 * so that a batch's are one piece to the kernel, sent after the long ones: replies have no order.
 */
import type { Socket } from 'node:net';

/** Short replies of one batch share strips of this size. */
const STRIP_BYTES = 8192;

export class Outbox<Ticket> {
  #pieces: Uint8Array[] = [];
  #tickets: Ticket[] = [];
  /** The strip that short replies are encoded into; bytes from `#runAt` to `#stripAt` wait to become a piece. */
  strip: Buffer = Buffer.alloc(0);
  #runAt = 0;
  #stripAt = 0;
  #scheduled = false;
  #sending = false;
  #onEmpty: (() => void) | null = null;

  /** `onSent` gets the tickets of a batch when the kernel has its bytes, or when the socket is gone. */
  constructor(
    private readonly socket: Socket,
    private readonly onSent: (tickets: readonly Ticket[]) => void,
  ) {}

  /** Nothing waits and nothing is under way. */
  get empty(): boolean {
    return !this.#sending && !this.#scheduled;
  }

  /** Sends `piece`, which must not change until its ticket comes back through `onSent`. */
  send(piece: Uint8Array, ticket?: Ticket): void {
    this.#pieces.push(piece);
    this.#accept(ticket);
  }

  /**
   * Room for a short reply of `bytes` bytes: the offset in `strip` where the caller encodes it, at once.
   */
  reserve(bytes: number, ticket?: Ticket): number {
    if (this.#stripAt + bytes > this.strip.length) {
      this.#endRun();
      this.strip = Buffer.allocUnsafeSlow(STRIP_BYTES);
      this.#runAt = this.#stripAt = 0;
    }
    this.#accept(ticket);
    this.#stripAt += bytes;
    return this.#stripAt - bytes;
  }

  /** Calls `then` when everything given so far has reached the kernel; at once when it has already. */
  whenEmpty(then: () => void): void {
    if (this.empty) then();
    else this.#onEmpty = then;
  }

  #accept(ticket: Ticket | undefined): void {
    if (ticket !== undefined) this.#tickets.push(ticket);
    if (this.#scheduled) return;
    this.#scheduled = true;
    if (!this.#sending) setImmediate(this.#flush);
  }

  /** Makes one piece of the short replies encoded since the last time. */
  #endRun(): void {
    if (this.#runAt === this.#stripAt) return;
    this.#pieces.push(this.strip.subarray(this.#runAt, this.#stripAt));
    this.#runAt = this.#stripAt;
  }

  readonly #flush = (): void => {
    this.#endRun();
    const pieces = this.#pieces;
    const tickets = this.#tickets;
    this.#pieces = [];
    this.#tickets = [];
    this.#scheduled = false;
    this.#sending = true;
    const onSent = (): void => {
      this.#sent(tickets);
    };
    const last = pieces.pop()!;
    // A stream that is corked does more for each piece, of which there is mostly one.
    if (pieces.length > 0) this.socket.cork();
    for (const piece of pieces) this.socket.write(piece);
    this.socket.write(last, onSent);
    if (pieces.length > 0) this.socket.uncork();
  };

  #sent(tickets: readonly Ticket[]): void {
    this.#sending = false;
    // The owner may give more to send from within `onSent`; that schedules a flush by itself.
    const waiting = this.#scheduled;
    this.onSent(tickets);
    if (waiting) this.#flush();
    else if (this.empty) this.#takeOnEmpty()?.();
  }

  #takeOnEmpty(): (() => void) | null {
    const then = this.#onEmpty;
    this.#onEmpty = null;
    return then;
  }
}
