import { describe, expect, it } from 'vitest';
import { remoteFailure } from '../../../src/sync/failures.js';
import type { ChunkvolError } from '../../../src/base/errors.js';

function failure(
  reason: string,
  more: { localTarget?: string; killedBy?: string } = {},
): ChunkvolError {
  return remoteFailure({
    tool: 'rsync',
    action: 'copy to',
    url: 'rsync:host:/x',
    result: {
      status: more.killedBy === undefined ? 23 : null,
      killedBy: more.killedBy ?? null,
      output: '',
      errorLines: [reason],
    },
    reason,
    localTarget: more.localTarget,
  });
}

/** What the tools really said, and what a user is told of it. */
const SAID: [reason: string, what: string][] = [
  ['ssh: connect to host 127.0.0.1 port 1: Connection refused', 'the host cannot be reached'],
  [
    'ssh: Could not resolve hostname no.invalid: Name or service not known',
    'the host cannot be reached',
  ],
  [
    'rsync: [Receiver] failed to connect to 127.0.0.1 (127.0.0.1): Connection refused (111)',
    'the host cannot be reached',
  ],
  [
    "NewFs: couldn't connect SSH: dial tcp 127.0.0.1:1: connect: connection refused",
    'the host cannot be reached',
  ],
  ['Host key verification failed.', 'the host is not known'],
  ['root@127.0.0.1: Permission denied (publickey).', 'the login was refused'],
  ['@ERROR: auth failed on module write', 'the login was refused'],
  [
    'ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey]',
    'the login was refused',
  ],
  [
    'InvalidAccessKeyId: The AWS Access Key Id does not exist. status code: 403',
    'the login was refused',
  ],
  ['rsync: [receiver] mkstemp "/x/.a.XXXXXX" failed: Permission denied (13)', 'permission denied'],
  ['AccessDenied: Access Denied status code: 403, request id: x', 'permission denied'],
  ['ERROR: module is read only', 'the remote is read-only'],
  [
    'rsync: [generator] recv_generator: mkdir "/x" failed: Read-only file system (30)',
    'the remote is read-only',
  ],
  ['rsync: [receiver] write failed on "/x": No space left on device (28)', 'the remote is full'],
  ['preallocate: file too big for remaining disk space', 'the remote is full'],
  ["@ERROR: Unknown module 'nomod'", 'there is no such remote'],
  ["didn't find section in config file", 'there is no such remote'],
  ['rsync: [sender] link_stat "/x" failed: No such file or directory (2)', 'a file is missing'],
  [
    'rsync: connection unexpectedly closed (0 bytes received so far) [Receiver]',
    'the connection broke',
  ],
  ['something never heard of', 'rsync failed with status 23'],
];

describe('remoteFailure', () => {
  it.each(SAID)('%s', (reason, what) => {
    const error = failure(reason);
    expect(error.code).toBe('remote');
    expect(error.message).toContain(`cannot copy to rsync:host:/x: ${what}`);
    expect(error.message).toContain(reason);
    expect(error.message).toMatch(/\); \w/);
  });

  it('tells a full local disk from a full remote', () => {
    const reason = 'rsync: [receiver] write failed on "/x": No space left on device (28)';
    const error = failure(reason, { localTarget: '/vol' });
    expect(error.code).toBe('no-space');
    expect(error.message).toContain('the disk under /vol is full');
  });

  it('names the program that is missing, here or there', () => {
    expect(failure('rsync: [Receiver] Failed to exec ssh: No such file (2)')).toMatchObject({
      code: 'missing-tool',
      message: 'ssh is not installed; install it with: apt install openssh-client',
    });
    expect(failure('rsync error: remote command not found (code 127)')).toMatchObject({
      code: 'missing-tool',
      message: expect.stringContaining('on the host of rsync:host:/x') as string,
    });
  });

  it('tells of a killed tool', () => {
    expect(failure('', { killedBy: 'SIGKILL' }).message).toContain('rsync was killed (SIGKILL)');
  });

  it('stays on one line of bounded length', () => {
    const { message } = failure(`a\n\x1b[31mb ${'x'.repeat(9000)}`);
    expect(message).not.toMatch(/\p{Cc}/u);
    expect(message.length).toBeLessThan(600);
  });
});
