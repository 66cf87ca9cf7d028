/**
 * Reading what is in the page cache, at once, and nothing else: preadv2(2) with RWF_NOWAIT, through FFI.
 *
 * A read through the thread pool costs tens of microseconds where the bytes are in memory anyway, and a
 * plain synchronous one stops the program where they are not. This one says so instead.
 */
import { createRequire } from 'node:module';

/** Fills `into` from byte `position` of an open file; false when that would take a wait, or failed. */
export type CachedRead = (fd: number, into: Uint8Array, position: number) => boolean;

/** Of <uapi/linux/fs.h>. */
const RWF_NOWAIT = 8;
const IOVEC_BYTES = 16;

/** Null where there is no such call, or no koffi to make it with. */
export function loadCachedRead(): CachedRead | null {
  if (process.platform !== 'linux') return null;
  try {
    return bindCachedRead();
  } catch {
    return null;
  }
}

function bindCachedRead(): CachedRead {
  const { default: koffi } = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const program = koffi.load(null);
  const types = ['int', 'uintptr_t', 'int', 'int64_t', 'int'];
  const preadv2 = program.func('preadv2', 'int64_t', types) as (
    fd: number,
    vector: number,
    count: number,
    position: number,
    flags: number,
  ) => number | bigint;
  const vector = new BigUint64Array(new ArrayBuffer(IOVEC_BYTES));
  const vectorAddress = Number(koffi.address(vector));
  return (fd, into, position) => {
    vector[0] = koffi.address(into);
    vector[1] = BigInt(into.length);
    const got = preadv2(fd, vectorAddress, 1, position, RWF_NOWAIT);
    // The buffers are named once more, so that they live until the call has returned.
    return Number(got) === into.length && vector.length > 0;
  };
}
