/** `chunkvol snapshot`: the group of verbs, one file each in snapshot/. */
import type { Command } from 'commander';
import { addSnapshotCreate } from './snapshot/create.js';
import { addSnapshotDelete } from './snapshot/delete.js';
import { addSnapshotDiff } from './snapshot/diff.js';
import { addSnapshotList } from './snapshot/list.js';
import { addSnapshotPrune } from './snapshot/prune.js';
import { addSnapshotRollback } from './snapshot/rollback.js';

export function addSnapshot(program: Command): void {
  const snapshot = program
    .command('snapshot')
    .summary('keep states of the disk, and go back to them')
    .description(
      'Snapshots: the disk as it was at a moment, kept for as long as wanted. Making one copies ' +
        'nothing. Each is also an NBD export, "@" and its name, read-only: see attach --snapshot. All ' +
        'of it works while the volume is attached.',
    )
    .addHelpText('after', '\nExample:\n  chunkvol -C backup snapshot create before-upgrade');
  addSnapshotCreate(snapshot);
  addSnapshotList(snapshot);
  addSnapshotDelete(snapshot);
  addSnapshotRollback(snapshot);
  addSnapshotDiff(snapshot);
  addSnapshotPrune(snapshot);
}
