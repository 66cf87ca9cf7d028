/**
 * The workloads, run by fio's own NBD client over a Unix socket, so that the load is the same for all.
 *
 * Rates include the flush at the end where the name says so: fio counts it into the run time.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface Workload {
  readonly name: string;
  readonly unit: 'MB/s' | 'k/s';
  readonly direction: 'read' | 'write';
  readonly words: readonly string[];
  /** How much is read or written: this share of the disk, or as much as goes through in this time. */
  readonly amount: { readonly share: number } | { readonly seconds: number };
}

/** In the order of a round; the first fills the disk. 1 MB/s is 1e6 bytes, 1 k/s 1000 operations a second. */
export const workloads: readonly Workload[] = [
  {
    name: 'seq write 1M qd8 + flush',
    unit: 'MB/s',
    direction: 'write',
    words: ['--rw=write', '--bs=1M', '--iodepth=8', '--end_fsync=1'],
    amount: { share: 1 },
  },
  {
    name: 'seq read 1M qd8',
    unit: 'MB/s',
    direction: 'read',
    words: ['--rw=read', '--bs=1M', '--iodepth=8'],
    amount: { share: 1 },
  },
  {
    name: 'randread 4K qd16',
    unit: 'k/s',
    direction: 'read',
    words: ['--rw=randread', '--bs=4k', '--iodepth=16'],
    amount: { seconds: 5 },
  },
  {
    name: 'randwrite 4K qd16 + end flush',
    unit: 'k/s',
    direction: 'write',
    words: ['--rw=randwrite', '--bs=4k', '--iodepth=16', '--end_fsync=1'],
    amount: { share: 1 / 8 },
  },
  {
    name: 'randwrite 4K qd16, flush every 32',
    unit: 'k/s',
    direction: 'write',
    words: ['--rw=randwrite', '--bs=4k', '--iodepth=16', '--fsync=32', '--end_fsync=1'],
    amount: { share: 1 / 32 },
  },
  {
    name: 'write + flush 4K qd1',
    unit: 'k/s',
    direction: 'write',
    words: ['--rw=randwrite', '--bs=4k', '--iodepth=1', '--fsync=1'],
    amount: { share: 1 / 64 },
  },
];

export interface FioOptions {
  readonly uri: string;
  readonly sizeBytes: number;
  /** The same for all servers of a round, so that they see the same sequence of offsets. */
  readonly seed: number;
  /** One second in place of a workload's seconds. */
  readonly quick: boolean;
  /** A folder for fio's report. */
  readonly folder: string;
}

/** Runs one workload against one server and returns its rate, in the workload's unit. */
export async function runFio(workload: Workload, options: FioOptions): Promise<number> {
  const report = join(options.folder, 'fio.json');
  await promisify(execFile)(
    'fio',
    [
      ...['--name=bench', '--ioengine=nbd', `--uri=${options.uri}`, `--size=${options.sizeBytes}`],
      ...[`--randseed=${options.seed}`, '--output-format=json', `--output=${report}`],
      ...amountWords(workload, options),
      ...workload.words,
    ],
    // fio leaves state files where it runs.
    { cwd: options.folder, timeout: 30 * 60_000 },
  );
  const [job] = (JSON.parse(await readFile(report, 'utf8')) as FioReport).jobs;
  if (!job || job.error !== 0) throw new Error(`fio failed: ${workload.name} on ${options.uri}`);
  const { bw_bytes: bytesPerSecond, iops, io_bytes: movedBytes } = job[workload.direction];
  if (movedBytes === 0) throw new Error(`fio moved nothing: ${workload.name} on ${options.uri}`);
  return workload.unit === 'MB/s' ? bytesPerSecond / 1e6 : iops / 1e3;
}

interface FioReport {
  readonly jobs: readonly ({ readonly error: number } & Record<'read' | 'write', FioRates>)[];
}

interface FioRates {
  readonly bw_bytes: number;
  readonly iops: number;
  readonly io_bytes: number;
}

function amountWords({ amount }: Workload, { sizeBytes, quick }: FioOptions): string[] {
  if ('share' in amount) return [`--io_size=${Math.floor(sizeBytes * amount.share)}`];
  return ['--time_based', `--runtime=${quick ? 1 : amount.seconds}`];
}
