import { describe, expect, it } from 'vitest';
import { parseAge, parseCount } from '../../../src/cli/prune-arguments.js';

describe('parseCount', () => {
  it.each([
    [undefined, 0],
    ['0', 0],
    ['7', 7],
    ['99999', 99_999],
    ['unlimited', Infinity],
  ])('reads %s as %d', (text, count) => {
    expect(parseCount(text, '--keep-last')).toBe(count);
  });

  it.each(['', '-1', '1.5', '7d', '100000', 'all', ' 7'])('refuses %j', (text) => {
    expect(() => parseCount(text, '--keep-last')).toThrow(/^--keep-last /);
  });
});

describe('parseAge', () => {
  const none = { years: 0, months: 0, days: 0, hours: 0 };

  it.each([
    [undefined, null],
    ['0d', null],
    ['30d', { ...none, days: 30 }],
    ['1y5m7d2h', { years: 1, months: 5, days: 7, hours: 2 }],
    ['2h1y', { ...none, years: 1, hours: 2 }],
  ])('reads %s', (text, age) => {
    expect(parseAge(text, '--keep-within')).toEqual(age);
  });

  it.each(['', '30', 'd', '30 d', '-3d', '1w', '1d1d', '30d!', '1.5d', '100000d', '1D'])(
    'refuses %j',
    (text) => {
      expect(() => parseAge(text, '--keep-within')).toThrow(/^--keep-within /);
    },
  );
});
