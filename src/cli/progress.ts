/**
 * How far long work is, on standard error: a line that rewrites itself on a terminal, a plain line
 * now and then otherwise, nothing with --quiet.
 */
import { formatBytes, formatDuration } from './size.js';
import type { Progress } from './control-protocol.js';

/** How a ProgressDisplay sees its stream; process.stderr is one. */
export interface DisplayStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const TERMINAL_INTERVAL_MS = 200;
const PLAIN_INTERVAL_MS = 10_000;
/** Before this the rate says nothing about the time left. */
const SETTLE_MS = 2_000;
const CLEAR_LINE = '\r\x1b[K';

export class ProgressDisplay {
  #phase = '';
  #startMs = 0;
  #startBytes = 0;
  #nextMs = 0;
  #shown = false;

  constructor(
    private readonly quiet: boolean,
    private readonly stream: DisplayStream = process.stderr,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Bound, so that it can be handed on. */
  readonly update = (progress: Progress): void => {
    if (this.quiet) return;
    const now = this.now();
    if (progress.phase !== this.#phase) this.#begin(progress, now);
    if (now < this.#nextMs) return;
    const interval = this.stream.isTTY ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS;
    this.#nextMs = now + interval;
    this.#show(this.#line(progress, now));
  };

  /** Leaves the terminal's line free for what comes next. */
  end(): void {
    if (this.#shown && this.stream.isTTY) this.stream.write(CLEAR_LINE);
    this.#shown = false;
  }

  #begin(progress: Progress, now: number): void {
    this.#phase = progress.phase;
    this.#startMs = now;
    this.#startBytes = progress.doneBytes;
    // Short work needs no plain lines at all; a terminal shows everything at once.
    this.#nextMs = this.stream.isTTY ? now : now + PLAIN_INTERVAL_MS;
  }

  #line({ phase, doneBytes, totalBytes }: Progress, now: number): string {
    const seconds = (now - this.#startMs) / 1000;
    const rate = seconds > 0 ? (doneBytes - this.#startBytes) / seconds : 0;
    const parts = [`${phase}: ${formatBytes(doneBytes)}${share(doneBytes, totalBytes)}`];
    if (rate > 0) parts.push(`${formatBytes(Math.round(rate))}/s`);
    if (rate > 0 && totalBytes !== null && now - this.#startMs >= SETTLE_MS) {
      parts.push(`${formatDuration(Math.max(0, totalBytes - doneBytes) / rate)} left`);
    }
    return parts.join(', ');
  }

  #show(line: string): void {
    this.#shown = true;
    if (!this.stream.isTTY) this.stream.write(`${line}\n`);
    else this.stream.write(`${CLEAR_LINE}${line.slice(0, (this.stream.columns ?? 80) - 1)}`);
  }
}

function share(doneBytes: number, totalBytes: number | null): string {
  if (totalBytes === null) return '';
  const percent = totalBytes === 0 ? 100 : Math.floor((100 * doneBytes) / totalBytes);
  return ` of ${formatBytes(totalBytes)} (${Math.min(percent, 100)} %)`;
}
