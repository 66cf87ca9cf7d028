import { expect, it } from 'vitest';
import { parseMounts } from '../../../src/cli/mounts.js';

it('reads mounts with spaces and backslashes in their names', () => {
  const text =
    'proc /proc proc rw,nosuid 0 0\n' +
    'nbdfuse /home/me/my\\040disk\\134x fuse.nbdfuse rw,user_id=0 0 0\n';
  expect(parseMounts(text)).toEqual([
    { source: 'proc', target: '/proc', type: 'proc' },
    { source: 'nbdfuse', target: '/home/me/my disk\\x', type: 'fuse.nbdfuse' },
  ]);
});
