/** What scrub and repair tell the user, and the status they end with. */
import { ChunkvolError } from '../base/errors.js';
import { ToldFailure } from './exit.js';
import type { RepairOutcome, ScrubOutcome } from './mending.js';
import { print, remark, type GlobalOptions } from './options.js';
import { count, formatBytes } from './size.js';

/** Damaged, and nothing done about it. */
const FAILED_STATUS = 1;
const LOST_STATUS = 4;

/** Throws ToldFailure: status 1 for damage that repair can mend, 4 for more; 'flushed-data-missing' as below. */
export function reportScrub(options: GlobalOptions, outcome: ScrubOutcome): void {
  outcome.damages.forEach(print);
  if (outcome.damages.length === 0) {
    remark(options, `${checked(outcome)}: all good`);
    return;
  }
  for (const label of outcome.hopeless) print(`${label}: damaged beyond what parity can replace`);
  const files = count(outcome.damagedFiles, 'file');
  print(`${checked(outcome)}: ${count(outcome.damages.length, 'fault')} in ${files}`);
  const hopeless = outcome.hopeless.length > 0;
  print(hopeless ? 'try chunkvol repair --from REMOTE' : 'chunkvol repair mends them');
  if (outcome.shut !== null) throw new ChunkvolError('flushed-data-missing', outcome.shut);
  throw new ToldFailure(hopeless ? LOST_STATUS : FAILED_STATUS);
}

/**
 * Throws ToldFailure: status 4 when contents of the disk are lost, 1 when something is left to mend; and
 * 'flushed-data-missing' where the volume does not open all the same.
 */
export function reportRepair(options: GlobalOptions, outcome: RepairOutcome): void {
  const { lost, unrepaired, shut } = outcome;
  const mended = whatWasMended(outcome);
  for (const line of mended) remark(options, line);
  outcome.notes.forEach(print);
  for (const line of unrepaired) print(`not repaired: ${line}`);
  for (const { offset, bytes } of lost)
    print(`lost: bytes ${offset} to ${offset + bytes} of the disk`);
  if (shut !== null) throw new ChunkvolError('flushed-data-missing', shut);
  if (lost.length > 0) throw new ToldFailure(LOST_STATUS);
  if (unrepaired.length > 0) throw new ToldFailure(FAILED_STATUS);
  remark(options, `${checked(outcome)}: all ${mended.length === 0 ? 'was good' : 'is good again'}`);
}

function whatWasMended(outcome: RepairOutcome): string[] {
  return [
    ...(outcome.restoredKeyFile ? ['put the key file back'] : []),
    ...outcome.restoredRoots.map((name) => `put back roots/${name}`),
    ...outcome.fetchedFiles.map((name) => `fetched chunks/${name}`),
    ...outcome.rebuiltFiles.map((path) => `rebuilt ${path}`),
    ...outcome.mendedFiles.map((path) => `mended ${path}`),
  ];
}

function checked({ checkedGroups, checkedBytes, skippedGroups }: ScrubOutcome): string {
  const skipped = skippedGroups === 0 ? '' : ` (${skippedGroups} not sealed yet left out)`;
  return `checked ${count(checkedGroups, 'group')}, ${formatBytes(checkedBytes)}${skipped}`;
}
