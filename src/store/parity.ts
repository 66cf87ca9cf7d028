/**
 * What a stripe row gets beside its data: encrypted parity, and the MAC of every unit.
 *
 * Parity is stored encrypted: AES-256-CTR under a key of the seal id, with the initial counter block
 *   place u16 | row u32 | zero u48 | block counter u32, big-endian
 * so that nobody without the key can find the files of one group by linear algebra. The MAC of a unit
 * is GMAC over its stored bytes (behind the header in row 0), nonce = place u32 | row u64, little-endian.
 */
import type { CryptoEngine } from '../crypto/engine.js';
import type { RowCodec } from '../erasure/row-codec.js';
import { unitLength, unitStart } from '../erasure/stripe.js';
import { sha256 } from '../format/root.js';
import type { Group, SealKeys } from './group.js';

/** Of a group, so much as serves here. */
interface Keyed<Key extends keyof SealKeys> {
  readonly sealKeys: Pick<SealKeys, Key>;
}

export function parityCounter(place: number, row: number): Uint8Array {
  const counter = Buffer.alloc(16);
  counter.writeUInt16BE(place, 0);
  counter.writeUInt32BE(row, 2);
  return counter;
}

/** The GMAC of one unit; `bytes` is the unit from its start, header zone included. */
export function unitMac(
  engine: CryptoEngine,
  group: Keyed<'mac'>,
  place: number,
  row: number,
  bytes: Uint8Array,
): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(place, 0);
  nonce.writeUInt32LE(row, 4);
  return engine.gmac(group.sealKeys.mac, nonce, [bytes.subarray(unitStart(row))]);
}

/** Encrypts or decrypts, in place, bytes of a parity unit that start `offset` into the unit. */
export function cryptParity(
  engine: CryptoEngine,
  group: Keyed<'parity'>,
  place: number,
  row: number,
  offset: number,
  bytes: Uint8Array,
): void {
  engine.ctr(group.sealKeys.parity, parityCounter(place, row), bytes, offset);
}

/**
 * Computes and encrypts the parity of a row whose data units stand in `codec` (zeros where nothing is),
 * for a data area that ends at `end`, and returns the MACs of all its units in order of places.
 */
export function finishRow(
  engine: CryptoEngine,
  group: Pick<Group, 'geometry'> & Keyed<'mac' | 'parity'>,
  codec: RowCodec,
  row: number,
  end: number,
): Uint8Array[] {
  const { data, parity } = group.geometry;
  const longest = unitLength(group.geometry, end, 0, row);
  codec.encode(unitStart(row), longest);
  const macs: Uint8Array[] = [];
  for (let place = 0; place < data + parity; place++) {
    const unit = codec.unit(place).subarray(0, unitLength(group.geometry, end, place, row));
    if (place >= data) {
      const start = unitStart(row);
      cryptParity(engine, group, place, row, start, unit.subarray(start));
    }
    macs.push(unitMac(engine, group, place, row, unit));
  }
  return macs;
}

/** What the manifest says of a member: a digest of the MACs of all its units. */
export function memberDigest(macs: readonly Uint8Array[]): Uint8Array {
  return sha256(...macs);
}
