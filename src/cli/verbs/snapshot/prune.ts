/** `chunkvol snapshot prune`: deletes the snapshots that a policy does not keep. */
import type { Command } from 'commander';
import { ChunkvolError } from '../../../base/errors.js';
import type { SnapshotInfo } from '../../../volume/snapshots.js';
import { withVolume, type Call } from '../../access.js';
import { print, remark, type GlobalOptions } from '../../options.js';
import { addCredentialOptions, type CredentialSources } from '../../passphrase.js';
import { parseAge, parseCount } from '../../prune-arguments.js';
import { choosePruned, isEmptyPolicy, type Choice, type PrunePolicy } from '../../prune-policy.js';
import { formatBytes } from '../../size.js';
import { localTime } from '../../snapshot-text.js';
import { existingVolume } from '../../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly keepLast?: string;
  readonly keepHourly?: string;
  readonly keepDaily?: string;
  readonly keepWeekly?: string;
  readonly keepMonthly?: string;
  readonly keepYearly?: string;
  readonly keepWithin?: string;
  readonly dryRun?: boolean;
}

export function addSnapshotPrune(snapshot: Command): void {
  const command = snapshot
    .command('prune')
    .summary('delete the snapshots that a policy does not keep')
    .description(
      "Deletes all snapshots but those that one of the options keeps, as restic's forget does: N " +
        'counts the hours (days, ...) that have a snapshot at all, and of each the newest is kept; in ' +
        'local time, weeks from Monday on. A rule that has not found N keeps the oldest as well. N may ' +
        'be "unlimited". Without any of these options nothing is deleted (status 2).',
    )
    .option('--keep-last <n>', 'keep the newest n')
    .option('--keep-hourly <n>', 'keep one for each of the last n hours that have one')
    .option('--keep-daily <n>', 'keep one for each of the last n days that have one')
    .option('--keep-weekly <n>', 'keep one for each of the last n weeks that have one')
    .option('--keep-monthly <n>', 'keep one for each of the last n months that have one')
    .option('--keep-yearly <n>', 'keep one for each of the last n years that have one')
    .option('--keep-within <age>', 'keep what is this much older than the newest: 30d, 1y5m7d2h')
    .option('--dry-run', 'say what would be deleted, and delete nothing');
  addCredentialOptions(command)
    .addHelpText(
      'after',
      '\nExample:\n  chunkvol -C backup snapshot prune --keep-daily 7 --keep-weekly 5 --keep-within 2d',
    )
    .action(() => runPrune(command.optsWithGlobals()));
}

async function runPrune(options: Options): Promise<void> {
  const policy = parsePolicy(options);
  const folder = existingVolume(options.volume);
  await withVolume(folder, options, (call) => prune(call, policy, options));
}

function parsePolicy(options: Options): PrunePolicy {
  const policy: PrunePolicy = {
    last: parseCount(options.keepLast, '--keep-last'),
    hourly: parseCount(options.keepHourly, '--keep-hourly'),
    daily: parseCount(options.keepDaily, '--keep-daily'),
    weekly: parseCount(options.keepWeekly, '--keep-weekly'),
    monthly: parseCount(options.keepMonthly, '--keep-monthly'),
    yearly: parseCount(options.keepYearly, '--keep-yearly'),
    within: parseAge(options.keepWithin, '--keep-within'),
  };
  if (!isEmptyPolicy(policy)) return policy;
  throw new ChunkvolError(
    'usage',
    'that would keep no snapshot at all; say which ones to keep, as in --keep-daily 7',
  );
}

async function prune(call: Call, policy: PrunePolicy, options: Options): Promise<void> {
  const all = (await call('list-snapshots')) as SnapshotInfo[];
  const choice = choosePruned(all, policy, Date.now());
  const names = choice.remove.map(({ name }) => name);
  if (options.dryRun) {
    const freedBytes = (await call('measure-deletion', { names })) as number | null;
    describeChoice(choice).forEach(print);
    const freed = freedBytes === null ? 'unknown' : formatBytes(freedBytes);
    print(`would delete ${names.length} of ${all.length}, which frees ${freed}`);
    return;
  }
  if (names.length > 0) await call('delete-snapshots', { names });
  for (const line of describeChoice(choice)) remark(options, line);
  remark(options, `deleted ${names.length} of ${all.length}`);
}

function describeChoice({ keep, remove }: Choice<SnapshotInfo>): string[] {
  return [
    ...keep.map(({ snapshot, reasons }) => `keep    ${line(snapshot)}  (${reasons.join(', ')})`),
    ...remove.map((snapshot) => `delete  ${line(snapshot)}`),
  ];
}

function line(snapshot: SnapshotInfo): string {
  return `${localTime(snapshot)}  ${snapshot.name}`;
}
