/**
 * A group as the running program knows it, and the names and keys that follow from its ids.
 *
 * The seal id decides the final names, the parity's encryption and the MACs. It is drawn when the
 * group is created; whoever seals in another's stead replaces it, so that no name, and no keystream,
 * ever serves two contents.
 */
import { toHex } from '../base/bytes.js';
import { memberCount, type Geometry } from '../base/geometry.js';
import type { SlotKey } from '../crypto/engine.js';
import { rowCount } from '../erasure/stripe.js';
import type { GroupState, RootGroup } from '../format/root.js';
import { chunkFolder, type StoreContext } from './context.js';

export const OPEN_SUFFIX = '.open';
/** A file that does not count yet: being created, or being built to take a final name. */
export const NEW_SUFFIX = '.new';

export interface GroupKeys {
  readonly slot: SlotKey;
  readonly record: SlotKey;
  readonly rootReplica: SlotKey;
  readonly pad: Uint8Array;
}

export interface SealKeys {
  readonly parity: Uint8Array;
  readonly mac: Uint8Array;
  readonly fill: Uint8Array;
}

export interface Group {
  readonly ordinal: number;
  readonly id: Uint8Array;
  readonly geometry: Geometry;
  /** 0 for a group of the log; else how many collections its blocks have come through, or more. */
  readonly survived: number;
  /** The log's group when this one was made, if it is none of the log; 0 when that is not known. */
  readonly bornAfter: number;
  readonly keys: GroupKeys;
  state: GroupState;
  sealId: Uint8Array;
  sealKeys: SealKeys;
  /** End of the data area as far as it is written (open) or for good (cut, sealed). */
  end: number;
  /** Rows whose parity is in the parity files; all of them once sealed. */
  parityRows: number;
  /** Where each member is, in order of places; the file may be missing. */
  paths: string[];
  manifestDigest: Uint8Array | null;
  /** Bytes of slots that the map, or a snapshot, names: a hint. */
  liveBytes: number;
}

export function makeGroup(
  context: StoreContext,
  fields: Pick<Group, 'ordinal' | 'id' | 'geometry' | 'survived' | 'state' | 'sealId' | 'end'> &
    Partial<Pick<Group, 'manifestDigest' | 'liveBytes' | 'bornAfter'>>,
): Group {
  const data = context.keys.data.group(fields.id);
  const outer = context.keys.maintenance.group(fields.id);
  const suffix = fields.state === 'sealed' ? '' : OPEN_SUFFIX;
  return {
    manifestDigest: null,
    liveBytes: 0,
    bornAfter: 0,
    ...fields,
    keys: {
      slot: context.engine.slotKey(data.slot),
      record: context.engine.slotKey(data.record),
      rootReplica: context.engine.slotKey(outer.rootReplica),
      pad: outer.pad,
    },
    sealKeys: context.keys.maintenance.seal(fields.id, fields.sealId),
    parityRows: fields.state === 'sealed' ? rowCount(fields.geometry, fields.end) : 0,
    paths: memberPaths(context, fields.id, fields.sealId, fields.geometry, suffix),
  };
}

export function groupOfRoot(context: StoreContext, entry: RootGroup): Group {
  return makeGroup(context, { ...entry, id: entry.groupId });
}

export function rootEntry(group: Group): RootGroup {
  return {
    ordinal: group.ordinal,
    state: group.state,
    geometry: group.geometry,
    groupId: group.id,
    sealId: group.sealId,
    survived: group.survived,
    end: group.end,
    manifestDigest: group.manifestDigest,
    liveBytes: group.liveBytes,
  };
}

/** Gives the group another seal id: new names, new parity and MAC keys. */
export function setSealId(context: StoreContext, group: Group, sealId: Uint8Array): void {
  group.sealId = sealId;
  group.sealKeys = context.keys.maintenance.seal(group.id, sealId);
}

/** The final name of a member, 32 hexadecimal digits. */
export function memberName(
  context: Pick<StoreContext, 'keys'>,
  groupId: Uint8Array,
  sealId: Uint8Array,
  place: number,
): string {
  return context.keys.maintenance.fileName('chunk', groupId, sealId, Uint8Array.of(place));
}

export function memberPaths(
  context: StoreContext,
  groupId: Uint8Array,
  sealId: Uint8Array,
  geometry: Geometry,
  suffix: string,
): string[] {
  return Array.from(
    { length: memberCount(geometry) },
    (_, place) => `${chunkFolder(context)}/${memberName(context, groupId, sealId, place)}${suffix}`,
  );
}

/** Short name of a group for messages: its ordinal and the first digits of its id. */
export function groupLabel(group: Pick<Group, 'ordinal' | 'id'>): string {
  return `group ${group.ordinal} (${toHex(group.id).slice(0, 8)})`;
}
