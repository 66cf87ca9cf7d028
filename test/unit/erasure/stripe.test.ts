/** Where things lie in chunk files, byte by byte beside a walk over all of them. */
import { expect, it } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import { HEADER_BYTES, makeGeometry, memberCount } from '../../../src/base/geometry.js';
import { locate, memberBytes, place, rowBytes, rowCount } from '../../../src/erasure/stripe.js';

const GEOMETRY = makeGeometry(3, 2, MIB, 4 * KIB);
const STEP = 512;

it('files are as long as their header and the last byte that lies in them', () => {
  const { data } = GEOMETRY;
  const longest = Array.from({ length: data }, () => HEADER_BYTES);
  for (let end = 0; end <= 3 * rowBytes(GEOMETRY); end += STEP) {
    if (end > 0) {
      const { member, offset } = locate(GEOMETRY, end - 1);
      longest[member] = Math.max(longest[member]!, offset + 1);
    }
    const files = Array.from({ length: memberCount(GEOMETRY) }, (_, member) => {
      return memberBytes(GEOMETRY, end, member);
    });
    expect(files.slice(0, data)).toEqual(longest);
    // Parity covers the longest unit of each row, which is the first.
    expect(files.slice(data)).toEqual([longest[0], longest[0]]);
    expect(rowCount(GEOMETRY, end)).toBe(Math.ceil(end / rowBytes(GEOMETRY)));
  }
});

it('pieces lie whole in one unit, behind headers, at the first place there is', () => {
  const bytes = 4 * KIB + 100;
  for (let address = 0; address < 2 * rowBytes(GEOMETRY); address += STEP) {
    const start = place(GEOMETRY, address, bytes);
    const isFree = (at: number): boolean => {
      const [first, last] = [locate(GEOMETRY, at), locate(GEOMETRY, at + bytes - 1)];
      const isBehindHeader = first.offset >= HEADER_BYTES;
      return isBehindHeader && first.member === last.member && first.row === last.row;
    };
    expect(isFree(start)).toBe(true);
    for (let at = address; at < start; at += STEP) expect(isFree(at)).toBe(false);
  }
});
