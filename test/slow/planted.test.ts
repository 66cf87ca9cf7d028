/** A few of the planted bugs, each of another part (npm run test:planted plants them all). */
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

const BUGS = [
  'two histories in one folder are taken for one',
  'the inner part of a root goes with any outer part',
  'the parity matrix is off by one',
  'old key files go before the new one is there',
  'the root is not read back',
];

it('some bugs, planted, are caught', () => {
  const words = ['scripts/planted.mjs', ...BUGS.flatMap((name) => ['--only', name])];
  const { status, stdout } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  expect(status, stdout).toBe(0);
  expect(stdout).toContain(`${BUGS.length} of ${BUGS.length}`);
});
