/**
 * The birth of a group: its files appear all together, or do not count.
 *
 * All files are made under `.new` names with their headers and made durable, then renamed to `.open`.
 * So a file called `.open` proves that every member of its group existed: one that is missing later is
 * a loss, not the trace of a crash. Groups of which all files are `.new` never held anything.
 */
import { settleAll } from '../base/async.js';
import type { OpenFile } from '../base/files.js';
import { memberCount, type Geometry } from '../base/geometry.js';
import type { ChunkHeader, Predecessor } from '../format/chunk-header.js';
import { sealHeader } from './chunk-meta.js';
import { chunkFolder, type StoreContext } from './context.js';
import { GroupWriter } from './group-writer.js';
import { makeGroup, memberPaths, NEW_SUFFIX, OPEN_SUFFIX, type Group } from './group.js';
import type { RowCodecs } from './row-codecs.js';

export interface BirthPlan {
  readonly ordinal: number;
  readonly geometry: Geometry;
  readonly session: Uint8Array;
  readonly predecessor: Predecessor;
  readonly firstSequence: number;
  readonly durableUpTo: number;
  readonly survived: number;
  readonly bornAfter?: number;
}

/** `codecs`: of the same geometry. */
export async function createGroup(
  context: StoreContext,
  plan: BirthPlan,
  codecs: RowCodecs,
): Promise<GroupWriter> {
  const group = makeGroup(context, {
    ordinal: plan.ordinal,
    id: context.random.bytes(16),
    sealId: context.random.bytes(16),
    geometry: plan.geometry,
    survived: plan.survived,
    bornAfter: plan.bornAfter ?? 0,
    state: 'open',
    end: 0,
  });
  const created = memberPaths(context, group.id, group.sealId, plan.geometry, NEW_SUFFIX);
  const files: OpenFile[] = [];
  try {
    await createFiles(context, group, plan, created, files);
    return new GroupWriter(context, group, files, codecs);
  } catch (error) {
    await Promise.all(files.map((file) => file.close().catch(() => undefined)));
    await disposeGroup(context, group.paths).catch(() => undefined);
    throw error;
  }
}

async function createFiles(
  context: StoreContext,
  group: Group,
  plan: BirthPlan,
  paths: readonly string[],
  files: OpenFile[],
): Promise<void> {
  const createdMs = context.clock.now();
  for (let member = 0; member < memberCount(plan.geometry); member++) {
    files.push(await context.files.open(paths[member]!, 'create'));
    const header = headerOf(context, group, plan, member, createdMs);
    await files[member]!.write(sealHeader(context.keys.maintenance, header), 0);
  }
  await settleAll(files.map((file) => file.sync()));
  await context.files.syncFolder(chunkFolder(context));
  for (const [member, path] of paths.entries()) {
    await context.files.rename(path, group.paths[member]!);
  }
  await context.files.syncFolder(chunkFolder(context));
}

function headerOf(
  context: StoreContext,
  group: Group,
  plan: BirthPlan,
  member: number,
  createdMs: number,
): ChunkHeader {
  return {
    volumeId: context.volumeId,
    groupId: group.id,
    ordinal: group.ordinal,
    place: member,
    geometry: group.geometry,
    sealId: group.sealId,
    session: plan.session,
    createdMs,
    predecessor: plan.predecessor,
    firstSequence: plan.firstSequence,
    durableUpTo: plan.durableUpTo,
    survived: plan.survived,
  };
}

/**
 * Removes a group that holds nothing, its files under `.open` or `.new` names: back to `.new` first, so
 * that a crash in between leaves what never counted, not a group with missing files.
 */
export async function disposeGroup(context: StoreContext, paths: readonly string[]): Promise<void> {
  const { files } = context;
  const unborn = paths.map((path) =>
    path.endsWith(OPEN_SUFFIX) ? path.slice(0, -OPEN_SUFFIX.length) + NEW_SUFFIX : path,
  );
  for (const [index, path] of paths.entries()) {
    if (path !== unborn[index] && (await files.stat(path))) {
      await files.rename(path, unborn[index]!);
    }
  }
  await files.syncFolder(chunkFolder(context));
  for (const path of unborn) await files.remove(path);
  await files.syncFolder(chunkFolder(context));
}
