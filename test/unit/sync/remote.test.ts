import { describe, expect, it } from 'vitest';
import { bandwidthBytes, checkPaths, foldersOf, growing } from '../../../src/sync/remote.js';

describe('bandwidthBytes', () => {
  it.each([
    ['1', 1],
    ['512K', 524288],
    ['2M', 2097152],
    ['1.5m', 1572864],
    ['1G', 1073741824],
  ])('%s is %i bytes per second', (text, bytes) => {
    expect(bandwidthBytes(text)).toBe(bytes);
  });

  it.each(['', '0', 'K', '-1M', '2MB', '1e3', '2 M', '0.1'])('refuses %j', (text) => {
    expect(() => bandwidthBytes(text)).toThrow(/not a bandwidth/);
  });
});

describe('checkPaths', () => {
  it('takes what lies in a folder, whatever else the name is like', () => {
    expect(() => {
      checkPaths(['chunks/0af3', '-keys/-x', 'a/b/c', 'roots/with space *?[\\', 'a/#ü']);
    }).not.toThrow();
  });

  it.each(['', 'x', '/x', 'x/', '../x', 'a/../b', 'a/./b', 'a//b', 'a/b\nc', 'a/b\0c', 'a/b\r'])(
    'refuses %j',
    (path) => {
      expect(() => {
        checkPaths(['chunks/fine', path]);
      }).toThrow(RangeError);
    },
  );
});

it('foldersOf names each folder once', () => {
  expect(foldersOf(['a/1', 'b/2', 'a/3', 'c/d/4'])).toEqual(['a', 'b', 'c/d']);
});

it('growing passes on only what grew', () => {
  const seen: number[] = [];
  [0, 5, 3, 5, 9].forEach(growing((bytes) => seen.push(bytes)));
  expect(seen).toEqual([5, 9]);
});
