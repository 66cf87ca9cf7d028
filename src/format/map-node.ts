/**
 * A node of the map: 512 entries of 8 bytes (group ordinal u32, position u32), both little-endian.
 *
 * Level 0 nodes name block slots, level n nodes name nodes of level n - 1. Entry i of node (level,
 * index) stands for block, or node, number index * 512 + i of the level below. Ordinal 0 means that
 * nothing is there: all zeros. What a node is (level, index) is bound by its slot's associated data.
 */

export const NODE_FANOUT = 512;
export const NODE_BYTES: number = NODE_FANOUT * 8;

/** In memory: ordinal of entry i at 2i, position at 2i + 1. */
export type MapNode = Uint32Array;

const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** `copies`: the machine's order of bytes is that of the format. */
export function encodeMapNode(
  node: MapNode,
  into: Uint8Array,
  copies: boolean = LITTLE_ENDIAN,
): void {
  if (copies) {
    into.set(new Uint8Array(node.buffer, node.byteOffset, NODE_BYTES));
    return;
  }
  const view = new DataView(into.buffer, into.byteOffset, NODE_BYTES);
  for (let i = 0; i < node.length; i++) view.setUint32(i * 4, node[i]!, true);
}

export function decodeMapNode(bytes: Uint8Array, copies: boolean = LITTLE_ENDIAN): MapNode {
  const node = new Uint32Array(NODE_FANOUT * 2);
  if (copies) {
    new Uint8Array(node.buffer).set(bytes.subarray(0, NODE_BYTES));
    return node;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, NODE_BYTES);
  for (let i = 0; i < node.length; i++) node[i] = view.getUint32(i * 4, true);
  return node;
}

/** Levels that a map of `blocks` blocks needs: 1 up to 512 blocks, 2 up to 512^2, ... */
export function mapDepth(blocks: number): number {
  let depth = 1;
  for (let reach = NODE_FANOUT; reach < blocks; reach *= NODE_FANOUT) depth++;
  return depth;
}
