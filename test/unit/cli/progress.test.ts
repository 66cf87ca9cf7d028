import { describe, expect, it } from 'vitest';
import { ProgressDisplay } from '../../../src/cli/progress.js';

class Screen {
  readonly written: string[] = [];
  now = 0;

  constructor(
    readonly isTTY: boolean,
    readonly columns = 80,
  ) {}

  write(text: string): void {
    this.written.push(text);
  }

  display(quiet = false): ProgressDisplay {
    return new ProgressDisplay(quiet, this, () => this.now);
  }
}

const MIB = 2 ** 20;

describe('ProgressDisplay on a terminal', () => {
  it('rewrites one line with bytes, share, rate and time left', () => {
    const screen = new Screen(true);
    const display = screen.display();
    display.update({ phase: 'chunks', doneBytes: 0, totalBytes: 100 * MIB });
    screen.now = 5000;
    display.update({ phase: 'chunks', doneBytes: 50 * MIB, totalBytes: 100 * MIB });
    expect(screen.written[0]).toBe('\r\x1b[Kchunks: 0 B of 100 MiB (0 %)');
    expect(screen.written[1]).toBe(
      '\r\x1b[Kchunks: 50.0 MiB of 100 MiB (50 %), 10.0 MiB/s, 5 s left',
    );
    display.end();
    expect(screen.written[2]).toBe('\r\x1b[K');
  });

  it('writes at most five times a second', () => {
    const screen = new Screen(true);
    const display = screen.display();
    for (let each = 0; each < 1000; each++) {
      screen.now = each;
      display.update({ phase: 'check', doneBytes: each, totalBytes: null });
    }
    expect(screen.written).toHaveLength(5);
  });

  it('never fills the last column, where a terminal would wrap', () => {
    const screen = new Screen(true, 20);
    screen.display().update({ phase: 'x'.repeat(50), doneBytes: 0, totalBytes: null });
    expect(screen.written[0]).toHaveLength('\r\x1b[K'.length + 19);
  });
});

describe('ProgressDisplay elsewhere', () => {
  it('writes a plain line every ten seconds, and none for short work', () => {
    const screen = new Screen(false);
    const display = screen.display();
    for (screen.now = 0; screen.now < 25_000; screen.now += 500) {
      display.update({ phase: 'check', doneBytes: screen.now * 1024, totalBytes: null });
    }
    display.end();
    expect(screen.written).toHaveLength(2);
    expect(screen.written[0]).toBe('check: 9.77 MiB, 1000 KiB/s\n');
  });

  it('writes nothing when it is to be quiet', () => {
    const screen = new Screen(true);
    screen.display(true).update({ phase: 'check', doneBytes: 1, totalBytes: 2 });
    expect(screen.written).toEqual([]);
  });
});
