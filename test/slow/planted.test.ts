/** A share of the planted bugs (npm run test:planted plants them all): another one every day. */
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

const SHARES = 14;

it('some bugs, planted, are caught', () => {
  const share = Math.floor(Date.now() / 86_400_000) % SHARES;
  const words = ['scripts/planted.mjs', '--share', `${share}/${SHARES}`];
  const { status, stdout } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  expect(status, stdout).toBe(0);
});
