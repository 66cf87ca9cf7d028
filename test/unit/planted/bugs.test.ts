/** The bugs that `npm run test:planted` plants: each must still find its place in the code. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { PLANTED_BUGS } from '../../planted/bugs.mjs';

describe('a bug to plant', () => {
  it.each(PLANTED_BUGS.map((bug) => [bug.name, bug] as const))('finds its place: %s', (_, bug) => {
    expect(readFileSync(bug.file, 'utf8').split(bug.find)).toHaveLength(2);
    expect(bug.put).not.toBe(bug.find);
    for (const test of bug.tests) expect(existsSync(test), test).toBe(true);
  });
});
