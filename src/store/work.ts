/**
 * What takes longest of all, encryption and parity of much at a time, as jobs that another thread can do:
 * the bytes are in memory that threads share, the rest of a job is sent.
 *
 * Until a job is done nobody else touches the bytes that it writes, and nobody changes those that it reads.
 */
import type { Geometry } from '../base/geometry.js';
import { toHex } from '../base/bytes.js';
import type { CryptoEngine, SlotBatch, SlotKey } from '../crypto/engine.js';
import { RowCodec, type SharedRow } from '../erasure/row-codec.js';
import type { Group, SealKeys } from './group.js';
import { finishRow } from './parity.js';

/**
 * Threads that take work. null from any method: it is not taken, and is to be done where it comes from.
 * A promise fails only when its thread does: what the job has written by then is undefined.
 */
export interface Workers {
  /** Less at a time is not worth the way there and back. */
  readonly worthBytes: { readonly seal: number; readonly open: number };
  /** For the rows of one group, which is being written. */
  rows(group: Group): RowWork;
  /** What `openSlots` of an engine does; resolves to its `failed`. */
  open(key: SlotKey, batch: SlotBatch): Promise<Uint8Array> | null;
}

/** Jobs of one row are done in the order in which they were given. */
export interface RowWork {
  /** Encrypts a batch, whose slots are all in the data units of `codec`. */
  seal(codec: RowCodec, key: SlotKey, batch: SlotBatch, salt: Uint8Array): Promise<unknown> | null;
  /** What finishRow of parity.ts does. */
  finish(codec: RowCodec, index: number, end: number): Promise<Uint8Array[]> | null;
  /** No job comes any more. */
  close(): void;
}

/** A batch for a job: the lists of the original serve for the next one soon, and are longer than this one. */
export function batchForJob(batch: SlotBatch): SlotBatch {
  const { count } = batch;
  return {
    ...batch,
    plainAt: batch.plainAt.slice(0, count),
    slotAt: batch.slotAt.slice(0, count),
    positions: batch.positions.slice(0, count),
    numbers: batch.numbers.slice(0, count),
  };
}

interface SealJob {
  readonly kind: 'seal';
  /** As it is stored in SlotKey. */
  readonly key: Uint8Array;
  readonly batch: SlotBatch;
  readonly salt: Uint8Array;
}

interface OpenJob {
  readonly kind: 'open';
  readonly key: Uint8Array;
  readonly batch: SlotBatch;
}

/** A row's memory gets a number, by which it is known until it is forgotten. */
interface RowJob {
  readonly kind: 'row';
  readonly row: number;
  readonly shared: SharedRow;
}

interface FinishJob {
  readonly kind: 'finish';
  readonly row: number;
  readonly geometry: Geometry;
  readonly sealKeys: Pick<SealKeys, 'parity' | 'mac'>;
  readonly index: number;
  readonly end: number;
}

interface ForgetJob {
  readonly kind: 'forget';
  readonly row: number;
}

export type Job = SealJob | OpenJob | RowJob | FinishJob | ForgetJob;

/** MACs of a row's units that was finished; `failed` of slots that were opened; nothing, in a list. */
export type JobResult = Uint8Array[];

/** Keys that a thread keeps ready: those of the groups at work. */
const MAX_KEYS = 64;

/** Does jobs, on whatever thread it is. */
export class JobRunner {
  private readonly rows = new Map<number, RowCodec>();
  private readonly keys = new Map<string, SlotKey>();

  constructor(private readonly engine: CryptoEngine) {}

  run(job: Job): JobResult {
    switch (job.kind) {
      case 'seal':
        this.engine.sealSlots(this.key(job.key), job.batch, job.salt);
        return [];
      case 'open': {
        const failed = new Uint8Array(job.batch.count);
        this.engine.openSlots(this.key(job.key), job.batch, failed);
        return [failed];
      }
      case 'row':
        this.rows.set(job.row, RowCodec.over(job.shared));
        return [];
      case 'finish':
        return finishRow(this.engine, job, this.row(job.row), job.index, job.end);
      case 'forget':
        this.rows.delete(job.row);
        return [];
    }
  }

  private row(number: number): RowCodec {
    const row = this.rows.get(number);
    if (!row) throw new RangeError(`there is no row ${number} here`);
    return row;
  }

  /** Making a key ready takes longer than finding it; the oldest goes when there are too many. */
  private key(raw: Uint8Array): SlotKey {
    const name = toHex(raw);
    const known = this.keys.get(name);
    if (known) return known;
    const [oldest] = this.keys.keys();
    if (this.keys.size >= MAX_KEYS && oldest !== undefined) this.keys.delete(oldest);
    const key = this.engine.slotKey(raw);
    this.keys.set(name, key);
    return key;
  }
}
