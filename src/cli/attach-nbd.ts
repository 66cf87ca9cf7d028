/** The volume as a device of the kernel, through nbd-client. Needs root and the nbd module. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ChunkvolError, errnoOf, fromSystem } from '../base/errors.js';
import type { NbdAddress } from '../nbd/address.js';
import type { Attachment, Target } from './attachment.js';
import { setDeviceSize } from './nbd-netlink.js';
import { exportName } from './served-exports.js';
import { requireTools, runTool } from './tools.js';
import { waitUntil } from './wait.js';

const NBD_NUMBER = /\d+$/;
const SECTOR_BYTES = 512;
const BLOCK_BYTES = 4096;
/**
 * For one request. Unless told, a kernel may give the connection up after 30 s and fail all writes then: a
 * slow disk below would cost data. A server that dies is noticed at once.
 */
const REQUEST_TIMEOUT_S = 3600;
const SETTLE_TIMEOUT_MS = 10_000;

/** Throws ChunkvolError: 'missing-tool', 'exists' when the device is connected to something already. */
export function prepareNbd(device: string): void {
  requireTools('nbd-client');
  if (!fs.existsSync(sysPath(device)) || !fs.existsSync(device)) {
    throw new ChunkvolError(
      'missing-tool',
      `the kernel has no ${device}; load the module with: modprobe nbd (more devices: nbds_max=N), or attach to a file instead`,
    );
  }
  if (isConnected(device)) {
    throw new ChunkvolError(
      'exists',
      `${device} is connected already; use another device, or free it with: nbd-client -d ${device}`,
    );
  }
}

/** Returns when the device has its size. */
export async function connectNbd(
  { target, snapshot }: Attachment,
  address: NbdAddress,
  options: { readonly readOnly: boolean; readonly sizeBytes: number; readonly signal: AbortSignal },
): Promise<void> {
  const place =
    address.kind === 'unix' ? ['-unix', address.path] : [address.host, `${address.port}`];
  const name = snapshot === null ? [] : ['-N', exportName(snapshot)];
  // One connection: the kernel receives what comes on each in a work item that does not end before the
  // connection does. Where it is slow to start threads, one rescuer gets all of them, and nobody ever
  // receives what comes on the second.
  const ways = ['-b', `${BLOCK_BYTES}`, '-C', '1', '-timeout', `${REQUEST_TIMEOUT_S}`];
  const access = options.readOnly ? ['-R'] : [];
  await runTool('nbd-client', [...place, target, ...name, ...ways, ...access]);
  const hasSize = (): boolean => deviceBytes(target) === options.sizeBytes;
  if (await waitUntil(hasSize, SETTLE_TIMEOUT_MS, options.signal)) return;
  throw new ChunkvolError('io', `${target} does not get its size of ${options.sizeBytes} bytes`);
}

/** Has the kernel see a new size of what is connected. Throws an Error that says why it does not. */
export async function resizeNbd({ target }: Target, sizeBytes: number): Promise<void> {
  setDeviceSize(Number(NBD_NUMBER.exec(target)![0]), sizeBytes);
  const hasSize = (): boolean => deviceBytes(target) === sizeBytes;
  if (await waitUntil(hasSize, SETTLE_TIMEOUT_MS)) return;
  throw new Error('the kernel does not take it on');
}

/**
 * Throws ChunkvolError: 'in-use' while something uses the device, 'missing-tool', 'io' when what it
 * holds cannot be written, unless the server is gone.
 */
export async function disconnectNbd(
  { target }: Target,
  { serverGone }: { readonly serverGone: boolean },
): Promise<void> {
  if (!isConnected(target)) return;
  writeBack(target, serverGone);
  await runTool('nbd-client', ['-d', target]);
  const isGone = (): boolean => !isConnected(target) && deviceBytes(target) === 0;
  if (await waitUntil(isGone, SETTLE_TIMEOUT_MS)) return;
  throw new ChunkvolError(
    'io',
    `${target} does not let go of the volume; see the kernel's messages`,
  );
}

/**
 * nbd-client disconnects a mounted device without a word, and with it what is not written yet. An
 * exclusive opening fails as long as anything has claimed the device or a part of it.
 */
function writeBack(device: string, serverGone: boolean): void {
  let fd: number;
  try {
    fd = fs.openSync(device, fs.constants.O_RDONLY | fs.constants.O_EXCL);
  } catch (error) {
    if (errnoOf(error) !== 'EBUSY') throw fromSystem(error, 'open', device);
    throw new ChunkvolError('in-use', `${device} is in use: umount what is on it first`);
  }
  try {
    fs.fsyncSync(fd);
  } catch (error) {
    if (serverGone) return;
    const advice = `to give up what it has not written, run nbd-client -d ${device} and detach again`;
    throw new ChunkvolError('io', `cannot write ${device} back (${errnoOf(error)}); ${advice}`);
  } finally {
    fs.closeSync(fd);
  }
}

/** The kernel shows the process that connected a device as long as it is connected. */
export function isConnected(device: string): boolean {
  return fs.existsSync(path.join(sysPath(device), 'pid'));
}

function deviceBytes(device: string): number {
  const sectors = fs.readFileSync(path.join(sysPath(device), 'size'), 'utf8');
  return Number(sectors) * SECTOR_BYTES;
}

function sysPath(device: string): string {
  return path.join('/sys/block', path.basename(device));
}
