/** Messages of netlink, against the bytes that other programs send and the kernel answers. */
import * as os from 'node:os';
import { describe, expect, it } from 'vitest';
import {
  decodeErrno,
  decodeFamily,
  encodeFamilyRequest,
  encodeSizeRequest,
  setDeviceSize,
} from '../../../src/cli/nbd-netlink.js';

function bytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
}

describe.skipIf(os.endianness() === 'BE')('netlink', () => {
  it('asks for a family by its name', () => {
    expect(encodeFamilyRequest('nbd')).toEqual(
      bytes('1c000000 1000 0100 00000000 00000000  03 02 0000  0800 0200 6e626400'),
    );
  });

  it('asks for a size, and for an answer', () => {
    expect(encodeSizeRequest(0x1c, 7, 5 * 2 ** 40)).toEqual(
      bytes(
        '28000000 1c00 0500 00000000 00000000  03 01 0000 ' +
          '0800 0100 07000000  0c00 0200 0000000000050000',
      ),
    );
  });

  it('finds the family in the answer, wherever it stands', () => {
    const header = '00000000 1000 0000 00000000 00000000 01 02 0000';
    expect(decodeFamily(bytes(`${header} 0800 0200 6e626400 0600 0100 1c00 0000`))).toBe(0x1c);
    expect(decodeFamily(bytes(`${header} 0600 0100 2000 0000`))).toBe(0x20);
    expect(decodeFamily(bytes(`${header} 0700 0200 6e6264 00 0600 0100 2100 0000`))).toBe(0x21);
  });

  it('takes no answer for the family that holds none', () => {
    const header = '00000000 1000 0000 00000000 00000000 01 02 0000';
    for (const rest of ['', '0800 0200 6e626400', '0000 0000', '0600 0100', 'ff']) {
      expect(decodeFamily(bytes(header + rest)), rest).toBeNull();
    }
    expect(decodeFamily(bytes('24000000 0200 0000 00000000 00000000 feffffff'))).toBeNull();
    expect(decodeFamily(Buffer.alloc(0))).toBeNull();
  });

  it('reads what the kernel thinks of it', () => {
    expect(decodeErrno(bytes('24000000 0200 0001 00000000 00000000 00000000'))).toBe(0);
    expect(decodeErrno(bytes('24000000 0200 0001 00000000 00000000 eaffffff'))).toBe(
      os.constants.errno.EINVAL,
    );
    expect(decodeErrno(bytes('24000000 1c00 0000 00000000 00000000 00000000'))).not.toBe(0);
    expect(decodeErrno(Buffer.alloc(0))).not.toBe(0);
  });

  it('says why it cannot be where there is no such device', () => {
    expect(() => {
      setDeviceSize(4095, 4096);
    }).toThrow(/^(the kernel does not know nbd|the kernel refuses it: E|no netlink here: E)/);
  });
});
