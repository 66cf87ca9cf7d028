/**
 * The test every engine passes before it is used: published answers, and one slot of an odd size
 * against the reference engine. Well under a millisecond once the reference is warm.
 */
import { equalBytes, fromHex } from '../base/bytes.js';
import type { CryptoEngine, SlotBatch } from './engine.js';
import { SALT_BYTES, SLOT_OVERHEAD_BYTES, TAG_BYTES } from './engine.js';
import { NobleEngine } from './engine-noble.js';

const hex = (text: string): Uint8Array => fromHex(text)!;

/** NIST SP 800-38A, F.5.5: CTR-AES256.Encrypt. */
const CTR_ANSWER = {
  key: hex('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4'),
  counter: hex('f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff'),
  plain: hex('6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51'),
  cipher: hex('601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5'),
};

/** NIST CAVS, gcmEncryptExtIV256: 96-bit IV, no plaintext, 128-bit AAD and tag. */
const GMAC_ANSWER = {
  key: hex('78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223'),
  nonce: hex('d79cf22d504cc793c3fb6c8a'),
  aad: hex('b96baa8c1c75a671bfb2d08d06be5f36'),
  tag: hex('3e5d486aa2e30b22e040b85723a06e76'),
};

/**
 * The GCM specification (McGrew and Viega), test case 15. Its ciphertext does not depend on the
 * associated data, so that it holds for a slot too; the nonce is cafebabe || facedbaddecaf888.
 */
const SLOT_ANSWER = {
  key: hex('feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308'),
  position: 0xbebafeca,
  salt: hex('facedbaddecaf888'),
  plain: hex('d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72'),
  cipher: hex('522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa'),
};

const ODD_BYTES = 21;

/** Throws an Error that says what is wrong with `engine`. */
export function selfTest(engine: CryptoEngine): void {
  testCtr(engine);
  testGmac(engine);
  testPublishedSlot(engine);
  testOddSlot(engine);
}

function testCtr(engine: CryptoEngine): void {
  const { key, counter, plain, cipher } = CTR_ANSWER;
  const bytes = Uint8Array.from(plain);
  engine.ctr(key, counter, bytes, 0);
  expectEqual('CTR', bytes, cipher);
  const tail = plain.slice(19);
  engine.ctr(key, counter, tail, 19);
  expectEqual('CTR from within', tail, cipher.subarray(19));
}

function testGmac(engine: CryptoEngine): void {
  const { key, nonce, aad, tag } = GMAC_ANSWER;
  const parts = [aad.subarray(0, 5), aad.subarray(5)];
  expectEqual('GMAC', engine.gmac(key, nonce, parts), tag);
}

function testPublishedSlot(engine: CryptoEngine): void {
  const { key, position, salt, plain, cipher } = SLOT_ANSWER;
  const batch = oneSlot(Uint8Array.from(plain), position);
  engine.sealSlots(engine.slotKey(key), batch, salt);
  expectEqual('slot ciphertext', batch.slots.subarray(0, plain.length), cipher);
  expectEqual('slot salt', batch.slots.subarray(plain.length + TAG_BYTES), salt);
}

/** Seals like the reference, opens what it sealed, and refuses it with one bit of the tag flipped. */
function testOddSlot(engine: CryptoEngine): void {
  const key = SLOT_ANSWER.key;
  const plain = SLOT_ANSWER.plain.slice(0, ODD_BYTES);
  const salt = new Uint8Array(SALT_BYTES).fill(0xa5);
  const reference = new NobleEngine();
  const expected = oneSlot(plain, 7);
  reference.sealSlots(reference.slotKey(key), expected, salt);

  const slotKey = engine.slotKey(key);
  const batch = oneSlot(Uint8Array.from(plain), 7);
  engine.sealSlots(slotKey, batch, salt);
  expectEqual('slot', batch.slots, expected.slots);

  const failed = new Uint8Array(1);
  batch.plain.fill(0xff);
  const healthy = engine.openSlots(slotKey, batch, failed) === 0 && failed[0] === 0;
  if (!healthy) throw new Error('it refuses a slot of its own');
  expectEqual('opened slot', batch.plain, plain);

  batch.slots[ODD_BYTES + TAG_BYTES - 1]! ^= 1;
  const refused = engine.openSlots(slotKey, batch, failed) === 1 && failed[0] === 1;
  if (!refused) throw new Error('it accepts a wrong tag');
  expectEqual('wiped plaintext', batch.plain, new Uint8Array(ODD_BYTES));
}

function oneSlot(plain: Uint8Array, position: number): SlotBatch {
  return {
    count: 1,
    plainBytes: plain.length,
    plain,
    plainAt: Uint32Array.of(0),
    slots: new Uint8Array(plain.length + SLOT_OVERHEAD_BYTES),
    slotAt: Uint32Array.of(0),
    positions: Uint32Array.of(position),
    numbers: Float64Array.of(2 ** 40 + 3),
    kind: 0x0102,
  };
}

function expectEqual(what: string, got: Uint8Array, wanted: Uint8Array): void {
  if (!equalBytes(got, wanted)) throw new Error(`its ${what} has the wrong bytes`);
}
