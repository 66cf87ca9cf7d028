/**
 * Threads that take work. They start when there is first some for them, keep no process alive that has
 * nothing else to do, and end with it.
 *
 * A thread that is not there yet, or no more, takes no work. What it took and did not do fails.
 *
 * Node ends threads wherever they are when the program ends, and native code that is just being loaded or
 * called there ends the program with an abort then. So the end waits until each thread has come to a rest.
 */
import { Worker } from 'node:worker_threads';
import { KIB } from '../base/bytes.js';
import { systemClock } from '../base/clock.js';
import { ChunkvolError, errorMessage } from '../base/errors.js';
import type { EngineName, SlotBatch, SlotKey } from '../crypto/engine.js';
import type { RowCodec } from '../erasure/row-codec.js';
import type { Group } from './group.js';
import type { Answer, ThreadData } from './work-thread.js';
import { batchForJob, type Job, type JobResult, type RowWork, type Workers } from './work.js';

const SCRIPT = new URL('work-thread.js', import.meta.url);

export class WorkThreads implements Workers {
  readonly worthBytes: Workers['worthBytes'] = { seal: 256 * KIB, open: 64 * KIB };
  private readonly threads: WorkThread[];
  private turn = 0;
  private rowCount = 0;

  /** `count` threads, at least one, with engines of that name. */
  constructor(engine: EngineName, count: number, script: URL = SCRIPT) {
    this.threads = Array.from({ length: count }, () => new WorkThread(engine, script));
  }

  rows(group: Group): RowWork {
    return new ThreadedRows(this, group);
  }

  open(key: SlotKey, batch: SlotBatch): Promise<Uint8Array> | null {
    const thread = isShared(batch) ? this.nextThread() : null;
    if (!thread) return null;
    const job: Job = { kind: 'open', key: key.raw, batch: batchForJob(batch) };
    return thread.do(job).then(([failed]) => failed!);
  }

  /** The threads take turns; null when it is that of one that takes no work. */
  nextThread(): WorkThread | null {
    const thread = this.threads[this.turn++ % this.threads.length]!;
    return thread.takesWork() ? thread : null;
  }

  nextRow(): number {
    return this.rowCount++;
  }

  /** Ends the threads, when they have done what they have taken. */
  async stop(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.stop()));
  }
}

/** A row's place: all its jobs go to one thread. */
interface Place {
  readonly thread: WorkThread;
  readonly row: number;
}

class ThreadedRows implements RowWork {
  private readonly places = new Map<RowCodec, Place>();

  constructor(
    private readonly owner: WorkThreads,
    private readonly group: Group,
  ) {}

  seal(
    codec: RowCodec,
    key: SlotKey,
    batch: SlotBatch,
    salt: Uint8Array,
  ): Promise<JobResult> | null {
    const place = isShared(batch) ? this.place(codec) : null;
    if (!place) return null;
    const job: Job = { kind: 'seal', key: key.raw, batch: batchForJob(batch), salt: salt.slice() };
    return place.thread.do(job);
  }

  finish(codec: RowCodec, index: number, end: number): Promise<Uint8Array[]> | null {
    // A group that has had no other work for a thread is not worth starting one.
    const place = this.places.size > 0 ? this.place(codec) : null;
    if (!place) return null;
    const { geometry, sealKeys } = this.group;
    const { parity, mac } = sealKeys;
    const { thread, row } = place;
    return thread.do({ kind: 'finish', row, geometry, sealKeys: { parity, mac }, index, end });
  }

  close(): void {
    for (const { thread, row } of this.places.values()) {
      thread.do({ kind: 'forget', row }).catch(() => undefined);
    }
    this.places.clear();
  }

  private place(codec: RowCodec): Place | null {
    const known = this.places.get(codec);
    if (known) return known.thread.takesWork() ? known : null;
    const thread = this.owner.nextThread();
    if (!thread) return null;
    const place = { thread, row: this.owner.nextRow() };
    thread.do({ kind: 'row', row: place.row, shared: codec.shared }).catch(() => undefined);
    this.places.set(codec, place);
    return place;
  }
}

/** Jobs that go to a thread in one message: those of one turn of the event loop. */
interface Letter {
  readonly jobs: Job[];
  readonly answer: Promise<Answer>;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (reason: ChunkvolError) => void;
}

/** What a thread allocates is gone with each letter: it would take 48 MiB before it looks for garbage. */
const THREAD_LIMITS = { maxYoungGenerationSizeMb: 4 };

