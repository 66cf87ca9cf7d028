/**
 * The maps as they stood in the log at one moment: what a walk goes by, at once or later on. Volume and
 * log go on meanwhile; what was known at that moment says what has changed since.
 */
import type { MapPointer, Snapshot } from '../format/snapshot.js';
import type { Group } from '../store/group.js';
import type { LogEndParts } from './log-end.js';

export interface Frozen {
  readonly trees: readonly MapPointer[];
  readonly snapshots: readonly Snapshot[];
  /** Of what there is beside the disk's blocks. */
  readonly headsVersion: number;
  /** What had been put into the log. */
  readonly loggedBytes: number;
  /** What was known to be alive in each group; after a walk what is known of that moment. */
  readonly groups: Map<Group, number>;
  /** Groups that were sealed, and lay wholly before the log's end. */
  readonly sealed: ReadonlySet<Group>;
  /** What was known to be mapped; after a walk as above. */
  mappedBlocks: number;
}

/** To be called right after a checkpoint, with the ordinal of the group in which the log ends. */
export function freezeMaps(parts: LogEndParts, ordinal: number): Frozen {
  const { map, heads, groups, counters } = parts;
  const { snapshots, version } = heads;
  return {
    trees: [map.root, ...snapshots.map((snapshot) => snapshot.map)],
    snapshots,
    headsVersion: version,
    loggedBytes: counters.loggedBytes,
    groups: new Map(groups.all().map((group) => [group, group.liveBytes])),
    sealed: new Set(groups.sealedBefore(ordinal)),
    mappedBlocks: map.mappedBlocks,
  };
}
