/**
 * Where the sockets of running servers are: a folder of this user's own outside of the volume, as a
 * socket's path has 107 bytes at most.
 *
 * The folder's mode is what keeps other users from controlling a volume, so it is checked each time.
 * A server and its client may run under different environments (a login, cron): a server takes the
 * first place that there is, a client looks into all of them.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ChunkvolError, errnoOf, fromSystem } from '../base/errors.js';
import { folderIdentity } from '../base/lock.js';

const OTHERS_MODE = 0o077;
const NAME_DIGITS = 32;

const SUFFIXES = { control: '.control', nbd: '.nbd' } as const;
export type SocketKind = keyof typeof SUFFIXES;

/** The socket of the server of `volumeFolder`, in a runtime folder that exists and is ours alone. */
export function newSocketPath(volumeFolder: string, kind: SocketKind): string {
  return path.join(makeRuntimeFolder(), socketName(volumeFolder, kind));
}

/** Where the control socket of the server of `volumeFolder` may be. */
export function possibleControlSockets(volumeFolder: string): string[] {
  const name = socketName(volumeFolder, 'control');
  return ourFolders().map((folder) => path.join(folder, name));
}

/** All control sockets of this user, of servers that run or were killed. */
export function allControlSockets(): string[] {
  return ourFolders().flatMap((folder) =>
    fs
      .readdirSync(folder)
      .filter((name) => name.endsWith(SUFFIXES.control))
      .map((name) => path.join(folder, name)),
  );
}

/** Follows the folder's identity and not its path, which may be one of several. */
function socketName(volumeFolder: string, kind: SocketKind): string {
  const { device, inode } = folderIdentity(volumeFolder);
  const digest = createHash('sha256').update(`${device}:${inode}`).digest('hex');
  return digest.slice(0, NAME_DIGITS) + SUFFIXES[kind];
}

function makeRuntimeFolder(): string {
  const folder =
    candidates().find((candidate) => isOurs(path.dirname(candidate))) ?? lastCandidate();
  makePrivateFolder(folder);
  if (!isPrivate(folder)) {
    throw new ChunkvolError(
      'io',
      `${folder} belongs to someone else or is open to others; remove it, or set $XDG_RUNTIME_DIR`,
    );
  }
  return folder;
}

/** Creates a folder for sockets, accessible to this user alone; one that exists is left as it is. */
export function makePrivateFolder(folder: string): void {
  try {
    fs.mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw fromSystem(error, 'create', folder);
  }
}

function ourFolders(): string[] {
  return [...new Set([...candidates(), lastCandidate()])].filter(isPrivate);
}

/** Folders inside of one that the system made for this user. */
function candidates(): string[] {
  const set = process.env['XDG_RUNTIME_DIR'];
  const roots = [...(set ? [path.resolve(set)] : []), `/run/user/${userId()}`];
  return roots.map((root) => path.join(root, 'chunkvol'));
}

function lastCandidate(): string {
  return `/tmp/chunkvol-${userId()}`;
}

function isPrivate(folder: string): boolean {
  const stat = fs.lstatSync(folder, { throwIfNoEntry: false });
  return isOurs(folder) && stat !== undefined && (stat.mode & OTHERS_MODE) === 0;
}

function isOurs(folder: string): boolean {
  const stat = fs.lstatSync(folder, { throwIfNoEntry: false });
  return stat !== undefined && stat.isDirectory() && stat.uid === userId();
}

function userId(): number {
  return process.geteuid!();
}
