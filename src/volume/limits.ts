/** The bounds of a volume at work: memory, queues, and the length of the log that recovery must read. */
import { KIB, MIB } from '../base/bytes.js';
import type { Geometry } from '../base/geometry.js';

/** Plaintext of blocks that are staged, or committed and not yet durable. */
export const STAGING_BYTES: number = 80 * MIB;

/**
 * Staged bytes that start a commit without waiting for more: what one may take of a group, within these bounds.
 * The cost of a commit is that of many blocks.
 */
export const MIN_COMMIT_TARGET_BYTES: number = MIB;
export const MAX_COMMIT_TARGET_BYTES: number = 4 * MIB;

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

/** What the map nodes of a closed root may measure, of what was logged since the last one. */
export const ROOT_SHARE: number = 1 / 64;

/** Changed map nodes, of 4 KiB, that make a checkpoint due. */
export const MAX_DIRTY_NODES = 8192;

/** Map nodes kept in memory, changed ones included. */
export const MAX_CACHED_NODES = 24_576;

/** Map nodes kept in memory for each snapshot that is being read. */
export const MAX_SNAPSHOT_NODES = 1024;

/** Snapshots that a volume can have: each makes roots, and walks of the maps, longer. */
export const MAX_SNAPSHOTS = 4096;

/** Map nodes of one commit of a checkpoint; fewer in small groups. */
export const MAX_NODES_PER_COMMIT = 256;

/** Share of a group that one commit may take. */
const GROUP_SHARE = 16;

/** Bytes that one commit may take of a group. */
export function groupShareBytes({ data, chunkBytes }: Geometry): number {
  return (data * chunkBytes) / GROUP_SHARE;
}

/** Share of a group up to which a root's replica may measure: a larger one has none. */
export const REPLICA_SHARE: number = 1 / 4;

/** Live slots that one round of a collection moves: what a walk of the maps remembers. */
export const MAX_GATHERED_SLOTS: number = 256 * 1024;

/** What one commit of a collection moves. */
export const MAX_MOVED_BYTES: number = 4 * MIB;
export const MAX_MOVED_SLOTS = 1024;

/** Closed roots kept beside those that are spaced over a day. */
export const KEPT_CLOSED_ROOTS = 8;

/** Beside those, one closed root is kept for each hour of the last day. */
export const KEPT_ROOT_HOURS = 24;

/** Sessions that a root's lineage lists one by one; older ones are folded into a digest. */
export const MAX_LINEAGE_ENTRIES = 4096;

/**
 * Really written bytes that are given up when the disk under the volume is full: a share of a group, within
 * these bounds. With them a trim, the deletion of a snapshot and the roots of a collection get through.
 */
export const MIN_RESERVE_BYTES: number = 4 * MIB;
export const MAX_RESERVE_BYTES: number = 16 * MIB;

/** Free space below which new writes are refused. */
export const MIN_FREE_BYTES: number = 4 * MIB;

/** How long a statement about free space is believed. */
export const FREE_SPACE_AGE_MS = 200;

/** Requests are worked off in pieces of at most this, so that buffers stay bounded. */
export const MAX_PIECE_BYTES: number = 2 * MIB;

/** Longer reads are not made at once: other threads can do a part of them. */
export const MAX_READ_NOW_BYTES: number = 32 * KIB;

/** Dead bytes for each live one in the log that are borne with. */
export const GARBAGE_SHARE = 0.25;

/** The part of it beyond which a collection is due. */
export const COLLECT_FROM_SHARE = 0.8;

/** The part of it beyond which what is dead behind the last sealed groups of the log is brought before its end. */
export const SEAL_FROM_SHARE = 0.5;

/** The same for a collection by hand, and the most that a group keeps in a thorough one. */
export const GARBAGE_SHARE_BY_HAND = 0.04;
export const GARBAGE_SHARE_THOROUGH = 0.01;

/** Garbage beyond its share that is borne with in small volumes; less for small groups. */
export const MIN_GARBAGE_BYTES: number = 64 * MIB;

/** Files that nothing needs any more may stay until they are this share of what is stored. */
export const RETIRED_SHARE = 0.1;

/** Short groups of about one size that are merged when there are so many. */
export const MAX_SHORT_GROUPS = 16;

/** A collection in the background looks for work this often. */
export const COLLECT_INTERVAL_MS = 1000;

/** The share of its time that it works, unless garbage is far beyond its share. */
export const COLLECT_TIME_SHARE = 0.5;

/** What one round of a collection moves at most, of all that is alive: walks are cheap beside it. */
export const ROUND_SHARE: number = 1 / 8;
export const MIN_ROUND_BYTES: number = 8 * MIB;

/** Log since a checkpoint, of all that is alive, up to which a collection goes by the maps as they were then. */
export const FROZEN_SHARE: number = 1 / 4;

/** Writers may go ahead of the collector by as much garbage again as is borne with, once in this time. */
export const BURST_REFILL_MS = 600_000;

/** Written bytes after which it is looked whether writers are too fast. */
export const PACE_CHECK_BYTES: number = MIB;

/** A writer that hears nothing of the collector, which may have to walk first, waits for this time. */
export const TRICKLE_MS = 250;

/** What all of those may write then, but for the last: no load is to run away from a slow collector. */
export const TRICKLE_BYTES: number = MIB;

/** Nobody waits longer than this, whatever the collector says: who waits for an answer must get one. */
export const MAX_HELD_MS = 5000;
