import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatBytes, formatDuration, parseSize } from '../../../src/cli/size.js';

describe('parseSize', () => {
  it.each([
    ['0', 0],
    ['4096', 4096],
    ['64K', 65536],
    ['64k', 65536],
    ['64KiB', 65536],
    ['100G', 100 * 2 ** 30],
    ['1.5G', 1.5 * 2 ** 30],
    ['0.5 K', 512],
    ['1P', 2 ** 50],
    ['1024T', 2 ** 50],
    [' 7M ', 7 * 2 ** 20],
  ])('reads %j as %d bytes', (text, bytes) => {
    expect(parseSize(text, '--size')).toBe(bytes);
  });

  it.each(['', 'G', '-1', '1X', '1GB', '1e3', '0x10', '1,5G', '1.G', '.5G', '1 2', '1KK', 'NaN'])(
    'refuses %j and names the option',
    (text) => {
      expect(() => parseSize(text, '--size')).toThrow(
        expect.objectContaining({
          code: 'usage',
          message: expect.stringContaining('--size') as string,
        }),
      );
    },
  );

  it.each(['0.1K', '1.5', '9007199254740992', '8P0', '9P', '99999999999999999999'])(
    'refuses %j, which is no exact number of bytes',
    (text) => {
      expect(() => parseSize(text, '--size')).toThrow(expect.objectContaining({ code: 'usage' }));
    },
  );

  it('is exact for every whole number of every unit', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 20), fc.constantFrom('', 'K', 'M', 'G'), (number, unit) => {
        const factor = 1024 ** ['', 'K', 'M', 'G'].indexOf(unit);
        expect(parseSize(`${number}${unit}`, '--size')).toBe(number * factor);
      }),
    );
  });
});

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.00 KiB'],
    [1536, '1.50 KiB'],
    [15 * 2 ** 20, '15.0 MiB'],
    [100 * 2 ** 30, '100 GiB'],
    [2 ** 20 - 1, '1.00 MiB'],
    [2 ** 50, '1.00 PiB'],
    [5000 * 2 ** 50, '5000 PiB'],
  ])('writes %d as %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it('never writes more than four digits of a unit that has a next one', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        const [, digits] = /^([\d.]+) /.exec(formatBytes(bytes % 2 ** 53)) ?? [];
        expect(Number(digits)).toBeLessThan(10_000);
        expect(formatBytes(bytes)).not.toMatch(/^102[4-9] [KMGT]/);
      }),
    );
  });
});

describe('formatDuration', () => {
  it.each([
    [0.2, '0 s'],
    [59.4, '59 s'],
    [59.6, '1 min 0 s'],
    [185, '3 min 5 s'],
    [7800, '2 h 10 min'],
  ])('writes %d seconds as %s', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });
});
