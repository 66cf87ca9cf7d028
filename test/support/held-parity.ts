/** A thread that takes the parity of rows, and finishes each when it is told to. */
import type { CryptoEngine } from '../../src/crypto/engine.js';
import { finishRow } from '../../src/store/parity.js';
import type { Workers } from '../../src/store/work.js';

export interface HeldParity {
  readonly workers: Workers;
  /** By row, of those that were taken: finishes its parity. */
  readonly due: (() => void)[];
}

export function holdParity(engine: CryptoEngine): HeldParity {
  const due: (() => void)[] = [];
  const workers: Workers = {
    worthBytes: { seal: Infinity, open: Infinity },
    open: () => null,
    rows: (group) => ({
      seal: () => null,
      finish: (codec, row, end) =>
        new Promise((resolve) => {
          due[row] = () => {
            resolve(finishRow(engine, group, codec, row, end));
          };
        }),
      close: () => undefined,
    }),
  };
  return { workers, due };
}
