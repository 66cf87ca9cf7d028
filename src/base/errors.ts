/**
 * The one error class of operation, and the list of everything that can go wrong.
 *
 * A wrong argument from our own code is a TypeError or RangeError; all that a user, a disk, a remote
 * or an attacker can cause is a ChunkvolError with one of these codes. Two tables translate codes at
 * the borders: `exitStatus` here (documented in docs/cli.md) and `nbdErrno` in src/nbd.
 *
 * A message is one line: what happened, to which file, and what to do next.
 */

/** Exit status of the program for each code. 1 failed, 2 usage, 3 key, 4 lost, 5 in use, 6 remote, 7 tool. */
const STATUS_OF_CODE = {
  /** A bug in chunkvol itself, or a failure nothing more exact is known of. */
  internal: 1,
  /** Reading or writing a file of the volume failed (EIO and its like). */
  io: 1,
  /** The disk under the volume is full; what was acknowledged stays in memory and is retried. */
  'no-space': 1,
  /** The export is read-only. */
  'read-only': 1,
  /** The volume is shutting down. */
  closed: 1,
  /** There is no volume where one was expected. */
  'not-a-volume': 1,
  /** The volume, or one of its files, was written by a newer version of the program. */
  'newer-format': 1,
  /** There is nothing of that name: no such snapshot. */
  'not-found': 1,
  /** Something is already there that must not be overwritten. */
  exists: 1,
  /** The remote cannot be reached, refuses the login, or fails in the middle. */
  remote: 1,
  /** The remote holds files of another volume. */
  'remote-foreign': 1,
  /** The user stopped the operation. */
  interrupted: 1,
  /** Wrong command line, wrong unit, wrong name. */
  usage: 2,
  /** No key slot opens with this passphrase or key file. */
  'wrong-key': 3,
  /** Fewer than `data` healthy members of a group: bytes are lost. */
  lost: 4,
  /** A file does not authenticate, and nothing that could replace it is at hand. */
  damaged: 4,
  /** Recovery would have to cut away writes that a FLUSH had promised to keep. */
  'flushed-data-missing': 4,
  /** Another process has the volume open. */
  'in-use': 5,
  /** The remote and this volume have both been written since their last common state. */
  fork: 6,
  /** The remote is older than the state it is known to have had. */
  rollback: 6,
  /** A program that this operation needs is not installed. */
  'missing-tool': 7,
} as const;

export type ErrorCode = keyof typeof STATUS_OF_CODE;

export class ChunkvolError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'ChunkvolError';
    this.code = code;
  }
}

/** True when `error` is a ChunkvolError, with one of `codes` when any are given. */
export function isChunkvolError(error: unknown, ...codes: ErrorCode[]): error is ChunkvolError {
  return error instanceof ChunkvolError && (codes.length === 0 || codes.includes(error.code));
}

/** The exit status of the program when it ends by `error`. */
export function exitStatus(error: unknown): number {
  return isChunkvolError(error) ? STATUS_OF_CODE[error.code] : 1;
}

/** The one line that a user is shown for `error`. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Translates a failure of the operating system on `path` while doing `action` ("write", "open").
 * An error that is already ours is handed through.
 */
export function fromSystem(error: unknown, action: string, path: string): ChunkvolError {
  if (isChunkvolError(error)) return error;
  const errno = errnoOf(error);
  const code: ErrorCode = errno === 'ENOSPC' || errno === 'EDQUOT' ? 'no-space' : 'io';
  const reason =
    code === 'no-space'
      ? 'no space left on the disk; free some and try again'
      : errorMessage(error);
  return new ChunkvolError(code, `cannot ${action} ${path}: ${reason}`, { cause: error });
}

/** System errors that say something about this process and its rights, and nothing about the file. */
const OWN_TROUBLE: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EACCES', 'EPERM']);

/**
 * Whether a failure to read tells that the file is damaged. To take any other for damage would be to
 * replace healthy files, or to declare lost what is only out of reach.
 */
export function tellsDamage(error: unknown): boolean {
  return isChunkvolError(error, 'io') && !OWN_TROUBLE.has(errnoOf(error));
}

/** The name of the system error ("ENOENT"), or "" for anything else. */
export function errnoOf(error: unknown): string {
  if (error instanceof ChunkvolError) return errnoOf(error.cause);
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : '';
}
