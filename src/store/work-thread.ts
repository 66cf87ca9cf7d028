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

const runner = new JobRunner(engineByName((workerData as { engine: EngineName }).engine));

parentPort!.on('message', (letter: readonly Job[]) => {
  parentPort!.postMessage(answer(letter));
});
parentPort!.postMessage('ready');

function answer(letter: readonly Job[]): Answer {
  const results: JobResult[] = [];
  try {
    for (const job of letter) results.push(runner.run(job));
    return { results, failure: null };
  } catch (error) {
    return { results, failure: errorMessage(error) };
  }
}
