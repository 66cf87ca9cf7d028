/**
 * How fast the crypto engines seal and open blocks, side by side: the engines take turns in every
 * round, so that whatever else the machine does meets all of them, and the median round counts.
 */
import type { CryptoEngine, SlotBatch, SlotKey } from '../src/crypto/engine.js';
import { SALT_BYTES, SLOT_OVERHEAD_BYTES } from '../src/crypto/engine.js';
import { ENGINE_NAMES, engineByName } from '../src/crypto/engines.js';

export interface BenchRow {
  name: string;
  unit: string;
  value: number;
}

const BLOCK_BYTES = [4096, 65536] as const;
const BATCH_SLOTS = 64;
const ROUNDS = 5;
/** How long one engine's turn lasts, at least one batch. */
const TURN_MS = { quick: 5, full: 50 };

interface Contestant {
  readonly name: string;
  readonly batchBytes: number;
  readonly run: () => void;
  /** Milliseconds for one batch, one entry a round. */
  readonly batchMs: number[];
}

export async function run(options: {
  quick: boolean;
}): Promise<{ title: string; rows: BenchRow[] }> {
  const turnMs = options.quick ? TURN_MS.quick : TURN_MS.full;
  const engines = availableEngines();
  const contestants = BLOCK_BYTES.flatMap((blockBytes) =>
    engines.flatMap((engine) => pairOf(engine, blockBytes)),
  );
  for (const { run: warmUp } of contestants) takeTurn(warmUp, turnMs);
  for (let round = 0; round < ROUNDS; round++) {
    for (const contestant of contestants) {
      contestant.batchMs.push(takeTurn(contestant.run, turnMs));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  return {
    title: `AES-256-GCM slots, batches of ${BATCH_SLOTS}`,
    rows: contestants.flatMap(rowsOf),
  };
}

function availableEngines(): CryptoEngine[] {
  return ENGINE_NAMES.flatMap((name) => {
    try {
      return [engineByName(name)];
    } catch {
      return [];
    }
  });
}

function pairOf(engine: CryptoEngine, blockBytes: number): Contestant[] {
  const key = engine.slotKey(new Uint8Array(32).fill(1));
  const batch = makeBatch(blockBytes);
  const salt = new Uint8Array(SALT_BYTES).fill(2);
  const failed = new Uint8Array(BATCH_SLOTS);
  const label = `${engine.name} ${blockBytes / 1024} KiB`;
  const batchBytes = BATCH_SLOTS * blockBytes;
  return [
    contestant(`seal ${label}`, batchBytes, () => {
      engine.sealSlots(key, batch, salt);
    }),
    contestant(`open ${label}`, batchBytes, () => {
      openAll(engine, key, batch, failed);
    }),
  ];
}

function contestant(name: string, batchBytes: number, work: () => void): Contestant {
  return { name, batchBytes, run: work, batchMs: [] };
}

function openAll(engine: CryptoEngine, key: SlotKey, batch: SlotBatch, failed: Uint8Array): void {
  const failures = engine.openSlots(key, batch, failed);
  if (failures > 0) throw new Error(`${failures} slots did not open`);
}

/** Plaintexts and slots in one buffer, as the volume keeps them. */
function makeBatch(blockBytes: number): SlotBatch {
  const slotBytes = blockBytes + SLOT_OVERHEAD_BYTES;
  const plainArea = BATCH_SLOTS * blockBytes;
  const buffer = new ArrayBuffer(plainArea + BATCH_SLOTS * slotBytes);
  return {
    count: BATCH_SLOTS,
    plainBytes: blockBytes,
    plain: new Uint8Array(buffer, 0, plainArea).fill(3),
    plainAt: Uint32Array.from({ length: BATCH_SLOTS }, (_, i) => i * blockBytes),
    slots: new Uint8Array(buffer, plainArea, BATCH_SLOTS * slotBytes),
    slotAt: Uint32Array.from({ length: BATCH_SLOTS }, (_, i) => i * slotBytes),
    positions: Uint32Array.from({ length: BATCH_SLOTS }, (_, i) => (i * slotBytes) / 8),
    numbers: Float64Array.from({ length: BATCH_SLOTS }, (_, i) => i),
    kind: 1,
  };
}

function takeTurn(work: () => void, turnMs: number): number {
  const start = performance.now();
  for (let batches = 1; ; batches++) {
    work();
    const elapsedMs = performance.now() - start;
    if (elapsedMs >= turnMs) return elapsedMs / batches;
  }
}

function rowsOf({ name, batchBytes, batchMs }: Contestant): BenchRow[] {
  const medianMs = [...batchMs].sort((a, b) => a - b)[Math.floor(batchMs.length / 2)]!;
  return [
    { name, unit: 'GB/s', value: batchBytes / medianMs / 1e6 },
    { name, unit: 'us/block', value: (medianMs * 1000) / BATCH_SLOTS },
  ];
}
