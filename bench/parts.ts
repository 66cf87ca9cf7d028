/** The benchmarks beside that of the servers, in the order in which they run. */
import { run as runCodec } from './codec.js';
import { run as runCrypto } from './crypto.js';
import { run as runGarbage } from './garbage.js';
import { run as runMemory } from './memory.js';
import { run as runRebuild } from './rebuild.js';
import { run as runRecovery } from './recovery.js';
import type { PartResult } from './report.js';
import { run as runSync } from './sync.js';

export interface Part {
  /** As `--parts` takes it. */
  readonly name: string;
  /** Programs of others that it needs. */
  readonly programs: readonly string[];
  /** `folder` is where it makes its scratch folders. */
  run(options: { readonly quick: boolean; readonly folder: string }): Promise<PartResult>;
}

export const parts: readonly Part[] = [
  { name: 'codec', programs: [], run: runCodec },
  { name: 'crypto', programs: [], run: runCrypto },
  { name: 'garbage', programs: [], run: runGarbage },
  { name: 'rebuild', programs: ['par2'], run: runRebuild },
  { name: 'recovery', programs: [], run: runRecovery },
  { name: 'memory', programs: [], run: runMemory },
  { name: 'sync', programs: ['rsync'], run: runSync },
];