/** How long the end of the program waits for a thread. */
const MAX_WAIT_MS = 2000;

/** Threads that the end of the program waits for. */
const living = new Set<WorkThread>();

function awaitThreads(): void {
  for (const thread of living) thread.awaitRest();
}

class WorkThread {
  private worker: Worker | null = null;
  /** Counted up by the thread: 1 when it is ready, and 1 for each letter. */
  private readonly progress = new Int32Array(new SharedArrayBuffer(4));
  private letters = 0;
  private over: Promise<void> = Promise.resolve();
  private state: 'idle' | 'starting' | 'ready' | 'gone' = 'idle';
  private writing: Letter | null = null;
  /** Sent, and not answered yet; answers come in the same order. */
  private readonly sent: Letter[] = [];

  constructor(
    private readonly engine: EngineName,
    private readonly script: URL,
  ) {}

  /** The first who asks starts it, and is told no. */
  takesWork(): boolean {
    if (this.state === 'idle') this.start();
    return this.state === 'ready';
  }

  async do(job: Job): Promise<JobResult> {
    const letter = (this.writing ??= this.newLetter());
    const index = letter.jobs.push(job) - 1;
    const { results, failure } = await letter.answer;
    if (index < results.length) return results[index]!;
    throw threadError(failure ?? 'it gave no answer');
  }

  async stop(): Promise<void> {
    this.worker?.postMessage('end');
    await this.over;
  }

  /** Blocks until the thread does nothing but wait. */
  awaitRest(): void {
    const wanted = 1 + this.letters;
    const endMs = systemClock.monotonic() + MAX_WAIT_MS;
    for (;;) {
      const seen = Atomics.load(this.progress, 0);
      const leftMs = endMs - systemClock.monotonic();
      if (seen === wanted || leftMs <= 0) return;
      Atomics.wait(this.progress, 0, seen, leftMs);
    }
  }

  private start(): void {
    this.state = 'starting';
    try {
      const workerData: ThreadData = { engine: this.engine, progress: this.progress };
      // Without execArgv it would inherit loaders and flags meant for the main thread.
      const options = { execArgv: [], workerData, resourceLimits: THREAD_LIMITS };
      this.worker = new Worker(this.script, options);
    } catch {
      this.state = 'gone';
      return;
    }
    if (living.size === 0) process.once('exit', awaitThreads);
    living.add(this);
    const { worker } = this;
    this.over = new Promise((resolve) => {
      worker.once('exit', () => {
        resolve();
      });
    });
    this.worker.on('message', (message: 'ready' | Answer) => {
      if (message === 'ready') this.state = 'ready';
      else this.receive(message);
    });
    this.worker.once('error', (error) => {
      this.end(errorMessage(error));
    });
    this.worker.once('exit', (status) => {
      this.end(`it ended with status ${status}`);
    });
    this.worker.unref();
  }

  private newLetter(): Letter {
    let resolve!: Letter['resolve'];
    let reject!: Letter['reject'];
    const answer = new Promise<Answer>((...settle) => ([resolve, reject] = settle));
    queueMicrotask(() => {
      this.post();
    });
    return { jobs: [], answer, resolve, reject };
  }

  private post(): void {
    const letter = this.writing!;
    this.writing = null;
    if (this.state !== 'ready') {
      letter.reject(threadError('it is not there any more'));
      return;
    }
    // Who waits for an answer must not find the process at its end.
    if (this.sent.length === 0) this.worker!.ref();
    this.sent.push(letter);
    this.letters++;
    this.worker!.postMessage(letter.jobs);
  }

  private receive(answer: Answer): void {
    this.sent.shift()!.resolve(answer);
    if (this.sent.length === 0) this.worker!.unref();
  }

  private end(reason: string): void {
    this.state = 'gone';
    living.delete(this);
    if (living.size === 0) process.off('exit', awaitThreads);
    for (const letter of this.sent.splice(0)) letter.reject(threadError(reason));
  }
}

function threadError(reason: string): ChunkvolError {
  return new ChunkvolError('internal', `a thread for encryption failed: ${reason}`);
}

/** What is not shared would be copied on its way, and its copy changed. */
function isShared({ plain, slots }: SlotBatch): boolean {
  return plain.buffer instanceof SharedArrayBuffer && slots.buffer instanceof SharedArrayBuffer;
}
