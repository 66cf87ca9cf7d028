import { describe, expect, it } from 'vitest';
import { fromHex, toHex } from '../../../src/base/bytes.js';
import { openLong, openRecord, sealLong, sealRecord } from '../../../src/crypto/sealing.js';

const hex = (text: string): Uint8Array => fromHex(text)!;

const SUNSCREEN = new TextEncoder().encode(
  "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, " +
    'sunscreen would be it.',
);

const ciphers = [
  {
    // The GCM specification (McGrew and Viega), test case 16.
    name: 'sealRecord',
    seal: sealRecord,
    open: openRecord,
    key: hex('feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308'),
    nonce: hex('cafebabefacedbaddecaf888'),
    plain: hex(
      'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72' +
        '1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
    ),
    aad: hex('feedfacedeadbeeffeedfacedeadbeefabaddad2'),
    sealed:
      '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa' +
      '8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662' +
      '76fc6ece0f4e1768cddf8853bb2d551b',
  },
  {
    // draft-irtf-cfrg-xchacha-03, A.3.1.
    name: 'sealLong',
    seal: sealLong,
    open: openLong,
    key: hex('808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f'),
    nonce: hex('404142434445464748494a4b4c4d4e4f5051525354555657'),
    plain: SUNSCREEN,
    aad: hex('50515253c0c1c2c3c4c5c6c7'),
    sealed:
      'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb' +
      '731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452' +
      '2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9' +
      '21f9664c97637da9768812f615c68b13b52e' +
      'c0875924c1c7987947deafd8780acf49',
  },
];

describe.each(ciphers)('$name', ({ seal, open, key, nonce, plain, aad, sealed }) => {
  it('gives the published answer, and opens it', () => {
    expect(toHex(seal(key, nonce, plain, aad))).toBe(sealed);
    expect(toHex(open(key, nonce, hex(sealed), aad)!)).toBe(toHex(plain));
  });

  it('opens nothing with any bit of bytes, nonce, key or associated data flipped', () => {
    const fields = { key, nonce, bytes: hex(sealed), aad };
    for (const name of ['key', 'nonce', 'bytes', 'aad'] as const) {
      for (let bit = 0; bit < 8 * fields[name].length; bit++) {
        const altered = { ...fields, [name]: Uint8Array.from(fields[name]) };
        altered[name][bit >> 3]! ^= 1 << (bit & 7);
        expect(open(altered.key, altered.nonce, altered.bytes, altered.aad)).toBeNull();
      }
    }
  });

  it('opens nothing that was cut or extended, down to no bytes at all', () => {
    const whole = hex(sealed);
    for (let length = 0; length < whole.length; length++) {
      expect(open(key, nonce, whole.subarray(0, length), aad)).toBeNull();
    }
    expect(open(key, nonce, Uint8Array.of(...whole, 0), aad)).toBeNull();
  });

  it('carries records of no bytes', () => {
    const empty = seal(key, nonce, new Uint8Array(0), aad);
    expect(empty.length).toBe(16);
    expect(open(key, nonce, empty, aad)).toEqual(new Uint8Array(0));
  });

  it('takes keys and nonces of the right size only', () => {
    const none = new Uint8Array(0);
    expect(() => seal(key.subarray(1), nonce, plain, aad)).toThrow(RangeError);
    expect(() => seal(key, nonce.subarray(1), plain, aad)).toThrow(RangeError);
    expect(() => open(key.subarray(1), nonce, none, aad)).toThrow(RangeError);
    expect(() => open(key, nonce.subarray(1), none, aad)).toThrow(RangeError);
  });
});
