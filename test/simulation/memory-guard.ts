/**
 * Watches what is asked of the allocator: no single array may be larger than a bound, whatever a file
 * claims. An array that is too large is refused with an error that no code expects.
 */

const GUARDED = ['ArrayBuffer', 'Uint8Array', 'Uint32Array', 'Float64Array'] as const;

export class HugeAllocation extends Error {}

/** Runs `work` with arrays of at most `limitBytes`; throws HugeAllocation if a larger one was tried. */
export async function withBoundedArrays<T>(limitBytes: number, work: () => Promise<T>): Promise<T> {
  const refused: HugeAllocation[] = [];
  const check = (bytes: number): void => {
    if (bytes <= limitBytes) return;
    refused.push(new HugeAllocation(`an array of ${bytes} bytes was asked for`));
    throw refused[0]!;
  };
  const restore = [...GUARDED.map((name) => guard(name, check)), guardBuffer(check)];
  try {
    return await work();
  } finally {
    for (const each of restore) each();
    // Even where somebody has caught it.
    // eslint-disable-next-line no-unsafe-finally -- that is what the finding is
    if (refused[0]) throw refused[0];
  }
}

type Constructor = new (...rest: unknown[]) => object;

function guard(name: (typeof GUARDED)[number], check: (bytes: number) => void): () => void {
  const real = globalThis[name] as unknown as Constructor & { BYTES_PER_ELEMENT?: number };
  const unit = real.BYTES_PER_ELEMENT ?? 1;
  const guarded: Constructor = new Proxy(real, {
    construct(target, rest: unknown[], newTarget): object {
      if (typeof rest[0] === 'number') check(rest[0] * unit);
      return Reflect.construct(target, rest, newTarget === guarded ? target : newTarget) as object;
    },
    get(target, key) {
      const value = Reflect.get(target, key) as unknown;
      if (key !== 'from') return value;
      return (source: { length?: number }, ...more: unknown[]) => {
        check((source.length ?? 0) * unit);
        return (value as (...all: unknown[]) => unknown).call(target, source, ...more);
      };
    },
  });
  Object.assign(globalThis, { [name]: guarded });
  return () => Object.assign(globalThis, { [name]: real });
}

function guardBuffer(check: (bytes: number) => void): () => void {
  const names = ['alloc', 'allocUnsafe', 'allocUnsafeSlow'] as const;
  const real = { ...Buffer };
  for (const name of names) {
    Buffer[name] = (bytes: number, ...fill: []) => {
      check(bytes);
      return real[name](bytes, ...fill);
    };
  }
  return () => Object.assign(Buffer, real);
}
