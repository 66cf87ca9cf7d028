/**
 * Tells the kernel the new size of a connected NBD device: by a message of generic netlink to its nbd
 * driver, the one way there is while the device is in use. Node has no sockets of this kind, so libc's
 * are called through koffi.
 *
 *   message    u32 length, u16 type, u16 flags, u32 sequence, u32 port,
 *              u8 command, u8 version, u16 reserved, attributes
 *   attribute  u16 length (without padding), u16 type, value, padding to 4 bytes
 *
 * Numbers are in the machine's own order. A message type is a number that the kernel gives a driver at
 * its start, so that is asked for first. Answers are there when the sending has returned.
 */
import { createRequire } from 'node:module';
import * as os from 'node:os';

const NETLINK = { family: 16, raw: 3, generic: 16 } as const;
const DO_NOT_WAIT = 0x40;

const MESSAGE_HEADER_BYTES = 16;
const HEADER_BYTES = 20;
const ATTRIBUTE_HEADER_BYTES = 4;
const MAX_ANSWER_BYTES = 65_536;

const TYPE = { error: 2, control: 16 } as const;
const FLAG = { request: 1, acknowledge: 4 } as const;

/** Of the family of families. */
const GET_FAMILY = { command: 3, version: 2, familyId: 1, familyName: 2 } as const;
/** Of the family "nbd" (linux/nbd-netlink.h). */
const RECONFIGURE = { command: 3, version: 1, index: 1, sizeBytes: 2 } as const;

const LITTLE_ENDIAN = os.endianness() === 'LE';

/** Throws an Error that says what the kernel, or this machine, has against it. */
export function setDeviceSize(index: number, sizeBytes: number): void {
  const asked = ask(encodeFamilyRequest('nbd'));
  const family = decodeFamily(asked);
  if (family === null) throw new Error('the kernel does not know nbd');
  const errno = decodeErrno(ask(encodeSizeRequest(family, index, sizeBytes)));
  if (errno !== 0) throw new Error(`the kernel refuses it: ${errorName(errno)}`);
}

export function encodeFamilyRequest(name: string): Buffer {
  const { command, version, familyName } = GET_FAMILY;
  const attributes = encodeAttribute(familyName, Buffer.from(`${name}\0`));
  return encodeMessage(TYPE.control, FLAG.request, command, version, attributes);
}

export function encodeSizeRequest(family: number, index: number, sizeBytes: number): Buffer {
  const attributes = Buffer.concat([
    encodeAttribute(RECONFIGURE.index, encodeNumber(4, index)),
    encodeAttribute(RECONFIGURE.sizeBytes, encodeNumber(8, sizeBytes)),
  ]);
  const { command, version } = RECONFIGURE;
  return encodeMessage(family, FLAG.request | FLAG.acknowledge, command, version, attributes);
}

/** The message type of the family that was asked for; null when there is none. */
export function decodeFamily(answer: Buffer): number | null {
  const view = viewOf(answer);
  if (answer.length < HEADER_BYTES || view.getUint16(4, LITTLE_ENDIAN) === TYPE.error) return null;
  let at = HEADER_BYTES;
  while (at + ATTRIBUTE_HEADER_BYTES <= answer.length) {
    const bytes = view.getUint16(at, LITTLE_ENDIAN);
    const isId = view.getUint16(at + 2, LITTLE_ENDIAN) === GET_FAMILY.familyId;
    if (isId && at + ATTRIBUTE_HEADER_BYTES + 2 <= answer.length) {
      return view.getUint16(at + ATTRIBUTE_HEADER_BYTES, LITTLE_ENDIAN);
    }
    at += padded(Math.max(bytes, ATTRIBUTE_HEADER_BYTES));
  }
  return null;
}

/** 0 for an acknowledgement, else the error's number. */
export function decodeErrno(answer: Buffer): number {
  const view = viewOf(answer);
  const isStatus = answer.length >= HEADER_BYTES && view.getUint16(4, LITTLE_ENDIAN) === TYPE.error;
  if (!isStatus) return os.constants.errno.EPROTO;
  return Math.abs(view.getInt32(MESSAGE_HEADER_BYTES, LITTLE_ENDIAN));
}

function encodeMessage(
  type: number,
  flags: number,
  command: number,
  version: number,
  attributes: Buffer,
): Buffer {
  const message = Buffer.concat([Buffer.alloc(HEADER_BYTES), attributes]);
  const view = viewOf(message);
  view.setUint32(0, message.length, LITTLE_ENDIAN);
  view.setUint16(4, type, LITTLE_ENDIAN);
  view.setUint16(6, flags, LITTLE_ENDIAN);
  view.setUint8(MESSAGE_HEADER_BYTES, command);
  view.setUint8(MESSAGE_HEADER_BYTES + 1, version);
  return message;
}

function encodeAttribute(type: number, value: Buffer): Buffer {
  const bytes = ATTRIBUTE_HEADER_BYTES + value.length;
  const attribute = Buffer.alloc(padded(bytes));
  const view = viewOf(attribute);
  view.setUint16(0, bytes, LITTLE_ENDIAN);
  view.setUint16(2, type, LITTLE_ENDIAN);
  value.copy(attribute, ATTRIBUTE_HEADER_BYTES);
  return attribute;
}

function encodeNumber(bytes: 4 | 8, value: number): Buffer {
  const encoded = Buffer.alloc(bytes);
  if (bytes === 4) viewOf(encoded).setUint32(0, value, LITTLE_ENDIAN);
  else viewOf(encoded).setBigUint64(0, BigInt(value), LITTLE_ENDIAN);
  return encoded;
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function padded(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

/** Sends one message on a socket of its own and returns the first answer. */
function ask(message: Buffer): Buffer {
  const { default: koffi } = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const program = koffi.load(null);
  const socket = program.func('int socket(int, int, int)') as (...words: number[]) => number;
  const close = program.func('int close(int)') as (fd: number) => number;
  type Transfer = (fd: number, bytes: Buffer, size: number, flags: number) => number;
  const send = program.func('intptr_t send(int, const void *, size_t, int)') as Transfer;
  const receive = program.func('intptr_t recv(int, _Out_ void *, size_t, int)') as Transfer;
  const check = (result: number): number => {
    if (result < 0) throw new Error(`no netlink here: ${errorName(koffi.errno())}`);
    return result;
  };

  const fd = check(socket(NETLINK.family, NETLINK.raw, NETLINK.generic));
  try {
    check(send(fd, message, message.length, 0));
    const answer = Buffer.alloc(MAX_ANSWER_BYTES);
    return answer.subarray(0, check(receive(fd, answer, answer.length, DO_NOT_WAIT)));
  } finally {
    close(fd);
  }
}

function errorName(errno: number): string {
  const found = Object.entries(os.constants.errno).find(([, number]) => number === errno);
  return found?.[0] ?? `error ${errno}`;
}
