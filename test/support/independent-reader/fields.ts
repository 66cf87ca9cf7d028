/** Section 1 of docs/format.md: records and their fields. */
import { createHash } from 'node:crypto';

export const sha256 = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

/** Thrown by parsers; caught where a file or a piece is judged. */
export class Damaged extends Error {}

/** Reads fields one after another. */
export class Fields {
  private at = 0;
  constructor(private readonly view: Buffer) {}

  take(count: number): Buffer {
    if (this.at + count > this.view.length) throw new Damaged('a record is cut short');
    this.at += count;
    return this.view.subarray(this.at - count, this.at);
  }
  u8(): number {
    return this.take(1).readUInt8();
  }
  u16(): number {
    return this.take(2).readUInt16LE();
  }
  u32(): number {
    return this.take(4).readUInt32LE();
  }
  u48(): number {
    return this.take(6).readUIntLE(0, 6);
  }
  u64(): number {
    const value = Number(this.take(8).readBigUInt64LE());
    if (!Number.isSafeInteger(value)) throw new Damaged('a number beyond 2^53');
    return value;
  }
  text(): string {
    return this.take(this.u16()).toString('utf8');
  }
  zero(count: number): void {
    if (this.take(count).some((byte) => byte !== 0)) throw new Damaged('something for zero');
  }
  start(magic: string): void {
    if (this.take(4).toString('latin1') !== magic) throw new Damaged(`no ${magic}`);
    const version = this.u16();
    // Not Damaged: a newer version is refused, never passed over (15).
    if (version > 1) throw new Error(`${magic} has version ${version}: use a newer program`);
    if (version !== 1) throw new Damaged('version 0');
  }
  get position(): number {
    return this.at;
  }
  get more(): boolean {
    return this.at < this.view.length;
  }
  end(): void {
    this.zero(this.view.length - this.at);
  }
}

export function attempt<T>(work: () => T): T | null {
  try {
    return work();
  } catch (error) {
    if (error instanceof Damaged) return null;
    throw error;
  }
}

export const within = (value: number, min: number, max: number): boolean =>
  value >= min && value <= max;
