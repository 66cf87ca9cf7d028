/**
 * Reading and writing of little-endian records of known layout, with every length checked.
 *
 * A reader that runs out of bytes, or meets a value that cannot be, throws FormatError: the record is
 * corrupt (or written by somebody who holds the keys and wishes us ill). Whoever decodes a file turns
 * that into a statement about the file.
 */

export class FormatError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FormatError';
  }
}

/** The record is of a version that this program does not know. */
export class NewerFormatError extends FormatError {}

export class RecordWriter {
  private bytes: Buffer;
  private at = 0;

  constructor(capacityBytes = 256) {
    this.bytes = Buffer.alloc(capacityBytes);
  }

  get length(): number {
    return this.at;
  }

  u8(value: number): this {
    const at = this.claim(1);
    this.bytes.writeUInt8(value, at);
    return this;
  }

  u16(value: number): this {
    const at = this.claim(2);
    this.bytes.writeUInt16LE(value, at);
    return this;
  }

  u32(value: number): this {
    const at = this.claim(4);
    this.bytes.writeUInt32LE(value, at);
    return this;
  }

  u48(value: number): this {
    const at = this.claim(6);
    this.bytes.writeUIntLE(value, at, 6);
    return this;
  }

  /** A whole number below 2^53 in 8 bytes. */
  u64(value: number): this {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a u64: ${value}`);
    const at = this.claim(8);
    this.bytes.writeUInt32LE(value % 2 ** 32, at);
    this.bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
    return this;
  }

  /** Exactly `length` bytes. */
  fixed(value: Uint8Array, length: number): this {
    if (value.length !== length)
      throw new RangeError(`${value.length} bytes where ${length} belong`);
    const at = this.claim(length);
    this.bytes.set(value, at);
    return this;
  }

  /** A u16 length and as many bytes of UTF-8. */
  text(value: string): this {
    const utf8 = Buffer.from(value, 'utf8');
    return this.u16(utf8.length).fixed(utf8, utf8.length);
  }

  zeros(count: number): this {
    this.claim(count);
    return this;
  }

  /** Pads with zeros to `total` bytes. */
  padTo(total: number): this {
    if (this.at > total) throw new RangeError(`record of ${this.at} bytes exceeds ${total}`);
    return this.zeros(total - this.at);
  }

  finish(): Uint8Array {
    return new Uint8Array(this.bytes.subarray(0, this.at));
  }

  /** Takes room for `count` bytes. Call it before `bytes` is looked at: it may be replaced. */
  private claim(count: number): number {
    const at = this.at;
    if (at + count > this.bytes.length) {
      const larger = Buffer.alloc(Math.max(this.bytes.length * 2, at + count));
      this.bytes.copy(larger);
      this.bytes = larger;
    }
    this.at = at + count;
    return at;
  }
}

export class RecordReader {
  private readonly view: Buffer;
  private at = 0;

  constructor(
    bytes: Uint8Array,
    private readonly what: string,
  ) {
    this.view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get offset(): number {
    return this.at;
  }

  get remaining(): number {
    return this.view.length - this.at;
  }

  u8(): number {
    return this.view.readUInt8(this.claim(1));
  }

  u16(): number {
    return this.view.readUInt16LE(this.claim(2));
  }

  u32(): number {
    return this.view.readUInt32LE(this.claim(4));
  }

  u48(): number {
    return this.view.readUIntLE(this.claim(6), 6);
  }

  u64(): number {
    const at = this.claim(8);
    const value = this.view.readUInt32LE(at) + this.view.readUInt32LE(at + 4) * 2 ** 32;
    this.require(Number.isSafeInteger(value), 'a number beyond 2^53');
    return value;
  }

  fixed(length: number): Uint8Array {
    const at = this.claim(length);
    return new Uint8Array(this.view.subarray(at, at + length));
  }

  text(maxBytes: number): string {
    const length = this.u16();
    this.require(length <= maxBytes, 'a text that is too long');
    return Buffer.from(this.fixed(length)).toString('utf8');
  }

  /** A u32 count of things of at least `eachBytes`: bounded by what is left, before anything is allocated. */
  count(eachBytes: number): number {
    const count = this.u32();
    this.require(count * eachBytes <= this.remaining, 'a count beyond its end');
    return count;
  }

  zeros(count: number): void {
    const at = this.claim(count);
    for (let i = at; i < at + count; i++) {
      this.require(this.view[i] === 0, 'reserved bytes that are not zero');
    }
  }

  /** Magic and version: the first six bytes of every record. */
  start(magic: number, version: number): void {
    this.require(this.u32() === magic, 'a wrong magic number');
    const found = this.u16();
    if (found > version) {
      throw new NewerFormatError(
        `${this.what} has format version ${found}; this program knows ${version}`,
      );
    }
    this.require(found === version, `format version ${found}`);
  }

  require(condition: boolean, problem: string): void {
    if (!condition) throw new FormatError(`${this.what} has ${problem}`);
  }

  /** Everything must have been read, but for padding zeros. */
  end(): void {
    this.zeros(this.remaining);
  }

  private claim(count: number): number {
    const at = this.at;
    if (at + count > this.view.length) throw new FormatError(`${this.what} is cut short`);
    this.at = at + count;
    return at;
  }
}

/** A four-letter magic number, as a u32 whose bytes on disk spell it. */
export function magic(letters: string): number {
  return Buffer.from(letters, 'latin1').readUInt32LE(0);
}
