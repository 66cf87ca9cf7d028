/** The bounds of a volume at work: memory, queues, and the length of the log that recovery must read. */
import { MIB } from '../base/bytes.js';

/** Plaintext of blocks that are staged, or committed and not yet durable. */
export const STAGING_BYTES: number = 96 * MIB;

/** Staged bytes that start a commit without waiting for more. */
export const COMMIT_TARGET_BYTES: number = MIB;

/** Ranges of zeroed blocks that may wait in the staging buffer. */
export const MAX_STAGED_HOLES = 1024;

/** Staged blocks are committed after this time, flushed or not. */
export const COMMIT_AGE_MS = 500;

/** Bytes committed and not yet durable that start an fdatasync of our own. */
export const UNDURABLE_TARGET_BYTES: number = 16 * MIB;

/** Encrypted bytes that may wait for their write before commits wait for them. */
export const UNWRITTEN_LIMIT_BYTES: number = 16 * MIB;

/** Log since the last root that makes a new one due: what recovery may have to read. */
export const MAX_TAIL_BYTES: number = 256 * MIB;

/** Changed map nodes, of 4 KiB, that make a checkpoint due. */
export const MAX_DIRTY_NODES = 8192;

/** Map nodes kept in memory, changed ones included. */
export const MAX_CACHED_NODES = 24_576;

/** Map nodes of one commit of a checkpoint. */
export const MAX_NODES_PER_COMMIT = 256;

/** Closed roots kept beside those that are spaced over a day. */
export const KEPT_CLOSED_ROOTS = 8;

/** Beside those, one closed root is kept for each hour of the last day. */
export const KEPT_ROOT_HOURS = 24;

/** Sessions that a root's lineage lists one by one; older ones are folded into a digest. */
export const MAX_LINEAGE_ENTRIES = 4096;

/** Really written bytes that are given up when the disk under the volume is full; less for small groups. */
export const MAX_RESERVE_BYTES: number = 16 * MIB;

/** Free space below which new writes are refused. */
export const MIN_FREE_BYTES: number = 4 * MIB;

/** How long a statement about free space is believed. */
export const FREE_SPACE_AGE_MS = 200;

/** Requests are worked off in pieces of at most this, so that buffers stay bounded. */
export const MAX_PIECE_BYTES: number = 2 * MIB;
