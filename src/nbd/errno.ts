/**
 * Failures on their way through the protocol: the one table from ChunkvolError codes to NBD's error
 * numbers, and back to a ChunkvolError on the client's side.
 */
import { ChunkvolError, isChunkvolError } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';
import { Errno } from './protocol.js';

/** Codes that NBD has a number for; every other one is an I/O error to a client. */
const ERRNO_OF_CODE: Partial<Record<ErrorCode, number>> = {
  'no-space': Errno.noSpace,
  'read-only': Errno.notPermitted,
  closed: Errno.shutdown,
};

/** The error number that a client is told when an operation on the device failed by `error`. */
export function nbdErrno(error: unknown): number {
  if (isChunkvolError(error)) return ERRNO_OF_CODE[error.code] ?? Errno.io;
  return error instanceof RangeError ? Errno.invalid : Errno.io;
}

const CODE_OF_ERRNO: Partial<Record<number, ErrorCode>> = {
  [Errno.noSpace]: 'no-space',
  [Errno.notPermitted]: 'read-only',
  [Errno.shutdown]: 'closed',
};

const NAME_OF_ERRNO: Partial<Record<number, string>> = {
  [Errno.notPermitted]: 'EPERM',
  [Errno.io]: 'EIO',
  [Errno.noMemory]: 'ENOMEM',
  [Errno.invalid]: 'EINVAL',
  [Errno.noSpace]: 'ENOSPC',
  [Errno.overflow]: 'EOVERFLOW',
  [Errno.notSupported]: 'ENOTSUP',
  [Errno.shutdown]: 'ESHUTDOWN',
};

/** A request that an NBD server answered with an error. */
export class NbdError extends ChunkvolError {
  constructor(
    operation: string,
    /** The number on the wire, one of Errno from a server that keeps to the protocol. */
    readonly errno: number,
  ) {
    const name = NAME_OF_ERRNO[errno] ?? `error ${errno}`;
    super(CODE_OF_ERRNO[errno] ?? 'io', `the NBD server refused to ${operation}: ${name}`);
    this.name = 'NbdError';
  }
}
