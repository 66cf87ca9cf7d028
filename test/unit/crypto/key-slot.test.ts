import { describe, expect, it } from 'vitest';
import { concatBytes, toHex } from '../../../src/base/bytes.js';
import type { Randomness } from '../../../src/base/randomness.js';
import { kernelRandomness } from '../../../src/base/randomness.js';
import { derive } from '../../../src/crypto/derive.js';
import type { Credential, WrappedKey } from '../../../src/crypto/key-slot.js';
import { unwrapVolumeKey, wrapVolumeKey } from '../../../src/crypto/key-slot.js';
import { sealLong } from '../../../src/crypto/sealing.js';

const FLOOR = { memoryKiB: 8192, iterations: 1, lanes: 1 };
const VOLUME_KEY = Uint8Array.from({ length: 32 }, (_, i) => 0xa0 + i);

const passphrase = (text: string): Credential => ({
  kind: 'passphrase',
  passphrase: new TextEncoder().encode(text),
});
const keyFile = (bytes: number, fill = 1): Credential => ({
  kind: 'key-file',
  secret: new Uint8Array(bytes).fill(fill),
});
const wrap = (credential: Credential): Promise<WrappedKey> =>
  wrapVolumeKey(VOLUME_KEY, credential, kernelRandomness, FLOOR);

const credentials: [string, Credential, Credential][] = [
  ['passphrase', passphrase('correct horse'), passphrase('correct hors')],
  ['key file', keyFile(64), keyFile(64, 2)],
];

describe.each(credentials)('a key slot for a %s', (_, right, wrong) => {
  it('gives the volume key back, to the right credential alone', async () => {
    const slot = await wrap(right);
    expect(await unwrapVolumeKey(slot, right)).toEqual(VOLUME_KEY);
    expect(await unwrapVolumeKey(slot, wrong)).toBeNull();
  });

  it('opens no more with any field altered', async () => {
    const slot = await wrap(right);
    for (const name of ['salt', 'commitment', 'nonce', 'wrapped'] as const) {
      // One bit in the first and the last byte: each costs a derivation.
      for (const at of [0, slot[name].length - 1]) {
        const altered = { ...slot, [name]: Uint8Array.from(slot[name]) };
        altered[name][at]! ^= 0x10;
        expect(await unwrapVolumeKey(altered, right)).toBeNull();
      }
    }
  });

  it('draws salt and nonce anew each time', async () => {
    const slots = [await wrap(right), await wrap(right)];
    for (const name of ['salt', 'commitment', 'nonce', 'wrapped'] as const) {
      expect(toHex(slots[0]![name])).not.toBe(toHex(slots[1]![name]));
    }
  });

  it('refuses fields of the wrong size', async () => {
    const slot = await wrap(right);
    for (const name of ['salt', 'commitment', 'nonce', 'wrapped'] as const) {
      const cut = { ...slot, [name]: slot[name].subarray(1) };
      await expect(unwrapVolumeKey(cut, right)).rejects.toThrow(RangeError);
    }
  });
});

