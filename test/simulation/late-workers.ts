/**
 * Threads that take work, simulated: jobs are done some turns of the event loop later, those of one row in
 * their order, as the dice have it. Now and then one is refused, or is the last: it fails, and so does all
 * that was taken.
 */
import { ChunkvolError } from '../../src/base/errors.js';
import type { SlotBatch, SlotKey } from '../../src/crypto/engine.js';
import type { RowCodec } from '../../src/erasure/row-codec.js';
import type { Group } from '../../src/store/group.js';
import { finishRow } from '../../src/store/parity.js';
import { batchForJob, type RowWork, type Workers } from '../../src/store/work.js';
import type { Dice } from './dice.js';
import type { WatchedEngine } from './engine.js';
import { turn } from './turn.js';

const MAX_TURNS = 6;
const REFUSALS = 0.2;

export class LateWorkers implements Workers {
  readonly worthBytes = { seal: 0, open: 0 };
  private gone = false;

  constructor(
    readonly engine: WatchedEngine,
    private readonly dice: Dice,
    private readonly failureChance = 0,
  ) {}

  rows(group: Group): RowWork {
    return new LateRows(this, group);
  }

  open(key: SlotKey, batch: SlotBatch): Promise<Uint8Array> | null {
    if (this.refuses()) return null;
    const job = batchForJob(batch);
    return this.later(Promise.resolve(), () => {
      const failed = new Uint8Array(job.count);
      this.engine.openSlots(key, job, failed);
      return failed;
    });
  }

  /** A job that can be done where it comes from. */
  refuses(): boolean {
    return this.gone || this.dice.chance(REFUSALS);
  }

  get takesNothing(): boolean {
    return this.gone;
  }

  async later<T>(before: Promise<unknown>, work: () => T): Promise<T> {
    const turns = this.dice.below(MAX_TURNS);
    const isLast = this.dice.chance(this.failureChance);
    await before;
    for (let i = 0; i < turns; i++) await turn();
    this.gone ||= isLast;
    if (this.gone) throw new ChunkvolError('internal', 'a thread came to its end');
    return work();
  }
}

class LateRows implements RowWork {
  private readonly last = new Map<RowCodec, Promise<unknown>>();

  constructor(
    private readonly owner: LateWorkers,
    private readonly group: Group,
  ) {}

  seal(codec: RowCodec, key: SlotKey, batch: SlotBatch, salt: Uint8Array): Promise<unknown> | null {
    if (this.owner.refuses()) return null;
    const { engine } = this.owner;
    engine.watchSeal(key, batch, salt);
    const job = batchForJob(batch);
    const jobSalt = salt.slice();
    return this.next(codec, () => {
      engine.inner.sealSlots(key, job, jobSalt);
    });
  }

  finish(codec: RowCodec, index: number, end: number): Promise<Uint8Array[]> | null {
    const { engine, takesNothing } = this.owner;
    if (takesNothing) return null;
    return this.next(codec, () => finishRow(engine, this.group, codec, index, end));
  }

  close(): void {
    this.last.clear();
  }

  private next<T>(codec: RowCodec, work: () => T): Promise<T> {
    const result = this.owner.later(this.last.get(codec) ?? Promise.resolve(), work);
    this.last.set(
      codec,
      result.catch(() => undefined),
    );
    return result;
  }
}
