/** Where a thread that takes work starts; work-threads.ts is the other end. */
import { parentPort, workerData } from 'node:worker_threads';
import { errorMessage } from '../base/errors.js';
import type { EngineName } from '../crypto/engine.js';
import { engineByName } from '../crypto/engines.js';
import { JobRunner, type Job, type JobResult } from './work.js';

/** What came of the jobs of one letter, in their order, up to the first that failed. */
export interface Answer {
  readonly results: readonly JobResult[];
  readonly failure: string | null;
}

export interface ThreadData {
  readonly engine: EngineName;
  /** One number: how far the thread has come, counted by `step`. */
  readonly progress: Int32Array;
}

const { engine, progress } = workerData as ThreadData;
const runner = new JobRunner(engineByName(engine));

/** The end of the program waits until nothing is under way here. */
function step(): void {
  Atomics.add(progress, 0, 1);
  Atomics.notify(progress, 0);
}

parentPort!.on('message', (letter: readonly Job[] | 'end') => {
  if (letter === 'end') {
    parentPort!.close();
  } else {
    parentPort!.postMessage(answer(letter));
    step();
  }
});
parentPort!.postMessage('ready');
step();

function answer(letter: readonly Job[]): Answer {
  const results: JobResult[] = [];
  try {
    for (const job of letter) results.push(runner.run(job));
    return { results, failure: null };
  } catch (error) {
    return { results, failure: errorMessage(error) };
  }
}
