/**
 * Whole stripe rows out of damaged groups: k units that verify are read, the others are computed.
 *
 * A unit counts only after its MAC has been checked on the very bytes that were read; one that does not
 * verify is an erasure of that row alone. So damage may be spread over any number of members, as long
 * as each row has k sound units. A row stands in the codec that the caller gives; nothing else is kept.
 */
import { equalBytes } from '../base/bytes.js';
import { isChunkvolError } from '../base/errors.js';
import type { OpenFile } from '../base/files.js';
import { memberCount } from '../base/geometry.js';
import type { RowCodec } from '../erasure/row-codec.js';
import { unitLength, unitStart } from '../erasure/stripe.js';
import type { StoreContext } from '../store/context.js';
import { cryptParity, unitMac } from '../store/parity.js';
import type { GroupState } from './group-state.js';

export class RowSource {
  private readonly files: (OpenFile | null)[] = [];

  private constructor(
    private readonly context: StoreContext,
    private readonly state: GroupState,
  ) {}

  /** Opens the files of all members that are there. */
  static async open(context: StoreContext, state: GroupState): Promise<RowSource> {
    const source = new RowSource(context, state);
    for (const { check } of state.members) {
      const open = check.exists ? context.files.open(check.path, 'read').catch(asUnreadable) : null;
      source.files.push(await open);
    }
    return source;
  }

  async close(): Promise<void> {
    for (const file of this.files) await file?.close().catch(() => undefined);
  }

  /**
   * Brings a row into `codec`: data as stored, parity decrypted, all from units that verify. False when
   * fewer than k do.
   */
  async load(row: number, codec: RowCodec): Promise<boolean> {
    const { geometry } = this.state.group;
    const present = new Array<boolean>(memberCount(geometry)).fill(false);
    const candidates = this.state.soundPlaces(row);
    for (let have = 0; have < geometry.data;) {
      const batch = candidates.splice(0, geometry.data - have);
      if (batch.length === 0) return false;
      const verified = await Promise.all(batch.map((place) => this.readUnit(place, row, codec)));
      for (const [index, place] of batch.entries()) present[place] = verified[index]!;
      have += verified.filter(Boolean).length;
    }
    codec.reconstruct(present, unitStart(row), unitLength(geometry, this.state.end, 0, row));
    return true;
  }

  /** A unit of the loaded row as it is stored, from its start, with its MAC. Take each unit once. */
  take(place: number, row: number, codec: RowCodec): { bytes: Uint8Array; mac: Uint8Array } {
    const { geometry } = this.state.group;
    const bytes = codec.unit(place).subarray(0, this.unitLength(place, row));
    if (place >= geometry.data) this.cryptParity(place, row, bytes);
    return { bytes, mac: this.mac(place, row, bytes) };
  }

  /** The MAC of a unit that holds nothing. */
  emptyMac(place: number, row: number): Uint8Array {
    return this.mac(place, row, new Uint8Array(0));
  }

  /** Reads and checks a unit, and leaves it in the codec as plain parity or data. */
  private async readUnit(place: number, row: number, codec: RowCodec): Promise<boolean> {
    const length = this.unitLength(place, row);
    const bytes = codec.unit(place).subarray(0, length);
    // Units of one row are computed over the length of the longest.
    codec.unit(place).fill(0, length, this.unitLength(0, row));
    if (this.state.isEmpty(place, row)) return true;
    if (!(await this.readVerified(place, row, bytes))) {
      this.state.members[place]!.bad[row] = 1;
      return false;
    }
    if (place >= this.state.group.geometry.data) this.cryptParity(place, row, bytes);
    return true;
  }

  private async readVerified(place: number, row: number, bytes: Uint8Array): Promise<boolean> {
    const wanted = this.state.members[place]!.macs?.[row];
    if (!wanted) return false;
    const start = unitStart(row);
    const part = bytes.subarray(start);
    const position = row * this.state.group.geometry.unitBytes + start;
    const got = await this.files[place]?.read(part, position).catch(asUnreadable);
    return got === part.length && equalBytes(this.mac(place, row, bytes), wanted);
  }

  private unitLength(place: number, row: number): number {
    return unitLength(this.state.group.geometry, this.state.end, place, row);
  }

  private mac(place: number, row: number, bytes: Uint8Array): Uint8Array {
    return unitMac(this.context.engine, this.state.group, place, row, bytes);
  }

  private cryptParity(place: number, row: number, bytes: Uint8Array): void {
    const start = unitStart(row);
    cryptParity(this.context.engine, this.state.group, place, row, start, bytes.subarray(start));
  }
}

/** What the disk cannot give is an erasure. */
function asUnreadable(error: unknown): null {
  if (isChunkvolError(error, 'io')) return null;
  throw error;
}
