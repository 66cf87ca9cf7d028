import { describe, expect, it } from 'vitest';
import { ChunkvolError, isChunkvolError } from '../../../src/base/errors.js';
import type { ErrorCode } from '../../../src/base/errors.js';
import { NbdError, nbdErrno } from '../../../src/nbd/errno.js';
import { Errno } from '../../../src/nbd/protocol.js';

describe('nbdErrno', () => {
  it.each<[ErrorCode, number]>([
    ['no-space', Errno.noSpace],
    ['read-only', Errno.notPermitted],
    ['closed', Errno.shutdown],
    ['io', Errno.io],
    ['lost', Errno.io],
    ['damaged', Errno.io],
    ['internal', Errno.io],
  ])('%s is errno %d', (code, errno) => {
    expect(nbdErrno(new ChunkvolError(code, 'x'))).toBe(errno);
  });

  it('takes a RangeError for the request being invalid, and anything else for EIO', () => {
    expect(nbdErrno(new RangeError('x'))).toBe(Errno.invalid);
    expect(nbdErrno(new TypeError('x'))).toBe(Errno.io);
    expect(nbdErrno('x')).toBe(Errno.io);
  });
});

describe('NbdError', () => {
  it('is a ChunkvolError with the code that the server had', () => {
    for (const code of ['no-space', 'read-only', 'closed', 'io'] as const) {
      const error = new NbdError('write', nbdErrno(new ChunkvolError(code, 'x')));
      expect(isChunkvolError(error, code)).toBe(true);
    }
    expect(new NbdError('write', Errno.noSpace).message).toContain('ENOSPC');
    expect(new NbdError('write', 77).message).toContain('error 77');
  });
});
