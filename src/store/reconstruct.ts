/**
 * Reconstruction of a short range of one member from the others of its row.
 *
 * Which of the others are sound is not known beforehand, so sets of k of them are tried until the
 * result verifies; a result that does not verify is never handed out.
 */
import { memberCount } from '../base/geometry.js';
import { RowCodec } from '../erasure/row-codec.js';
import { locate, unitLength } from '../erasure/stripe.js';
import type { StoreContext } from './context.js';
import type { Group } from './group.js';
import type { MemberReader } from './member-reader.js';
import { cryptParity } from './parity.js';

/** Sets of members tried before a range is given up. 4 + 2 has 5 at most; 32 + 8 has too many to try all. */
const MAX_ATTEMPTS = 500;

export class Reconstructor {
  /** One codec for each geometry in use; it is only used synchronously. */
  private readonly codecs = new Map<string, Promise<RowCodec>>();

  constructor(
    private readonly context: StoreContext,
    private readonly members: MemberReader,
  ) {}

  /**
   * The `bytes` bytes at `address`, from the other members; null when no set of them gives bytes that
   * `verify` accepts. Address and length are multiples of 8, inside one unit.
   */
  async range(
    group: Group,
    address: number,
    bytes: number,
    verify: (candidate: Uint8Array) => boolean,
  ): Promise<Uint8Array | null> {
    const { geometry } = group;
    const target = locate(geometry, address);
    if (geometry.parity === 0 || target.row >= group.parityRows) return null;
    const from = target.offset % geometry.unitBytes;
    const others = await this.readOthers(group, target.member, target.row, from, bytes);
    const codec = await this.codec(group);
    const available = [...others.keys()];
    if (available.length < geometry.data) return null;
    let attempts = 0;
    for (const chosen of candidates(available, geometry.data)) {
      if (++attempts > MAX_ATTEMPTS) return null;
      const present = new Array<boolean>(memberCount(geometry)).fill(false);
      for (const place of chosen) {
        present[place] = true;
        codec.unit(place).set(others.get(place)!, from);
      }
      codec.reconstruct(present, from, from + bytes);
      const candidate = codec.unit(target.member).slice(from, from + bytes);
      if (verify(candidate)) return candidate;
    }
    return null;
  }

  /** The same range of every other member that can be read, parity decrypted, zeros behind a unit's end. */
  private async readOthers(
    group: Group,
    target: number,
    row: number,
    from: number,
    bytes: number,
  ): Promise<Map<number, Uint8Array>> {
    const { geometry } = group;
    const found = new Map<number, Uint8Array>();
    const places = Array.from({ length: memberCount(geometry) }, (_, place) => place);
    await Promise.all(
      places.map(async (place) => {
        if (place === target) return;
        const into = new Uint8Array(bytes);
        const stored = Math.min(unitLength(geometry, group.end, place, row) - from, bytes);
        if (stored > 0) {
          const part = into.subarray(0, stored);
          const offset = row * geometry.unitBytes + from;
          if (!(await this.members.read(group, place, offset, part))) return;
          if (place >= geometry.data) {
            cryptParity(this.context.engine, group, place, row, from, part);
          }
        }
        found.set(place, into);
      }),
    );
    return new Map([...found].sort(([a], [b]) => a - b));
  }

  private codec(group: Group): Promise<RowCodec> {
    const { data, parity, unitBytes } = group.geometry;
    const key = `${data}+${parity}/${unitBytes}`;
    let codec = this.codecs.get(key);
    if (!codec) {
      codec = RowCodec.create(data, parity, unitBytes);
      this.codecs.set(key, codec);
    }
    return codec;
  }
}

/**
 * The sets to try: first neighbours in a circle, so that every member is soon left out once, as it must
 * be when it is the one that is silently damaged; then all there are.
 */
export function* candidates(items: readonly number[], size: number): Generator<number[]> {
  for (let first = 0; first < items.length; first++) {
    yield Array.from({ length: size }, (_, i) => items[(first + i) % items.length]!);
    if (items.length === size) return;
  }
  yield* subsets(items, size);
}

/** All subsets of `size` items, in lexicographic order. */
export function* subsets(items: readonly number[], size: number): Generator<number[]> {
  if (size === 0) {
    yield [];
    return;
  }
  for (let first = 0; first + size <= items.length; first++) {
    for (const rest of subsets(items.slice(first + 1), size - 1)) yield [items[first]!, ...rest];
  }
}
