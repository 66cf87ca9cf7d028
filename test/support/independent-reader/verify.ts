/** Sections 6.3 and 6.4 of docs/format.md: every byte of a sealed chunk file against its footer. */
import * as fs from 'node:fs';
import { createCipheriv } from 'node:crypto';
import { parseFooter } from './chunks.js';
import { keystream } from './ciphers.js';
import { attempt, sha256 } from './fields.js';
import { memberBytes, rows, unitBytes } from './geometry.js';
import type { Keys } from './keys.js';
import { unitCounter } from './parity.js';

/** Whether the units and the fill of the file of this place and name are as its footer says. */
export function isWhole(keys: Keys, place: number, name: string, path: string): boolean {
  const file = fs.readFileSync(path);
  const footer = attempt(() => parseFooter(keys, name, file));
  if (!footer) return false;
  const { geometry, end, groupId, sealId, digests, full } = footer.manifest;
  const macKey = keys.m('mac', groupId, sealId);
  const macs = Array.from({ length: rows(geometry, end) }, (_, row) => {
    const start = row * geometry.unit;
    const unit = file.subarray(start, start + unitBytes(geometry, end, place, row));
    return unitMac(macKey, place, row, row === 0 ? unit.subarray(512) : unit);
  });
  const listed = Buffer.concat(footer.macs).equals(Buffer.concat(macs));
  const fill = file.subarray(memberBytes(geometry, end, place), file.length - footer.bytes);
  const fillKey = keys.m('fill', groupId, sealId);
  const expectedFill = keystream(fillKey, unitCounter(place, 0), 0, fill.length);
  return (
    listed &&
    sha256(...macs).equals(digests[place]!) &&
    fill.equals(expectedFill) &&
    (full ? file.length === geometry.chunk : fill.length === 0)
  );
}

export function unitMac(key: Uint8Array, place: number, row: number, unit: Uint8Array): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(place, 0);
  nonce.writeBigUInt64LE(BigInt(row), 4);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 });
  cipher.setAAD(unit);
  cipher.final();
  return cipher.getAuthTag();
}
