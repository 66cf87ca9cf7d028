/**
 * The seal: footers, fdatasync of all members, renames, fsync of the folder. From the first member
 * that bears its final name on the seal is decided, and a crash in between is finished, never redone
 * differently (see finish-seals.ts).
 */
import { settleAll } from '../base/async.js';
import { MIB } from '../base/bytes.js';
import { memberCount } from '../base/geometry.js';
import type { OpenFile } from '../base/files.js';
import { memberBytes, rowCount } from '../erasure/stripe.js';
import { encodeManifest, footerBytes, type RootReplica } from '../format/footer.js';
import { sha256 } from '../format/root.js';
import { sealFooter } from './chunk-meta.js';
import { chunkFolder, type StoreContext } from './context.js';
import type { GroupWriter } from './group-writer.js';
import { memberName, memberPaths, NEW_SUFFIX, OPEN_SUFFIX, type Group } from './group.js';
import { memberDigest, parityCounter } from './parity.js';

export interface SealPlan {
  readonly end: number;
  readonly firstSequence: number;
  /** Sequence number of the commit after the last. */
  readonly endSequence: number;
  readonly chain: Uint8Array;
  readonly root: RootReplica | null;
  /** Bring every file to the chunk size. */
  readonly full: boolean;
}

/** Seals the group of a writer that has laid out its last commit; the writer is closed after. */
export async function sealWriter(
  context: StoreContext,
  writer: GroupWriter,
  plan: SealPlan,
): Promise<void> {
  writer.finish();
  await writer.writeAll();
  await sealFiles(context, writer.group, writer.files, [...writer.group.paths], writer.macs, plan);
  await writer.close();
}

/**
 * Seals a group whose units are all in `files`, each of exactly its length, under the group's present
 * seal id. `paths` are the files' present names, `macs` the unit MACs of each member.
 */
export async function sealFiles(
  context: StoreContext,
  group: Group,
  files: readonly OpenFile[],
  paths: readonly string[],
  macs: readonly (readonly Uint8Array[])[],
  plan: SealPlan,
): Promise<void> {
  const manifest = encodeManifest({
    volumeId: context.volumeId,
    groupId: group.id,
    sealId: group.sealId,
    ordinal: group.ordinal,
    geometry: group.geometry,
    ...plan,
    digests: macs.map(memberDigest),
  });
  await settleAll(
    files.map((file, place) => writeEnd(context, group, file, place, manifest, macs[place]!, plan)),
  );
  await settleAll(files.map((file) => file.sync()));
  group.end = plan.end;
  group.manifestDigest = sha256(manifest);
  group.paths = [...paths];
  try {
    await takeFinalNames(context, group);
  } catch (error) {
    if (!isDecided(group)) group.manifestDigest = null;
    throw error;
  }
}

/** Whether a member bears its final name: the seal stands, and is only to be finished. */
export function isDecided(group: Group): boolean {
  return group.paths.some((path) => !path.endsWith(OPEN_SUFFIX) && !path.endsWith(NEW_SUFFIX));
}

/** The last step of a seal, which can be repeated: every footer is durable. */
export async function takeFinalNames(context: StoreContext, group: Group): Promise<void> {
  const final = memberPaths(context, group.id, group.sealId, group.geometry, '');
  for (const [place, path] of final.entries()) {
    if (group.paths[place] !== path) await context.files.rename(group.paths[place]!, path);
    group.paths[place] = path;
  }
  await context.files.syncFolder(chunkFolder(context));
  group.state = 'sealed';
  group.parityRows = rowCount(group.geometry, group.end);
}

/** Bytes of a member's file once sealed. */
export function sealedBytes(
  group: Pick<Group, 'geometry'>,
  plan: Pick<SealPlan, 'end' | 'full'>,
  place: number,
): number {
  if (plan.full) return group.geometry.chunkBytes;
  const rows = rowCount(group.geometry, plan.end);
  return memberBytes(group.geometry, plan.end, place) + footerBytes(group.geometry, rows);
}

/** The sizes that a sealed member's file can have: short or full, for all that a root says of it. */
export function plausibleSizes(group: Pick<Group, 'geometry' | 'end'>, place: number): number[] {
  return [false, true].map((full) => sealedBytes(group, { end: group.end, full }, place));
}

export function plausibleSize(
  group: Pick<Group, 'geometry' | 'end'>,
  place: number,
  bytes: number,
): boolean {
  return plausibleSizes(group, place).includes(bytes);
}

/**
 * Everything behind the last unit of one member: fill, when the file is to be full, and the footer. What
 * its writer wrote in advance is overwritten, or cut off.
 */
export async function writeEnd(
  context: StoreContext,
  group: Group,
  file: OpenFile,
  place: number,
  manifest: Uint8Array,
  macs: readonly Uint8Array[],
  plan: Pick<SealPlan, 'end' | 'full'>,
): Promise<void> {
  const name = memberName(context, group.id, group.sealId, place);
  const fileBytes = sealedBytes(group, plan, place);
  const footer = sealFooter(context.keys.maintenance, name, manifest, macs, fileBytes);
  const from = memberBytes(group.geometry, plan.end, place);
  const footerAt = fileBytes - footer.length;
  await writeFill(context, group, file, place, from, footerAt);
  await file.write(footer, footerAt);
  await cutOff(file, fileBytes);
}

/** Takes away what a file has behind so many bytes, if anything. */
export async function cutOff(file: OpenFile, bytes: number): Promise<void> {
  if ((await file.size()) > bytes) await file.truncate(bytes);
}

/** Keystream of the seal's fill key: the stream of this place, from its start. */
async function writeFill(
  context: StoreContext,
  group: Group,
  file: OpenFile,
  place: number,
  from: number,
  to: number,
): Promise<void> {
  for (let at = from; at < to; at += MIB) {
    const bytes = new Uint8Array(Math.min(MIB, to - at));
    context.engine.ctr(group.sealKeys.fill, parityCounter(place, 0), bytes, at - from);
    await file.write(bytes, at);
  }
}

export function allPlaces(group: Pick<Group, 'geometry'>): number[] {
  return Array.from({ length: memberCount(group.geometry) }, (_, place) => place);
}
