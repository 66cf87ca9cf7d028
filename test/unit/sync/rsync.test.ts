import { describe, expect, it } from 'vitest';
import { deletionRules, parseListing, progressReader } from '../../../src/sync/rsync.js';

describe('parseListing', () => {
  it('takes the files and nothing else', () => {
    const output = [
      'drwxr-xr-x        4096 2026/11/20 20:51:48 .',
      '-rw-r--r--       10000 2026/11/20 20:51:48 0af3',
      '-rw------- 17179869184 2026/11/20 20:51:48 0af4',
      '-rw-r--r--           0 2026/11/20 20:51:48 with space',
      'lrwxrwxrwx           1 2026/11/20 20:51:48 link -> 0af3',
      '-rw-r--r--           2 2026/11/20 20:51:48 line\\#012-rw-r--r-- 7 2026/11/20 20:51:48 x',
      'drwxr-xr-x        4096 2026/11/20 20:51:48 folder',
      'A greeting of the host',
      '',
    ].join('\n');
    expect(parseListing(output, 'chunks')).toEqual([
      { path: 'chunks/0af3', bytes: 10000 },
      { path: 'chunks/0af4', bytes: 17179869184 },
      { path: 'chunks/with space', bytes: 0 },
    ]);
  });
});

describe('deletionRules', () => {
  it('exposes the named files, their folders, and what interrupted transfers left there', () => {
    expect(deletionRules(['chunks/0af3', 'chunks/x*\\y', 'roots/a\\b']).split('\0')).toEqual([
      '/chunks/',
      '/roots/',
      '/chunks/.chunkvol-partial/***',
      '/roots/.chunkvol-partial/***',
      '/chunks/0af3',
      '/chunks/x\\*\\\\y',
      '/roots/a\\b',
      '',
    ]);
  });
});

describe('progressReader', () => {
  it('reads numbers across any split of the text', () => {
    const text =
      '\r          32768   0%    0.00kB/s    0:00:00  \r      123456789012  99%   19.07MB/s    0:00:00 (xfr#1, to-chk=2/4)\n';
    for (let cut = 0; cut <= text.length; cut++) {
      const seen: number[] = [];
      const read = progressReader((bytes) => seen.push(bytes));
      read(text.slice(0, cut));
      read(text.slice(cut));
      expect(seen).toEqual([32768, 123456789012]);
    }
  });
});
