/**
 * The interface to randomness. The bytes come from the kernel at every call, never from a generator
 * inside the process: such a generator is copied with the process's memory, and two copies would draw
 * the same nonces.
 */
import * as fs from 'node:fs';

export interface Randomness {
  /** `length` fresh bytes from the kernel. */
  bytes(length: number): Uint8Array;
}

let source: number | undefined;

export const kernelRandomness: Randomness = {
  bytes(length) {
    source ??= fs.openSync('/dev/urandom', 'r');
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) done += fs.readSync(source, bytes, done, length - done, null);
    return bytes;
  },
};
