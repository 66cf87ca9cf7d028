/** Section 4 of docs/format.md: derivation of keys, the key schedule, file names. */
import { createHmac, hkdfSync } from 'node:crypto';
import { u32 } from './fields.js';

function labelled(label: string, contexts: readonly Uint8Array[]): Buffer {
  if (contexts.length === 0) return Buffer.from(label);
  const parts = contexts.flatMap((bytes) => [u32(bytes.length), bytes]);
  return Buffer.concat([Buffer.from(label), Buffer.of(0), ...parts]);
}

export function derive(key: Uint8Array, label: string, ...contexts: Uint8Array[]): Buffer {
  const info = Buffer.concat([Buffer.from('chunkvol v1 '), labelled(label, contexts)]);
  return Buffer.from(hkdfSync('sha256', key, new Uint8Array(0), info, 32));
}

/** The key schedule: `maintenance` and `data` derive everything else by label. */
export class Keys {
  readonly maintenance: Buffer;
  readonly data: Buffer;
  constructor(volumeKey: Uint8Array) {
    this.maintenance = derive(volumeKey, 'maintenance');
    this.data = derive(volumeKey, 'data');
  }
  m(label: string, ...contexts: Uint8Array[]): Buffer {
    return derive(this.maintenance, label, ...contexts);
  }
  d(label: string, ...contexts: Uint8Array[]): Buffer {
    return derive(this.data, label, ...contexts);
  }
  fileName(kind: string, ...contexts: Uint8Array[]): string {
    const digest = createHmac('sha256', this.m('name')).update(labelled(kind, contexts)).digest();
    return digest.toString('hex', 0, 16);
  }
}
