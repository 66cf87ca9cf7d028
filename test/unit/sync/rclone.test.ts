import { describe, expect, it } from 'vitest';
import { logReader, parseListing } from '../../../src/sync/rclone.js';

describe('parseListing', () => {
  it('takes names and sizes', () => {
    const output =
      '[\n{"Path":"0af3","Name":"0af3","Size":10000,"ModTime":"","IsDir":false},\n' +
      '{"Path":"d","Name":"d","Size":-1,"ModTime":"","IsDir":true}\n]\n';
    expect(parseListing(output, 'keys')).toEqual([{ path: 'keys/0af3', bytes: 10000 }]);
    expect(parseListing('[\n]\n', 'keys')).toEqual([]);
  });

  it.each(['', '[', '{}', '[{"Name":1,"Size":2}]', '[null]', '[{"Name":"x"}]'])(
    'is null for %j',
    (output) => {
      expect(parseListing(output, 'keys')).toBeNull();
    },
  );
});

describe('logReader', () => {
  it('tells progress, and keeps errors only', () => {
    const seen: number[] = [];
    const read = logReader((bytes) => seen.push(bytes));
    expect(read('{"level":"warning","msg":"x","stats":{"bytes":30000,"errors":0}}')).toBeNull();
    expect(read('{"level":"notice","msg":"Config file not found - using defaults"}')).toBeNull();
    expect(read('{"level":"error","msg":"Failed to copy: no"}')).toBe('Failed to copy: no');
    expect(read('{"level":"critical","msg":"Failed to copy: no"}')).toBe('Failed to copy: no');
    expect(read('2026/11/20 20:56:36 Failed to lsjson: no')).toBe('Failed to lsjson: no');
    expect(read('{"level":"err')).toBe('{"level":"err');
    expect(seen).toEqual([30000]);
  });
});
