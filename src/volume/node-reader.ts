/** Reading map nodes from the log, healed where they must be. */
import { nodeSlotKind } from '../format/commit.js';
import { decodeMapNode, NODE_BYTES } from '../format/map-node.js';
import type { SlotReader } from '../store/slot-reader.js';
import type { ReadNode } from './block-map.js';
import type { GroupTable } from './group-table.js';

export function makeNodeReader(slots: SlotReader, groups: GroupTable): ReadNode {
  return async (ordinal, position, level, index) => {
    const group = groups.get(ordinal);
    const plain = new Uint8Array(NODE_BYTES);
    await slots.read({
      group,
      key: group.keys.slot,
      address: position * 8,
      count: 1,
      plainBytes: NODE_BYTES,
      kind: nodeSlotKind(level),
      numbers: Float64Array.of(index),
      plain,
      plainAt: Uint32Array.of(0),
    });
    return decodeMapNode(plain);
  };
}
