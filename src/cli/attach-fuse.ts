/** The volume as a file, through nbdfuse: needs neither root nor the kernel's nbd module. */
import { spawn, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { ChunkvolError, errorMessage, fromSystem } from '../base/errors.js';
import { nbdUri, type NbdAddress } from '../nbd/address.js';
import type { Attachment } from './attachment.js';
import { listMounts } from './mounts.js';
import { exportName } from './served-exports.js';
import { findTool, lastLine, requireTools, runTool } from './tools.js';
import { waitUntil } from './wait.js';

const FUSE_DEVICE = '/dev/fuse';
const MOUNT_TIMEOUT_MS = 30_000;
const BUSY_MS = 1_000;

/** Throws ChunkvolError: 'missing-tool', 'exists' when the path cannot become the file, 'io'. */
export function prepareFuse(target: string): Pick<Attachment, 'createdFile'> {
  requireTools('nbdfuse', 'fusermount3');
  if (!fs.existsSync(FUSE_DEVICE)) {
    throw new ChunkvolError('missing-tool', 'the kernel has no FUSE; load it with: modprobe fuse');
  }
  return { createdFile: makeFile(target) };
}

/** An absent file is created. */
function makeFile(target: string): boolean {
  if (isFuseMounted(target)) {
    throw new ChunkvolError(
      'exists',
      `${target} is mounted already; free it with: fusermount3 -u ${target}`,
    );
  }
  const stat = fs.lstatSync(target, { throwIfNoEntry: false });
  if (stat && !stat.isFile())
    throw new ChunkvolError('exists', `${target} is there and is no file`);
  if (stat) return false;
  try {
    fs.closeSync(fs.openSync(target, 'wx', 0o600));
    return true;
  } catch (error) {
    throw fromSystem(error, 'create', target);
  }
}

/** Undoes prepareFuse. */
export function removeFuseFile({
  target,
  createdFile,
}: Pick<Attachment, 'target' | 'createdFile'>): void {
  if (createdFile && fs.statSync(target, { throwIfNoEntry: false })?.size === 0) {
    fs.rmSync(target, { force: true });
  }
}

/** Starts nbdfuse, which goes on in the background; what it has to say goes to the file `log`. */
export async function connectFuse(
  { target, snapshot }: Attachment,
  address: NbdAddress,
  options: { readonly readOnly: boolean; readonly log: string; readonly signal: AbortSignal },
): Promise<void> {
  const log = fs.openSync(options.log, 'a', 0o600);
  const before = fs.fstatSync(log).size;
  const flags = options.readOnly ? ['-r'] : [];
  const uri = nbdUri(address, exportName(snapshot));
  const child = spawn(findTool('nbdfuse'), [...flags, target, uri], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', log, log],
  });
  fs.closeSync(log);
  if (await isShown(child, target, options.signal)) return;
  const said = lastLine(fs.readFileSync(options.log).subarray(before).toString());
  throw new ChunkvolError(
    'io',
    `nbdfuse cannot show the volume at ${target}: ${said || 'no answer'}`,
  );
}

/** Waits for the mount; ends nbdfuse when it does not come. */
async function isShown(child: ChildProcess, target: string, signal: AbortSignal): Promise<boolean> {
  child.once('error', () => undefined);
  child.unref();
  const isOver = (): boolean =>
    child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
  const settled = (): boolean => isOver() || isFuseMounted(target);
  try {
    await waitUntil(settled, MOUNT_TIMEOUT_MS, signal);
    if (!isOver() && isFuseMounted(target)) return true;
  } catch (error) {
    child.kill('SIGTERM');
    throw error;
  }
  child.kill('SIGTERM');
  return false;
}

/** Throws ChunkvolError: 'in-use' while something uses the file, 'missing-tool', 'io'. */
export async function disconnectFuse(attachment: Attachment): Promise<void> {
  const { target } = attachment;
  if (isFuseMounted(target)) await unmount(target);
  removeFuseFile(attachment);
}

/** The kernel lets go of a file some time after the last who had it open. */
async function unmount(target: string): Promise<void> {
  const deadline = performance.now() + BUSY_MS;
  for (;;) {
    try {
      await runTool('fusermount3', ['-u', target]);
      return;
    } catch (error) {
      if (!/busy/i.test(errorMessage(error))) throw error;
      if (performance.now() < deadline) continue;
      const advice = 'umount and losetup -d what is on it first';
      throw new ChunkvolError('in-use', `${target} is in use: ${advice}`, { cause: error });
    }
  }
}

export function isFuseMounted(target: string): boolean {
  return listMounts().some((mount) => mount.target === target && mount.type.startsWith('fuse'));
}
