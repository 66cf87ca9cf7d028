/**
 * The replica of a closed root, in the data area of the group that was sealed after it.
 *
 * It is the root file's very bytes, cut in pieces of ROOT_PIECE_BYTES; the last piece is padded with
 * zeros to a multiple of 8. Each piece is a slot under the group's root-replica key (kind root, number
 * = index of the piece), placed one after another by the stripe rules from the replica's address.
 */
import { alignUp } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import { SLOT_OVERHEAD_BYTES } from '../crypto/engine.js';
import { place } from '../erasure/stripe.js';
import { ROOT_PIECE_BYTES, SLOT_KIND } from '../format/commit.js';
import type { RootReplica } from '../format/footer.js';
import { MAX_ROOT_FILE_BYTES } from '../format/root.js';
import { groupLabel, type Group } from './group.js';
import type { SlotReader } from './slot-reader.js';

const PIECE_ALIGNMENT_BYTES = 8;

/**
 * The bytes of the root file, each piece checked by its tag and rebuilt from parity where it must be.
 * Throws 'lost' when a piece can be had neither way, 'damaged' when the replica is impossibly long.
 */
export async function readRootReplica(
  slots: SlotReader,
  group: Group,
  replica: RootReplica,
): Promise<Uint8Array> {
  if (replica.bytes > MAX_ROOT_FILE_BYTES) {
    throw new ChunkvolError(
      'damaged',
      `the root replica of ${groupLabel(group)} claims ${replica.bytes} bytes; run chunkvol repair`,
    );
  }
  const plain = new Uint8Array(alignUp(replica.bytes, PIECE_ALIGNMENT_BYTES));
  let next = replica.address;
  for (let at = 0; at < plain.length; at += ROOT_PIECE_BYTES) {
    const plainBytes = Math.min(ROOT_PIECE_BYTES, plain.length - at);
    const slotBytes = plainBytes + SLOT_OVERHEAD_BYTES;
    const address = place(group.geometry, next, slotBytes);
    await slots.read({
      group,
      key: group.keys.rootReplica,
      address,
      count: 1,
      plainBytes,
      kind: SLOT_KIND.root,
      numbers: Float64Array.of(at / ROOT_PIECE_BYTES),
      plain,
      plainAt: Uint32Array.of(at),
    });
    next = address + slotBytes;
  }
  return plain.subarray(0, replica.bytes);
}
