/**
 * Whether one state of a volume came out of another: a prefix test on lineages.
 *
 * Every attach is a writer session with a random id. A root's lineage lists the sessions that led to
 * it, each with the first generation that it made, the root's own session last. A root comes before
 * another when its list is a prefix of the other's, and it was made before the other's next session
 * began: what a session wrote after another one had taken its state over is a fork.
 *
 * Lists are compared by the digest of a prefix, which can be carried on from a head that was dropped:
 *
 *   digest(0)     = 32 zero bytes
 *   digest(n + 1) = SHA-256(digest(n) || session n)
 *
 * The `droppedDigest` of a lineage is digest(droppedCount).
 */
import { toHex } from '../base/bytes.js';
import { sha256, type Origin } from '../format/root.js';

/** What of a root is kept to place it on another's line: small, whatever the lineage's length. */
export interface LinePoint {
  readonly generation: number;
  /** Length of the whole lineage, dropped sessions included. */
  readonly sessions: number;
  /** digest(sessions), in hexadecimal. */
  readonly digest: string;
}

/** A root's own line, as far back as its lineage still tells. */
export interface Line extends LinePoint {
  readonly droppedSessions: number;
  /** digest(droppedSessions + i), in hexadecimal. */
  readonly digests: readonly string[];
  /** First generation of session droppedSessions + i. */
  readonly firstGenerations: readonly number[];
}

/**
 * 'ancestor': on the line, the root itself included. 'stranger': not on it; a later state, or a fork.
 * 'unknown': so old that the line no longer tells.
 */
export type Ancestry = 'ancestor' | 'stranger' | 'unknown';

export function lineOf(root: Origin): Line {
  const { droppedCount, droppedDigest, entries } = root.lineage;
  let digest = droppedDigest;
  const digests = [toHex(digest)];
  for (const { session } of entries) {
    digest = sha256(digest, session);
    digests.push(toHex(digest));
  }
  return {
    generation: root.generation,
    sessions: droppedCount + entries.length,
    digest: toHex(digest),
    droppedSessions: droppedCount,
    digests,
    firstGenerations: entries.map((entry) => entry.firstGeneration),
  };
}

export function pointOf(root: Origin): LinePoint {
  const { generation, sessions, digest } = lineOf(root);
  return { generation, sessions, digest };
}

/** Where `point` stands to the root that `line` is of. */
export function ancestry(point: LinePoint, line: Line): Ancestry {
  const index = point.sessions - line.droppedSessions;
  if (index < 0) {
    // The dropped sessions all ended before the first one kept; a later root cannot be theirs.
    const firstKept = line.firstGenerations[0] ?? line.generation + 1;
    return point.generation < firstKept ? 'unknown' : 'stranger';
  }
  if (line.digests[index] !== point.digest) return 'stranger';
  const nextSession = line.firstGenerations[index] ?? line.generation + 1;
  return point.generation < nextSession ? 'ancestor' : 'stranger';
}
