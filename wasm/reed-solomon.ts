/**
 * The Reed-Solomon kernel: targets = matrix x sources over GF(2^8), bytewise, on units in one
 * memory.
 *
 * A product by a constant c is linear in the bits of its argument, so c * x is the sum (XOR) of two
 * table entries, c * (x & 15) and c * (x & 240), and `swizzle` looks up sixteen bytes at once. All
 * targets of a pass are summed in registers while the sources are read once.
 *
 * Owns no memory: everything lies where the caller's addresses say, in a memory that the caller
 * imports and that never grows. Reads and writes exactly the bytes [from, to) of the units, so that
 * a range may end at the last byte of the memory. Nothing here checks its arguments: src/erasure has
 * done that.
 */

/** Targets that one pass sums: more would not fit the sixteen vector registers of x86-64. */
const PASS_TARGETS: i32 = 4;

/**
 * Bytes of each unit after which the next pass takes its turn, so that with more than four targets
 * it finds even 32 sources still in the cache (a tenth faster at 32 + 8; all the same at 4 + 2).
 */
const BLOCK_BYTES: usize = 8192;

/** Bytes of the two 16-byte tables of one coefficient, low nibbles first. */
const TABLE_BYTES: usize = 32;

/** Bytes of one address in a list of units. */
const ADDRESS_BYTES: usize = 4;

/**
 * Sets, or with `accumulate` adds to, the bytes [from, to) of each target.
 *
 * - `sources`, `targets`: address of the list of the units' addresses, u32 each; none in both.
 * - `tables`: address of 32 bytes a coefficient, in the order [source][target].
 * - `from`, `to`: offsets in each unit, to - from a multiple of 8.
 */
export function multiply(
  sources: usize,
  sourceCount: usize,
  targets: usize,
  targetCount: i32,
  tables: usize,
  from: usize,
  to: usize,
  accumulate: bool,
): void {
  const sourcesEnd = sources + sourceCount * ADDRESS_BYTES;
  const stride = <usize>targetCount * TABLE_BYTES;
  for (let at = from; at < to; at += BLOCK_BYTES) {
    const end = min(at + BLOCK_BYTES, to);
    for (let first = 0; first < targetCount; first += PASS_TARGETS) {
      const list = targets + <usize>first * ADDRESS_BYTES;
      const table = tables + <usize>first * TABLE_BYTES;
      const count = targetCount - first;
      if (count == 1) one(sources, sourcesEnd, list, table, stride, at, end, accumulate);
      else if (count == 2) two(sources, sourcesEnd, list, table, stride, at, end, accumulate);
      else if (count == 3) three(sources, sourcesEnd, list, table, stride, at, end, accumulate);
      else four(sources, sourcesEnd, list, table, stride, at, end, accumulate);
    }
  }
}

// A function each: the compiler folds the branches of one into a loop that asks for `count`.

function one(
  sources: usize,
  sourcesEnd: usize,
  targets: usize,
  tables: usize,
  stride: usize,
  from: usize,
  to: usize,
  accumulate: bool,
): void {
  Pass.run(1, sources, sourcesEnd, targets, tables, stride, from, to, accumulate);
}

function two(
  sources: usize,
  sourcesEnd: usize,
  targets: usize,
  tables: usize,
  stride: usize,
  from: usize,
  to: usize,
  accumulate: bool,
): void {
  Pass.run(2, sources, sourcesEnd, targets, tables, stride, from, to, accumulate);
}

function three(
  sources: usize,
  sourcesEnd: usize,
  targets: usize,
  tables: usize,
  stride: usize,
  from: usize,
  to: usize,
  accumulate: bool,
): void {
  Pass.run(3, sources, sourcesEnd, targets, tables, stride, from, to, accumulate);
}

function four(
  sources: usize,
  sourcesEnd: usize,
  targets: usize,
  tables: usize,
  stride: usize,
  from: usize,
  to: usize,
  accumulate: bool,
): void {
  Pass.run(4, sources, sourcesEnd, targets, tables, stride, from, to, accumulate);
}

/**
 * One pass over the sources. The methods are inlined, and `count` is a constant wherever they are
 * called, so that each of the four becomes a loop of its own without the branches on `count`.
 * (They are methods because only there is a decorator valid TypeScript.)
 */
