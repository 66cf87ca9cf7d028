/**
 * Every constant and structure of the NBD protocol, as the NetworkBlockDevice project's doc/proto.md
 * defines them. All integers are big-endian, here and nowhere else in the project.
 *
 * Structures of the transmission phase are written into a caller's buffer (they are on the path of
 * every request); those of the handshake allocate. A decoder returns null for what is malformed and
 * never reads past the bytes it was given.
 *
 *   request         magic u32 | flags u16 | command u16 | cookie u64 | offset u64 | length u32 | payload
 *   simple reply    magic u32 | error u32 | cookie u64 | payload
 *   reply chunk     magic u32 | flags u16 | type u16 | cookie u64 | length u32 | payload
 *   option          magic u64 | option u32 | length u32 | data
 *   option reply    magic u64 | option u32 | type u32 | length u32 | data
 */

/** The longest string of the protocol: names, descriptions, queries. */
export const MAX_STRING_BYTES = 4096;
/** The longest payload of one request or reply. */
export const MAX_PAYLOAD_BYTES: number = 32 * 1024 * 1024;

// ---- Handshake: constants

const GREETING_MAGIC = 0x4e42444d41474943n;
const OPTION_MAGIC = 0x49484156454f5054n;
const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;

/** Flags of the server's greeting; the client's answer uses the same bits. */
export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const Option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const OptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errorUnsupported: 0x80000001,
  errorPolicy: 0x80000002,
  errorInvalid: 0x80000003,
  errorUnknown: 0x80000006,
  errorShutdown: 0x80000007,
  errorTooBig: 0x80000009,
} as const;

/** The top bit is what all refusals have in common. */
export function isErrorReply(type: number): boolean {
  return type >= 0x80000000;
}

export const Info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const TransmissionFlag = {
  hasFlags: 0x1,
  readOnly: 0x2,
  sendFlush: 0x4,
  sendFua: 0x8,
  sendTrim: 0x20,
  sendWriteZeroes: 0x40,
  sendDontFragment: 0x80,
  canMultiConn: 0x100,
  sendCache: 0x400,
  sendFastZero: 0x800,
} as const;

/** The one metadata context this server knows, and the id it is given. */
export const ALLOCATION_CONTEXT = 'base:allocation';
export const ALLOCATION_CONTEXT_ID = 1;

// ---- Handshake: structures

export const GREETING_BYTES = 18;
export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
/** Zeros after the answer to EXPORT_NAME, unless both sides agreed to leave them out. */
const EXPORT_NAME_PADDING_BYTES = 124;
export const EXPORT_NAME_REPLY_BYTES = 10;

export function encodeGreeting(flags: number): Buffer {
  const greeting = Buffer.alloc(GREETING_BYTES);
  greeting.writeBigUInt64BE(GREETING_MAGIC, 0);
  greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
  greeting.writeUInt16BE(flags, 16);
  return greeting;
}

/** The handshake flags, or null when the peer is not a newstyle NBD server. */
export function decodeGreeting(greeting: Buffer): number | null {
  if (greeting.readBigUInt64BE(0) !== GREETING_MAGIC) return null;
  if (greeting.readBigUInt64BE(8) !== OPTION_MAGIC) return null;
  return greeting.readUInt16BE(16);
}

export function encodeClientFlags(flags: number): Buffer {
  return uint32(flags);
}

export function decodeClientFlags(bytes: Buffer): number {
  return bytes.readUInt32BE(0);
}

export interface OptionHeader {
  readonly option: number;
  readonly dataBytes: number;
}

