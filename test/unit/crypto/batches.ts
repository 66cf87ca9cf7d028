/** Batches for the tests of the engines: blocks and slots laid out at odd offsets, with gaps. */
import { createHash } from 'node:crypto';
import type { CryptoEngine, EngineName, SlotBatch } from '../../../src/crypto/engine.js';
import { SLOT_OVERHEAD_BYTES } from '../../../src/crypto/engine.js';
import { engineByName } from '../../../src/crypto/engines.js';

export const engineNames: readonly EngineName[] = ['openssl', 'node', 'noble'];

/** All three must be there where the tests run: a missing one is a failure, not a skip. */
export const engines: readonly CryptoEngine[] = engineNames.map(engineByName);

export interface Layout {
  readonly plainBytes: number;
  readonly count: number;
  /** Unused bytes before, between and after the blocks and slots. */
  readonly gapBytes: number;
  readonly kind: number;
  readonly seed: number;
}

/** Allocates the bytes of both areas of a batch. */
export type Allocate = (bytes: number) => Uint8Array;

const GAP_FILL = 0xee;

export function makeBatch(
  layout: Layout,
  allocate: Allocate = (bytes) => new Uint8Array(bytes),
): SlotBatch {
  const { count, plainBytes, gapBytes } = layout;
  const slotBytes = plainBytes + SLOT_OVERHEAD_BYTES;
  const indices = Array.from({ length: count }, (_, i) => i);
  const place = (bytes: number): Uint32Array =>
    Uint32Array.from(indices, (i) => gapBytes + i * (bytes + gapBytes));
  const area = (bytes: number): Uint8Array =>
    allocate(gapBytes + count * (bytes + gapBytes)).fill(GAP_FILL);
  const batch: SlotBatch = {
    count,
    plainBytes,
    plain: area(plainBytes),
    plainAt: place(plainBytes),
    slots: area(slotBytes),
    slotAt: place(slotBytes),
    positions: Uint32Array.from(indices, (i) => noise(`position ${layout.seed} ${i}`, 4)),
    numbers: Float64Array.from(indices, (i) => noise(`number ${layout.seed} ${i}`, 6)),
    kind: layout.kind,
  };
  for (const i of indices)
    plainOf(batch, i).set(bytesFrom(`plain ${layout.seed} ${i}`, plainBytes));
  return batch;
}

export function plainOf(batch: SlotBatch, index: number): Uint8Array {
  const at = batch.plainAt[index]!;
  return batch.plain.subarray(at, at + batch.plainBytes);
}

export function slotOf(batch: SlotBatch, index: number): Uint8Array {
  const at = batch.slotAt[index]!;
  return batch.slots.subarray(at, at + batch.plainBytes + SLOT_OVERHEAD_BYTES);
}

/** Reproducible bytes that follow from a text. */
export function bytesFrom(text: string, length: number): Uint8Array {
  return new Uint8Array(createHash('shake256', { outputLength: length }).update(text).digest());
}

function noise(text: string, bytes: number): number {
  return bytesFrom(text, bytes).reduce((value, byte) => value * 256 + byte, 0);
}
