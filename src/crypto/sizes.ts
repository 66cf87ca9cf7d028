/** Checks of the lengths of keys, nonces and tags: a wrong one is a programmer's error. */

/** Throws a RangeError that names the argument unless `bytes` has exactly `length` bytes. */
export function requireLength(name: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) {
    throw new RangeError(`${name} must have ${length} bytes, not ${bytes.length}`);
  }
}
