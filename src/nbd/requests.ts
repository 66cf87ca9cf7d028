/**
 * What a request may ask: checked here once, against the device and what was negotiated, before
 * anything is allocated or done for it. After this check offsets and lengths are known to be inside
 * the disk, and payloads to be within the protocol's limit.
 */
import type { BlockDevice, Extent, WriteOptions } from '../base/block-device.js';
import type { Session } from './exports.js';
import { Command, CommandFlag, Errno, ExtentFlag, MAX_PAYLOAD_BYTES } from './protocol.js';
import type { Request, StatusExtent } from './protocol.js';

/** The flags that each known command may carry beside FUA, which the protocol allows on all of them. */
const FLAGS_OF_COMMAND: Partial<Record<number, number>> = {
  [Command.read]: CommandFlag.dontFragment,
  [Command.write]: 0,
  [Command.flush]: 0,
  [Command.trim]: 0,
  [Command.cache]: 0,
  [Command.writeZeroes]: CommandFlag.noHole | CommandFlag.fastZero,
  [Command.blockStatus]: CommandFlag.requestOne,
};

/** The error number a request is refused with; Errno.none when it may be carried out. */
export function checkRequest(request: Request, session: Session): number {
  const { command } = request;
  const known = FLAGS_OF_COMMAND[command];
  if (known === undefined || (request.flags & ~(known | CommandFlag.fua)) !== 0) {
    return Errno.invalid;
  }
  if ((request.flags & CommandFlag.dontFragment) !== 0 && !session.structuredReplies) {
    return Errno.invalid;
  }
  if (command === Command.flush) {
    return request.offset === 0 && request.bytes === 0 ? Errno.none : Errno.invalid;
  }
  if (command === Command.blockStatus && (!session.allocationContext || request.bytes === 0)) {
    return Errno.invalid;
  }
  return checkAccess(request, session);
}

function checkAccess(request: Request, session: Session): number {
  const changes = changesDisk(request.command);
  if (changes && session.device.readOnly) return Errno.notPermitted;
  if (carriesPayload(request.command) && request.bytes > MAX_PAYLOAD_BYTES) {
    // EOVERFLOW is for clients of structured replies: others need not know it.
    const fragmentable = request.command === Command.read && session.structuredReplies;
    return fragmentable ? Errno.overflow : Errno.invalid;
  }
  if (request.offset + request.bytes > session.device.sizeBytes) {
    return changes && request.command !== Command.trim ? Errno.noSpace : Errno.invalid;
  }
  return Errno.none;
}

function changesDisk(command: number): boolean {
  return command === Command.write || command === Command.trim || command === Command.writeZeroes;
}

function carriesPayload(command: number): boolean {
  return command === Command.read || command === Command.write;
}

const DURABLE: WriteOptions = { durable: true };
const VOLATILE: WriteOptions = {};

/** Carries out a checked request other than BLOCK_STATUS; `data` is what is read into or written from. */
export async function perform(
  request: Request,
  device: BlockDevice,
  data: Uint8Array,
): Promise<void> {
  if (request.command === Command.flush) return device.flush();
  if (request.bytes === 0) return;
  const options = (request.flags & CommandFlag.fua) !== 0 ? DURABLE : VOLATILE;
  switch (request.command) {
    case Command.read:
      return device.read(request.offset, data);
    case Command.write:
      return device.write(request.offset, data, options);
    case Command.trim:
      return device.trim(request.offset, request.bytes, options);
    case Command.writeZeroes:
      return device.zero(request.offset, request.bytes, options);
    default:
      // CACHE is advice, and what a device has read lately it keeps by its own lights.
      return;
  }
}

/**
 * Carries out a checked request if the device can do so without a wait. False: the disk is as it was, and `perform`
 * is to be called. Promises for each of a hundred thousand small requests a second cost more than most of
 * what is done for them.
 */
export function performNow(request: Request, device: BlockDevice, data: Uint8Array): boolean {
  const { command, flags, offset, bytes } = request;
  if (bytes === 0 || (flags & CommandFlag.fua) !== 0) return false;
  if (command === Command.read) return device.readNow?.(offset, data) ?? false;
  if (command === Command.write) return device.writeNow?.(offset, data) ?? false;
  return false;
}

/** The most extents in one answer to BLOCK_STATUS; a client asks again for the rest. */
export const MAX_STATUS_EXTENTS = 2048;

/** The extents from the start of the request's range on, neighbours of one kind made one. */
export async function queryStatus(request: Request, device: BlockDevice): Promise<StatusExtent[]> {
  const wanted = (request.flags & CommandFlag.requestOne) !== 0 ? 1 : MAX_STATUS_EXTENTS;
  const extents = await device.extents(request.offset, request.bytes, wanted);
  return mergeExtents(extents, request.bytes, wanted);
}

function mergeExtents(extents: Extent[], rangeBytes: number, wanted: number): StatusExtent[] {
  const merged: { bytes: number; flags: number }[] = [];
  let leftBytes = rangeBytes;
  for (const extent of extents) {
    const bytes = Math.min(extent.bytes, leftBytes);
    if (bytes === 0) break;
    leftBytes -= bytes;
    const flags = extent.hole ? ExtentFlag.hole | ExtentFlag.zero : 0;
    const last = merged.at(-1);
    if (last?.flags === flags) last.bytes += bytes;
    else merged.push({ bytes, flags });
  }
  if (merged.length === 0) throw new Error('the device gave no extent for a range that has bytes');
  return merged.slice(0, wanted);
}