export function encodeOption(option: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(OPTION_HEADER_BYTES);
  header.writeBigUInt64BE(OPTION_MAGIC, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

export function decodeOptionHeader(header: Buffer): OptionHeader | null {
  if (header.readBigUInt64BE(0) !== OPTION_MAGIC) return null;
  return { option: header.readUInt32BE(8), dataBytes: header.readUInt32BE(12) };
}

export interface OptionReplyHeader {
  readonly option: number;
  readonly type: number;
  readonly dataBytes: number;
}

export function encodeOptionReply(
  option: number,
  type: number,
  data: Uint8Array = Buffer.alloc(0),
): Buffer {
  const header = Buffer.alloc(OPTION_REPLY_HEADER_BYTES);
  header.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(data.length, 16);
  return Buffer.concat([header, data]);
}

export function decodeOptionReplyHeader(header: Buffer): OptionReplyHeader | null {
  if (header.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) return null;
  return {
    option: header.readUInt32BE(8),
    type: header.readUInt32BE(12),
    dataBytes: header.readUInt32BE(16),
  };
}

/** The data of GO and INFO. */
export interface InfoRequest {
  readonly exportName: string;
  readonly infos: readonly number[];
}

export function encodeInfoRequest(request: InfoRequest): Buffer {
  const infos = [request.infos.length, ...request.infos].map(uint16);
  return Buffer.concat([lengthAndString(request.exportName), ...infos]);
}

export function decodeInfoRequest(data: Buffer): InfoRequest | null {
  const cursor = new Cursor(data);
  const exportName = cursor.lengthAndString();
  const infoCount = cursor.uint16();
  if (exportName === null || infoCount === null || cursor.leftBytes !== infoCount * 2) return null;
  return { exportName, infos: Array.from({ length: infoCount }, () => cursor.uint16()!) };
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export interface MetaContextRequest {
  readonly exportName: string;
  readonly queries: readonly string[];
}

export function encodeMetaContextRequest(request: MetaContextRequest): Buffer {
  return Buffer.concat([
    lengthAndString(request.exportName),
    uint32(request.queries.length),
    ...request.queries.map(lengthAndString),
  ]);
}

export function decodeMetaContextRequest(data: Buffer): MetaContextRequest | null {
  const cursor = new Cursor(data);
  const exportName = cursor.lengthAndString();
  const queryCount = cursor.uint32();
  if (exportName === null || queryCount === null) return null;
  const queries: string[] = [];
  for (let index = 0; index < queryCount; index++) {
    const query = cursor.lengthAndString();
    if (query === null) return null;
    queries.push(query);
  }
  return cursor.leftBytes === 0 ? { exportName, queries } : null;
}

/** What a client learns of an export before it uses it. */
export interface ExportInfo {
  readonly sizeBytes: number;
  readonly transmissionFlags: number;
}

export function encodeExportInfo(info: ExportInfo): Buffer {
  return Buffer.concat([uint16(Info.export), sizeAndFlags(info)]);
}

export function decodeExportInfo(data: Buffer): ExportInfo | null {
  if (data.length !== 2 + EXPORT_NAME_REPLY_BYTES) return null;
  return decodeExportNameReply(data.subarray(2));
}

export function encodeTextInfo(info: number, text: string): Buffer {
  return Buffer.concat([uint16(info), Buffer.from(text)]);
}

export interface BlockSizes {
  readonly minimumBytes: number;
  readonly preferredBytes: number;
  readonly maximumBytes: number;
}

export function encodeBlockSizeInfo(sizes: BlockSizes): Buffer {
  return Buffer.concat([
    uint16(Info.blockSize),
    uint32(sizes.minimumBytes),
    uint32(sizes.preferredBytes),
    uint32(sizes.maximumBytes),
  ]);
}

export function decodeBlockSizeInfo(data: Buffer): BlockSizes | null {
  if (data.length !== 14) return null;
  return {
    minimumBytes: data.readUInt32BE(2),
    preferredBytes: data.readUInt32BE(6),
    maximumBytes: data.readUInt32BE(10),
  };
}

export function encodeExportNameReply(info: ExportInfo, noZeroes: boolean): Buffer {
  const padding = Buffer.alloc(noZeroes ? 0 : EXPORT_NAME_PADDING_BYTES);
  return Buffer.concat([sizeAndFlags(info), padding]);
}

export function decodeExportNameReply(reply: Buffer): ExportInfo {
  return { sizeBytes: readUint64(reply, 0), transmissionFlags: reply.readUInt16BE(8) };
}

/** One answer to LIST. */
export interface ListEntry {
  readonly name: string;
  readonly description: string;
}

export function encodeListEntry(entry: ListEntry): Buffer {
  return Buffer.concat([lengthAndString(entry.name), Buffer.from(entry.description)]);
}

export function decodeListEntry(data: Buffer): ListEntry | null {
  const cursor = new Cursor(data);
  const name = cursor.lengthAndString();
  return name === null ? null : { name, description: cursor.rest() };
}

/** One answer to LIST_META_CONTEXT and SET_META_CONTEXT. */
export interface MetaContext {
  readonly id: number;
  readonly name: string;
}

export function encodeMetaContext(context: MetaContext): Buffer {
  return Buffer.concat([uint32(context.id), Buffer.from(context.name)]);
}

export function decodeMetaContext(data: Buffer): MetaContext | null {
  const cursor = new Cursor(data);
  const id = cursor.uint32();
  return id === null ? null : { id, name: cursor.rest() };
}

// ---- Transmission: constants

const REQUEST_MAGIC = 0x25609513;
const SIMPLE_REPLY_MAGIC = 0x67446698;
const CHUNK_MAGIC = 0x668e33ef;

export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const CommandFlag = {
  fua: 0x1,
  noHole: 0x2,
  dontFragment: 0x4,
  requestOne: 0x8,
  fastZero: 0x10,
} as const;

export const CHUNK_DONE = 1;

export const ChunkType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

/** Status of an extent in base:allocation. */
export const ExtentFlag = { hole: 1, zero: 2 } as const;

export const Errno = {
  none: 0,
  notPermitted: 1,
  io: 5,
  noMemory: 12,
  invalid: 22,
  noSpace: 28,
  overflow: 75,
  notSupported: 95,
  shutdown: 108,
} as const;

// ---- Transmission: structures

/** A request's identity, chosen by the client and handed back with the reply; a u64 in two halves. */
export interface Cookie {
  readonly cookieHigh: number;
  readonly cookieLow: number;
}

export interface Request extends Cookie {
  readonly flags: number;
  readonly command: number;
  /** Exact up to 2^53; beyond that only known to be larger than any disk. */
  readonly offset: number;
  readonly bytes: number;
}

export const REQUEST_BYTES = 28;

export function encodeRequest(target: Buffer, at: number, request: Request): void {
  target.writeUInt32BE(REQUEST_MAGIC, at);
  target.writeUInt16BE(request.flags, at + 4);
  target.writeUInt16BE(request.command, at + 6);
  writeCookie(target, at + 8, request);
  writeUint64(target, at + 16, request.offset);
  target.writeUInt32BE(request.bytes, at + 24);
}

/** Null when the stream is out of step: the magic is wrong. */
export function decodeRequest(source: Buffer): Request | null {
  if (source.readUInt32BE(0) !== REQUEST_MAGIC) return null;
  return {
    flags: source.readUInt16BE(4),
    command: source.readUInt16BE(6),
    cookieHigh: source.readUInt32BE(8),
    cookieLow: source.readUInt32BE(12),
    offset: readUint64(source, 16),
    bytes: source.readUInt32BE(24),
  };
}

export const SIMPLE_REPLY_BYTES = 16;

export function encodeSimpleReply(target: Buffer, at: number, cookie: Cookie, errno: number): void {
  target.writeUInt32BE(SIMPLE_REPLY_MAGIC, at);
  target.writeUInt32BE(errno, at + 4);
  writeCookie(target, at + 8, cookie);
}

export const CHUNK_HEADER_BYTES = 20;
/** OFFSET_DATA: the offset that precedes the data. */
export const DATA_CHUNK_PREFIX_BYTES = 8;
/** OFFSET_HOLE: offset u64, length u32. */
export const HOLE_CHUNK_BYTES = 12;
/** ERROR: errno u32, length of the message u16; this server sends no message. */
export const ERROR_CHUNK_BYTES = 6;
/** BLOCK_STATUS: context id u32, then length u32 and status u32 for every extent. */
export const STATUS_CHUNK_PREFIX_BYTES = 4;
export const STATUS_EXTENT_BYTES = 8;

/** A chunk's header; `payloadBytes` is what follows it. Every chunk of this server is the last of its reply. */
export function encodeLastChunk(
  target: Buffer,
  at: number,
  cookie: Cookie,
  type: number,
  payloadBytes: number,
): void {
  target.writeUInt32BE(CHUNK_MAGIC, at);
  target.writeUInt16BE(CHUNK_DONE, at + 4);
  target.writeUInt16BE(type, at + 6);
  writeCookie(target, at + 8, cookie);
  target.writeUInt32BE(payloadBytes, at + 16);
}

/** Header and prefix of a chunk of `dataBytes` bytes of content from disk offset `offset`. */
export function encodeDataChunk(
  target: Buffer,
  at: number,
  cookie: Cookie,
  offset: number,
  dataBytes: number,
): void {
  encodeLastChunk(target, at, cookie, ChunkType.offsetData, DATA_CHUNK_PREFIX_BYTES + dataBytes);
  writeUint64(target, at + CHUNK_HEADER_BYTES, offset);
}

export function encodeErrorChunk(target: Buffer, at: number, cookie: Cookie, errno: number): void {
  encodeLastChunk(target, at, cookie, ChunkType.error, ERROR_CHUNK_BYTES);
  target.writeUInt32BE(errno, at + CHUNK_HEADER_BYTES);
  target.writeUInt16BE(0, at + CHUNK_HEADER_BYTES + 4);
}

export interface StatusExtent {
  readonly bytes: number;
  readonly flags: number;
}

/** A whole BLOCK_STATUS chunk with its header. */
export function encodeStatusChunk(
  cookie: Cookie,
  contextId: number,
  extents: readonly StatusExtent[],
): Buffer {
  const payloadBytes = STATUS_CHUNK_PREFIX_BYTES + extents.length * STATUS_EXTENT_BYTES;
  const chunk = Buffer.alloc(CHUNK_HEADER_BYTES + payloadBytes);
  encodeLastChunk(chunk, 0, cookie, ChunkType.blockStatus, payloadBytes);
  let at = chunk.writeUInt32BE(contextId, CHUNK_HEADER_BYTES);
  for (const extent of extents) {
    at = chunk.writeUInt32BE(extent.bytes, at);
    at = chunk.writeUInt32BE(extent.flags, at);
  }
  return chunk;
}

/** The extents of a BLOCK_STATUS chunk's payload. */
export function decodeStatusPayload(payload: Buffer): StatusExtent[] | null {
  const extentBytes = payload.length - STATUS_CHUNK_PREFIX_BYTES;
  if (extentBytes <= 0 || extentBytes % STATUS_EXTENT_BYTES !== 0) return null;
  const extents: StatusExtent[] = [];
  for (let at = STATUS_CHUNK_PREFIX_BYTES; at < payload.length; at += STATUS_EXTENT_BYTES) {
    extents.push({ bytes: payload.readUInt32BE(at), flags: payload.readUInt32BE(at + 4) });
  }
  return extents;
}

/** What the first 16 bytes of a reply say; a chunk has 4 more, its payload's length. */
export type ReplyHead =
  | (Cookie & { readonly kind: 'simple'; readonly errno: number })
  | (Cookie & { readonly kind: 'chunk'; readonly flags: number; readonly type: number });

export function decodeReplyHead(source: Buffer): ReplyHead | null {
  const cookie = { cookieHigh: source.readUInt32BE(8), cookieLow: source.readUInt32BE(12) };
  switch (source.readUInt32BE(0)) {
    case SIMPLE_REPLY_MAGIC:
      return { kind: 'simple', errno: source.readUInt32BE(4), ...cookie };
    case CHUNK_MAGIC:
      return {
        kind: 'chunk',
        flags: source.readUInt16BE(4),
        type: source.readUInt16BE(6),
        ...cookie,
      };
    default:
      return null;
  }
}

// ---- Integers and strings

/** Offsets of 2^53 and more lose their low bits; no disk is that large. */
export function readUint64(source: Buffer, at: number): number {
  return source.readUInt32BE(at) * 2 ** 32 + source.readUInt32BE(at + 4);
}

function writeUint64(target: Buffer, at: number, value: number): void {
  target.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  target.writeUInt32BE(value % 2 ** 32, at + 4);
}

function writeCookie(target: Buffer, at: number, cookie: Cookie): void {
  target.writeUInt32BE(cookie.cookieHigh, at);
  target.writeUInt32BE(cookie.cookieLow, at + 4);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function lengthAndString(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function sizeAndFlags(info: ExportInfo): Buffer {
  const bytes = Buffer.alloc(EXPORT_NAME_REPLY_BYTES);
  writeUint64(bytes, 0, info.sizeBytes);
  bytes.writeUInt16BE(info.transmissionFlags, 8);
  return bytes;
}

/** Reads fields one after another; null from the first field on that is not there. */
class Cursor {
  #at = 0;

  constructor(private readonly data: Buffer) {}

  get leftBytes(): number {
    return this.data.length - this.#at;
  }

  uint16(): number | null {
    return this.#take(2)?.readUInt16BE(0) ?? null;
  }

  uint32(): number | null {
    return this.#take(4)?.readUInt32BE(0) ?? null;
  }

  lengthAndString(): string | null {
    const length = this.uint32();
    return length === null ? null : (this.#take(length)?.toString('utf8') ?? null);
  }

  rest(): string {
    return this.#take(this.leftBytes)!.toString('utf8');
  }

  #take(bytes: number): Buffer | null {
    if (bytes > this.leftBytes) return null;
    this.#at += bytes;
    return this.data.subarray(this.#at - bytes, this.#at);
  }
}
