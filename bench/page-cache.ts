/**
 * Brings the machine's memory into the state of one that has been up for a while: all that nobody uses holds
 * the page cache of some file, and who needs a page gets one that was in use before.
 *
 * On a virtual machine whose host takes back free memory, the first write to a page that was free costs up to
 * ten times as much as later ones. Servers of which one writes in place and another appends would be compared
 * by what the host charges for memory, and the first after a start would pay most.
 */
import { ftruncateSync, openSync, readFileSync, readSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { GIB, MIB } from '../src/base/bytes.js';

/** The kernel keeps some memory free; below this it has begun to take pages from files. */
const FREE_BYTES = GIB;
/** Read when it has: what is free then are pages that were in use, not the last that never were. */
const TURNED_OVER_BYTES: number = 2 * FREE_BYTES;
const STEP_BYTES = 16 * MIB;
/** As large as ext4 and xfs let a file be at least, and without any byte on the disk. */
const FILE_BYTES = 15 * 1024 * GIB;

let file: number | undefined;
let readBytes = 0;
const buffer = Buffer.alloc(STEP_BYTES);

/**
 * Reads on in a sparse file until hardly any memory is free. Each page is read once, so that the kernel
 * takes them back before any page that a server has used.
 */
export function fillPageCache(folder: string): void {
  file ??= makeSparseFile(folder);
  // Whatever the kernel does with it, more than all there is cannot be filled.
  const end = readBytes + memoryBytes('MemTotal');
  while (memoryBytes('MemFree') > FREE_BYTES && readBytes < end) readOn(file);
  for (let bytes = 0; bytes < TURNED_OVER_BYTES; bytes += STEP_BYTES) readOn(file);
}

function readOn(sparse: number): void {
  readSync(sparse, buffer, 0, STEP_BYTES, readBytes);
  readBytes += STEP_BYTES;
}

/** Without a name, so that it is gone with this process. */
function makeSparseFile(folder: string): number {
  const path = join(folder, 'page-cache');
  const made = openSync(path, 'w+');
  unlinkSync(path);
  ftruncateSync(made, FILE_BYTES);
  return made;
}

/** A line of proc(5)'s meminfo. */
function memoryBytes(name: string): number {
  const line = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(
    readFileSync('/proc/meminfo', 'utf8'),
  );
  return Number(line?.[1]) * 1024;
}
