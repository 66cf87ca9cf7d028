/** Sealing the group of a writer of this process; one that cannot be sealed is cut where it ends. */
import { errorMessage } from '../base/errors.js';
import type { LogPoint } from '../format/root.js';
import type { GroupWriter } from '../store/group-writer.js';
import { groupLabel } from '../store/group.js';
import type { OpenFiles } from '../store/open-files.js';
import { sealWriter, type SealPlan } from '../store/seal.js';
import type { LogEndParts } from './log-end.js';

/**
 * Returns null, or why the group is not sealed: then it is cut, at the point in the log if it is one of the
 * log's, and waits to be sealed again.
 */
export async function sealOrCut(
  { context, cutGroups, onNotice }: LogEndParts,
  openFiles: OpenFiles,
  writer: GroupWriter,
  plan: SealPlan,
  point: LogPoint | null,
): Promise<unknown> {
  const { group } = writer;
  const before = [...group.paths];
  let failure: unknown = null;
  try {
    await sealWriter(context, writer, plan);
  } catch (error) {
    failure = error;
    group.state = 'cut';
    group.end = plan.end;
    cutGroups.add(group, point);
    await writer.close();
    onNotice(`${groupLabel(group)} could not be sealed: ${errorMessage(error)}`);
  }
  for (const path of before) openFiles.forget(path);
  return failure;
}
