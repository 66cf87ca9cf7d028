/**
 * A snapshot, as roots list it and commits announce it: a name for a map that was.
 *
 *   snapshot: id 8, name (text), time u64 (ms), size u64 (bytes), mapped blocks u64, pointer
 *   pointer:  depth u8, ordinal u32 (0: the map is empty), position u32: where a map's top node stands
 */
import type { RecordReader, RecordWriter } from './codec.js';

/** Names of volumes and snapshots have at most this many bytes of UTF-8. */
export const MAX_NAME_BYTES = 255;
/** With an empty name. */
export const SNAPSHOT_MIN_BYTES = 43;
export const SNAPSHOT_ID_BYTES = 8;

export interface MapPointer {
  readonly depth: number;
  /** 0 where the map is empty. */
  readonly ordinal: number;
  readonly position: number;
}

export interface Snapshot {
  readonly id: Uint8Array;
  readonly name: string;
  readonly timeMs: number;
  readonly sizeBytes: number;
  readonly mappedBlocks: number;
  readonly map: MapPointer;
}

export function writePointer(writer: RecordWriter, map: MapPointer): void {
  writer.u8(map.depth).u32(map.ordinal).u32(map.position);
}

export function readPointer(reader: RecordReader): MapPointer {
  const pointer = { depth: reader.u8(), ordinal: reader.u32(), position: reader.u32() };
  reader.require(pointer.depth >= 1 && pointer.depth <= 6, 'an impossible depth');
  return pointer;
}

export function writeSnapshot(writer: RecordWriter, snapshot: Snapshot): void {
  writer
    .fixed(snapshot.id, SNAPSHOT_ID_BYTES)
    .text(snapshot.name)
    .u64(snapshot.timeMs)
    .u64(snapshot.sizeBytes)
    .u64(snapshot.mappedBlocks);
  writePointer(writer, snapshot.map);
}

export function readSnapshot(reader: RecordReader): Snapshot {
  return {
    id: reader.fixed(SNAPSHOT_ID_BYTES),
    name: reader.text(MAX_NAME_BYTES),
    timeMs: reader.u64(),
    sizeBytes: reader.u64(),
    mappedBlocks: reader.u64(),
    map: readPointer(reader),
  };
}