class Pass {
  @inline static run(
    count: i32,
    sources: usize,
    sourcesEnd: usize,
    targets: usize,
    tables: usize,
    stride: usize,
    from: usize,
    to: usize,
    accumulate: bool,
  ): void {
    const a = <usize>load<u32>(targets);
    const b = count > 1 ? <usize>load<u32>(targets, 4) : 0;
    const c = count > 2 ? <usize>load<u32>(targets, 8) : 0;
    const d = count > 3 ? <usize>load<u32>(targets, 12) : 0;
    let at = from;
    for (; at + 32 <= to; at += 32) {
      let a0 = i64x2.splat(0);
      let a1 = a0;
      let b0 = a0;
      let b1 = a0;
      let c0 = a0;
      let c1 = a0;
      let d0 = a0;
      let d1 = a0;
      if (accumulate) {
        a0 = v128.load(a + at);
        a1 = v128.load(a + at, 16);
        if (count > 1) b0 = v128.load(b + at);
        if (count > 1) b1 = v128.load(b + at, 16);
        if (count > 2) c0 = v128.load(c + at);
        if (count > 2) c1 = v128.load(c + at, 16);
        if (count > 3) d0 = v128.load(d + at);
        if (count > 3) d1 = v128.load(d + at, 16);
      }
      let table = tables;
      for (let source = sources; source < sourcesEnd; source += ADDRESS_BYTES) {
        const unit = <usize>load<u32>(source) + at;
        const x0 = v128.load(unit);
        const x1 = v128.load(unit, 16);
        const low0 = Pass.low(x0);
        const low1 = Pass.low(x1);
        const high0 = Pass.high(x0);
        const high1 = Pass.high(x1);
        a0 = Pass.add(a0, table, low0, high0);
        a1 = Pass.add(a1, table, low1, high1);
        if (count > 1) b0 = Pass.add(b0, table + 32, low0, high0);
        if (count > 1) b1 = Pass.add(b1, table + 32, low1, high1);
        if (count > 2) c0 = Pass.add(c0, table + 64, low0, high0);
        if (count > 2) c1 = Pass.add(c1, table + 64, low1, high1);
        if (count > 3) d0 = Pass.add(d0, table + 96, low0, high0);
        if (count > 3) d1 = Pass.add(d1, table + 96, low1, high1);
        table += stride;
      }
      v128.store(a + at, a0);
      v128.store(a + at, a1, 16);
      if (count > 1) v128.store(b + at, b0);
      if (count > 1) v128.store(b + at, b1, 16);
      if (count > 2) v128.store(c + at, c0);
      if (count > 2) v128.store(c + at, c1, 16);
      if (count > 3) v128.store(d + at, d0);
      if (count > 3) v128.store(d + at, d1, 16);
    }
    Pass.tail(count, sources, sourcesEnd, targets, tables, stride, at, to, accumulate);
  }

  /** The last 8, 16 or 24 bytes, eight at a time and one target after the other. */
  @inline static tail(
    count: i32,
    sources: usize,
    sourcesEnd: usize,
    targets: usize,
    tables: usize,
    stride: usize,
    from: usize,
    to: usize,
    accumulate: bool,
  ): void {
    for (let at = from; at < to; at += 8) {
      for (let target: usize = 0; target < <usize>count; target++) {
        const out = <usize>load<u32>(targets + target * ADDRESS_BYTES) + at;
        let sum = accumulate ? v128.load64_zero(out) : i64x2.splat(0);
        let table = tables + target * TABLE_BYTES;
        for (let source = sources; source < sourcesEnd; source += ADDRESS_BYTES) {
          const x = v128.load64_zero(<usize>load<u32>(source) + at);
          sum = Pass.add(sum, table, Pass.low(x), Pass.high(x));
          table += stride;
        }
        v128.store64_lane(out, sum, 0);
      }
    }
  }

  @inline static low(x: v128): v128 {
    return v128.and(x, i8x16.splat(15));
  }

  @inline static high(x: v128): v128 {
    return i8x16.shr_u(x, 4);
  }

  /** sum + coefficient * x, the coefficient given by its tables and x by its nibbles. */
  @inline static add(sum: v128, table: usize, low: v128, high: v128): v128 {
    const products = v128.xor(
      i8x16.swizzle(v128.load(table), low),
      i8x16.swizzle(v128.load(table, 16), high),
    );
    return v128.xor(sum, products);
  }
}
