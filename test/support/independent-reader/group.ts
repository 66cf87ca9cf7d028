/** Sections 7 and 14 of docs/format.md: the pieces of a group, rebuilt where they must be. */
import * as fs from 'node:fs';
import { keystream, openGcm } from './ciphers.js';
import { u32 } from './fields.js';
import { place, skipHeader, unitBytes, type Geometry } from './geometry.js';
import type { Keys } from './keys.js';
import { choose, rebuild, unitCounter } from './parity.js';

type PieceKey = 'slot' | 'record' | 'root replica';

export interface Piece {
  readonly key: PieceKey;
  readonly kind: number;
  readonly number: number;
}

export const BLOCK = (number: number): Piece => ({ key: 'slot', kind: 1, number });
export const NODE = (level: number, index: number): Piece => ({
  key: 'slot',
  kind: 2 + 256 * level,
  number: index,
});
export const COMMIT_HEADER: Piece = { key: 'record', kind: 3, number: 0 };
export const COMMIT_BODY = (sequence: number): Piece => ({
  key: 'record',
  kind: 4,
  number: sequence,
});
export const ROOT_PIECE = (index: number): Piece => ({
  key: 'root replica',
  kind: 5,
  number: index,
});

export function openPiece(
  key: Uint8Array,
  position: number,
  piece: Piece,
  slot: Buffer,
): Buffer | null {
  const salt = slot.subarray(slot.length - 8);
  const aad = Buffer.alloc(16);
  aad.writeUInt16LE(piece.kind, 0);
  aad.writeBigUInt64LE(BigInt(piece.number), 8);
  const sealed = slot.subarray(0, slot.length - 8);
  return openGcm(key, Buffer.concat([u32(position), salt]), sealed, aad);
}

export class Group {
  private readonly pieceKeys: Record<PieceKey, Buffer>;
  private readonly parityKey: Buffer;
  private readonly padKey: Buffer;

  constructor(
    keys: Keys,
    readonly id: Buffer,
    readonly ordinal: number,
    readonly geometry: Geometry,
    readonly sealed: boolean,
    sealId: Buffer,
    /** Infinity where nobody has said it. */
    readonly end: number,
    /** In order of places; null: missing. */
    private readonly paths: readonly (string | null)[],
  ) {
    this.pieceKeys = {
      slot: keys.d('slot', id),
      record: keys.d('record', id),
      'root replica': keys.m('root replica', id),
    };
    this.parityKey = keys.m('parity', id, sealId);
    this.padKey = keys.m('pad', id);
  }

  /** The plaintext of a piece of `bytes`, and the slot as stored; null when it cannot be had. */
  read(address: number, bytes: number, piece: Piece): { plain: Buffer; slot: Buffer } | null {
    const { data, unit } = this.geometry;
    const member = Math.floor(address / unit) % data;
    const row = Math.floor(Math.floor(address / unit) / data);
    for (const slot of this.candidates(member, row, address % unit, bytes + 24)) {
      const plain = openPiece(this.pieceKeys[piece.key], address / 8, piece, slot);
      if (plain) return { plain, slot };
    }
    return null;
  }

  /** What the range could hold: as the file says, then as any k others say. */
  private *candidates(
    member: number,
    row: number,
    from: number,
    bytes: number,
  ): Generator<Buffer, void> {
    const own = this.stored(member, row * this.geometry.unit + from, bytes);
    if (own) yield own;
    if (!this.sealed) return;
    const others = new Map<number, Buffer>();
    for (const other of this.paths.keys()) {
      const range = other === member ? null : this.range(other, row, from, bytes);
      if (range) others.set(other, range);
    }
    for (const chosen of choose([...others.keys()], this.geometry.data)) {
      const some = new Map(chosen.map((other) => [other, others.get(other)!]));
      yield rebuild(this.geometry, member, some);
    }
  }

  /** Bytes of a unit, zeros behind its end, parity decrypted. */
  private range(member: number, row: number, from: number, bytes: number): Buffer | null {
    const there = unitBytes(this.geometry, this.end, member, row) - from;
    const length = Math.min(Math.max(there, 0), bytes);
    const range = Buffer.alloc(bytes);
    const stored = this.stored(member, row * this.geometry.unit + from, length);
    if (!stored) return null;
    stored.copy(range);
    if (member < this.geometry.data) return range;
    const stream = keystream(this.parityKey, unitCounter(member, row), from, length);
    for (let at = 0; at < length; at++) range[at]! ^= stream[at]!;
    return range;
  }

  /** Whether there is padding, and nothing else, from one address to another. */
  isPadding(from: number, to: number): boolean {
    const { data, unit } = this.geometry;
    for (let at = from; at < to;) {
      const index = Math.floor(at / unit);
      const stop = Math.min(to, (index + 1) * unit);
      const start = skipHeader(this.geometry, at);
      const offset = Math.floor(index / data) * unit + (start % unit);
      const length = Math.max(stop - start, 0);
      const padding = keystream(this.padKey, Buffer.alloc(16), start, length);
      if (length > 0 && !this.stored(index % data, offset, length)?.equals(padding)) return false;
      at = stop;
    }
    return true;
  }

  private stored(member: number, offset: number, bytes: number): Buffer | null {
    const path = this.paths[member];
    if (bytes === 0) return Buffer.alloc(0);
    return path ? readRange(path, offset, bytes) : null;
  }
}

/** Goes from piece to piece of a commit, and looks at the padding between them. */
export class Walk {
  /** In a sealed group it need not be looked at. */
  padded = true;

  constructor(
    private readonly group: Group,
    private at: number,
  ) {}

  /** The address of the next piece. */
  next(plainBytes: number): number {
    const address = place(this.group.geometry, this.at, plainBytes + 24);
    this.pass(address);
    this.at = address + plainBytes + 24;
    return address;
  }

  /** The end of the commit. */
  end(): number {
    this.pass(Math.ceil(this.at / 4096) * 4096);
    return this.at;
  }

  private pass(to: number): void {
    if (!this.group.sealed && !this.group.isPadding(this.at, to)) this.padded = false;
    this.at = to;
  }
}

export function readRange(path: string, offset: number, bytes: number): Buffer | null {
  if (!fs.existsSync(path)) return null;
  const file = fs.openSync(path, 'r');
  const buffer = Buffer.alloc(bytes);
  const got = fs.readSync(file, buffer, 0, bytes, offset);
  fs.closeSync(file);
  return got === bytes ? buffer : null;
}