describe('a key slot', () => {
  it('binds the Argon2 parameters', async () => {
    const right = passphrase('p');
    const slot = await wrap(right);
    for (const other of [{ memoryKiB: 8193 }, { iterations: 2 }, { lanes: 2 }]) {
      const altered = { ...slot, parameters: { ...FLOOR, ...other } };
      expect(await unwrapVolumeKey(altered, right)).toBeNull();
    }
  });

  it.each([
    { memoryKiB: 8191 },
    { memoryKiB: 0xffff_ffff },
    { iterations: 0 },
    { iterations: 17 },
    { lanes: 0 },
    { lanes: 0xffff_ffff },
  ])('is damaged with Argon2 parameters out of their limits: %o', async (other) => {
    const right = passphrase('p');
    const slot = await wrap(right);
    const altered = { ...slot, parameters: { ...FLOOR, ...other } };
    await expect(unwrapVolumeKey(altered, right)).rejects.toMatchObject({ code: 'damaged' });
  });

  it('is damaged when one for a key file has Argon2 parameters', async () => {
    const slot = await wrap(keyFile(32));
    expect(slot.parameters).toEqual({ memoryKiB: 0, iterations: 0, lanes: 0 });
    const altered = { ...slot, parameters: FLOOR };
    await expect(unwrapVolumeKey(altered, keyFile(32))).rejects.toMatchObject({ code: 'damaged' });
  });

  it('is refused when it authenticates but commits to another key', async () => {
    const { secret } = keyFile(32) as { secret: Uint8Array };
    const honest = await wrap(keyFile(32));
    const commitment = new Uint8Array(32).fill(7);
    const key = derive(derive(secret, 'key file', honest.salt), 'key-encryption key');
    const forge = (commitsTo: Uint8Array): WrappedKey => {
      const head = [new TextEncoder().encode('chunkvol v1 key slot'), Uint8Array.of(2)];
      const aad = concatBytes(...head, new Uint8Array(12), honest.salt, commitsTo);
      const wrapped = sealLong(key, honest.nonce, VOLUME_KEY, aad);
      return { ...honest, commitment: commitsTo, wrapped };
    };
    expect(await unwrapVolumeKey(forge(honest.commitment), keyFile(32))).toEqual(VOLUME_KEY);
    expect(await unwrapVolumeKey(forge(commitment), keyFile(32))).toBeNull();
  });

  it('does not take one kind of credential for the other, even of the same bytes', async () => {
    const bytes = new Uint8Array(32).fill(0x61);
    const file: Credential = { kind: 'key-file', secret: bytes };
    const typed: Credential = { kind: 'passphrase', passphrase: bytes };
    expect(await unwrapVolumeKey(await wrap(file), typed)).toBeNull();
    const slot = await wrap(typed);
    expect(await unwrapVolumeKey(slot, file)).toBeNull();
    const relabelled: WrappedKey = {
      ...slot,
      kdf: 'key-file',
      parameters: { memoryKiB: 0, iterations: 0, lanes: 0 },
    };
    expect(await unwrapVolumeKey(relabelled, file)).toBeNull();
  });

  it('refuses empty passphrases and key files that are too small or too large', async () => {
    for (const credential of [passphrase(''), keyFile(31), keyFile(1024 * 1024 + 1)]) {
      await expect(wrap(credential)).rejects.toMatchObject({ code: 'usage' });
    }
    for (const credential of [keyFile(32), keyFile(1024 * 1024)]) {
      const slot = await wrap(credential);
      expect(await unwrapVolumeKey(slot, credential)).toEqual(VOLUME_KEY);
    }
  });

  it('is made of 32-byte keys and of parameters within the limits', async () => {
    await expect(
      wrapVolumeKey(VOLUME_KEY.subarray(1), keyFile(32), kernelRandomness),
    ).rejects.toThrow(RangeError);
    await expect(
      wrapVolumeKey(VOLUME_KEY, passphrase('p'), kernelRandomness, { ...FLOOR, iterations: 99 }),
    ).rejects.toThrow(RangeError);
  });
});

// Computed by other implementations: Python's hmac and hashlib, libargon2, libsodium.
describe('the format of key slots', () => {
  const counting: Randomness = { bytes: (length) => Uint8Array.from({ length }, (_, i) => i) };

  it('has a fixed slot for a key file', async () => {
    const secret = Uint8Array.from({ length: 100 }, (_, i) => i % 251);
    const slot = await wrapVolumeKey(VOLUME_KEY, { kind: 'key-file', secret }, counting);
    expect(toHex(slot.commitment)).toBe(
      'ccab34ca9d77026939ad749f8908630c73a11a4a00bb4647a629cca3cbc50793',
    );
    expect(toHex(slot.wrapped)).toBe(
      '283934d36bf3cf271a1ba0dd947d3f8ab923c4140e65c39b5f30098b3d83eb0a0352c7e9a519e018a964537563445854',
    );
  });

  it('has a fixed slot for a passphrase', async () => {
    const slot = await wrapVolumeKey(VOLUME_KEY, passphrase('golden'), counting, FLOOR);
    expect(toHex(slot.commitment)).toBe(
      '2b417b998fd6b232d189cdf6ae7be6de18dc6c338891d32f08c898ae70677ffc',
    );
    expect(toHex(slot.wrapped)).toBe(
      '9494e7988690fcc9685fe7cf5b7e0bba041b51a26420f9899939b98dd09479f5c2a034f8fad7f7410b16195662c529a4',
    );
  });
});
