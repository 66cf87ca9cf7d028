/** Section 3 of docs/format.md: from a credential to the keys. */
import { createHmac } from 'node:crypto';
import * as fs from 'node:fs';
import { argon2id } from 'hash-wasm';
import { openXChaCha } from './ciphers.js';
import { attempt, Fields, u32, within } from './fields.js';
import { namesIn } from './folder.js';
import { derive, Keys } from './keys.js';

export type Credential =
  | { readonly kind: 'passphrase'; readonly passphrase: string }
  | { readonly kind: 'secret'; readonly secret: Uint8Array };

/** Throws when the credential opens nothing. */
export async function unlock(folder: string, credential: Credential): Promise<Keys> {
  const files = namesIn(`${folder}/keys`)
    .map((name) => fs.readFileSync(`${folder}/keys/${name}`))
    .flatMap((bytes) => attempt(() => parseKeyFile(bytes)) ?? [])
    .sort((a, b) => b.counter - a.counter);
  for (const file of files) {
    for (const slot of file.slots) {
      const volumeKey = await openSlot(slot, credential);
      if (!volumeKey) continue;
      const keys = new Keys(volumeKey);
      const mac = createHmac('sha256', keys.d('key file')).update(file.body).digest();
      if (mac.equals(file.mac)) return keys;
    }
  }
  throw new Error('the credential opens no slot');
}

interface KeyFile {
  readonly counter: number;
  readonly slots: readonly KeySlot[];
  /** What the MAC is of. */
  readonly body: Buffer;
  readonly mac: Buffer;
}

interface KeySlot {
  readonly kind: number;
  readonly memory: number;
  readonly iterations: number;
  readonly lanes: number;
  readonly salt: Buffer;
  readonly commitment: Buffer;
  readonly nonce: Buffer;
  readonly wrapped: Buffer;
}

function parseKeyFile(bytes: Buffer): KeyFile {
  const fields = new Fields(bytes);
  fields.start('CVKF');
  const count = fields.u16();
  fields.take(16);
  const counter = fields.u64();
  const slots = Array.from({ length: count }, () => parseKeySlot(fields));
  const body = bytes.subarray(0, fields.position);
  const mac = fields.take(32);
  fields.end();
  return { counter, slots, body, mac };
}

function parseKeySlot(fields: Fields): KeySlot {
  fields.take(8);
  const kind = fields.u8();
  fields.zero(3);
  const memory = fields.u32();
  const iterations = fields.u32();
  const lanes = fields.u32();
  fields.u64();
  const [salt, commitment] = [fields.take(32), fields.take(32)];
  const [nonce, wrapped] = [fields.take(24), fields.take(48)];
  fields.zero(56);
  return { kind, memory, iterations, lanes, salt, commitment, nonce, wrapped };
}

async function openSlot(slot: KeySlot, credential: Credential): Promise<Buffer | null> {
  const { kind, memory, iterations, lanes, salt, commitment, nonce, wrapped } = slot;
  if (kind !== (credential.kind === 'passphrase' ? 1 : 2)) return null;
  let material: Uint8Array;
  if (credential.kind === 'secret') {
    if (memory !== 0 || iterations !== 0 || lanes !== 0) return null;
    material = derive(credential.secret, 'key file', salt);
  } else {
    if (!within(memory, 8192, 1048576) || !within(iterations, 1, 16) || !within(lanes, 1, 16)) {
      return null;
    }
    material = await argon2id({
      password: Buffer.from(credential.passphrase.normalize('NFC')),
      salt,
      memorySize: memory,
      iterations,
      parallelism: lanes,
      hashLength: 64,
      outputType: 'binary',
    });
  }
  if (!derive(material, 'key commitment').equals(commitment)) return null;
  const numbers = [Buffer.of(kind), u32(memory), u32(iterations), u32(lanes)];
  const label = Buffer.from('chunkvol v1 key slot');
  const aad = Buffer.concat([label, ...numbers, salt, commitment]);
  return openXChaCha(derive(material, 'key-encryption key'), nonce, wrapped, aad);
}
