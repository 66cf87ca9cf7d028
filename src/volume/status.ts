/** What a volume tells about itself. All values can be written as JSON. */
import { toHex } from '../base/bytes.js';
import { memberCount } from '../base/geometry.js';
import { rowBytes } from '../erasure/stripe.js';
import type { Group } from '../store/group.js';
import { statMember } from '../store/member-stat.js';
import { plausibleSize } from '../store/seal.js';
import type { HealCounters } from '../store/slot-reader.js';
import type { SnapshotInfo } from './snapshots.js';
import type { VolumeParts } from './volume.js';

/** Nodes of dropped subtrees that are counted for one status. */
const MAX_COUNTED_NODES = 10_000;

export interface GroupStatus {
  readonly ordinal: number;
  readonly id: string;
  readonly state: 'sealed' | 'open' | 'cut';
  readonly members: number;
  /** Members whose file is not there or cannot be whole, by its size. */
  readonly missing: number;
  readonly dataBytes: number;
  readonly liveBytes: number;
  readonly fileBytes: number;
}

export interface VolumeStatus {
  readonly name: string;
  readonly volumeId: string;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly geometry: {
    readonly data: number;
    readonly parity: number;
    readonly chunkBytes: number;
    readonly unitBytes: number;
  };
  readonly generation: number;
  /** Number of the next commit, and the last that is known to be durable. */
  readonly sequence: number;
  readonly durableUpTo: number;
  readonly mappedBytes: number;
  /** Bytes of the log in use, dead ones included, and how many of them are dead. */
  readonly storedBytes: number;
  readonly garbageBytes: number;
  /** Live because of snapshots alone, when that was last counted; null when it never was. */
  readonly snapshotBytes: number | null;
  /** In files that nothing in the present state needs, and that are not deleted yet. */
  readonly retiredBytes: number;
  readonly parityBytes: number;
  /** What the chunk files take in the folder. */
  readonly fileBytes: number;
  /** Acknowledged and not in the log yet. */
  readonly stagedBytes: number;
  /** In the log, and without parity on disk so far. */
  readonly unprotectedBytes: number;
  readonly writtenBytes: number;
  readonly loggedBytes: number;
  readonly groups: readonly GroupStatus[];
  /** The oldest first. */
  readonly snapshots: readonly SnapshotInfo[];
  readonly healed: HealCounters;
  readonly engine: string;
  readonly readOnly: boolean;
}

export async function volumeStatus(parts: VolumeParts): Promise<VolumeStatus> {
  const { context, slots, end } = parts;
  const { map, heads, groups: table, roots, staging, counters } = end.parts;
  await map.settleDropped(MAX_COUNTED_NODES);
  const all = table.all();
  const groups = await Promise.all(all.map((group) => groupStatus(parts, group)));
  const storedBytes = sum(all.map((group) => group.end));
  const liveBytes = sum(all.map((group) => group.liveBytes));
  const parityOf = ({ end: bytes, geometry }: Group): number =>
    (bytes / geometry.data) * geometry.parity;
  return {
    name: roots.facts.name,
    volumeId: toHex(context.volumeId),
    sizeBytes: heads.sizeBytes,
    blockBytes: staging.blockBytes,
    geometry: roots.facts.geometry,
    generation: roots.newestGeneration,
    sequence: end.point.sequence,
    durableUpTo: end.durable.sequence - 1,
    mappedBytes: map.mappedBlocks * staging.blockBytes,
    storedBytes,
    garbageBytes: Math.max(0, storedBytes - liveBytes),
    snapshotBytes: parts.collector.snapshotBytes,
    retiredBytes: Math.round(parts.retention.retiredBytes),
    parityBytes: Math.round(sum(all.map(parityOf))),
    fileBytes: sum(groups.map((group) => group.fileBytes)),
    stagedBytes: staging.stagedBytes,
    unprotectedBytes: sum(all.map(unprotected)),
    ...counters,
    groups,
    snapshots: parts.snapshots.list(),
    healed: { ...slots.counters },
    engine: context.engine.name,
    readOnly: parts.readOnly,
  };
}

async function groupStatus(parts: VolumeParts, group: Group): Promise<GroupStatus> {
  const stats = await Promise.all(group.paths.map((path) => statMember(parts.context.files, path)));
  const missing = stats.filter((stat, place) => {
    if (!stat) return true;
    return group.state === 'sealed' && !plausibleSize(group, place, stat.bytes);
  });
  return {
    ordinal: group.ordinal,
    id: toHex(group.id),
    state: group.state,
    members: memberCount(group.geometry),
    missing: missing.length,
    dataBytes: group.end,
    liveBytes: Math.min(group.liveBytes, group.end),
    fileBytes: sum(stats.map((stat) => stat?.bytes ?? 0)),
  };
}

function unprotected(group: Group): number {
  return Math.max(0, group.end - group.parityRows * rowBytes(group.geometry));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
