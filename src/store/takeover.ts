/**
 * Sealing in another's stead: a group whose writer is gone is cut at its last whole commit and sealed
 * under a seal id of its own.
 *
 * Parity and MACs are made anew from the data units, in files of their own: the parity that the writer
 * left may belong to what is now cut away, and its keystream must not be used for other bytes. Data
 * units are not moved. Until the first file bears its final name, all of this can be done again.
 */
import { settleAll } from '../base/async.js';
import type { OpenFile } from '../base/files.js';
import { RowCodec } from '../erasure/row-codec.js';
import { memberBytes, rowCount, unitLength, unitStart } from '../erasure/stripe.js';
import type { ChunkHeader } from '../format/chunk-header.js';
import { ChunkvolError } from '../base/errors.js';
import { sealHeader } from './chunk-meta.js';
import { chunkFolder, type StoreContext } from './context.js';
import {
  groupLabel,
  memberPaths,
  NEW_SUFFIX,
  OPEN_SUFFIX,
  setSealId,
  type Group,
} from './group.js';
import { finishRow } from './parity.js';
import { cutOff, isDecided, sealFiles, type SealPlan } from './seal.js';

/** Seals `group`, whose data members are at `group.paths`. `header` is the header of any member. */
export async function sealTakenOver(
  context: StoreContext,
  group: Group,
  header: ChunkHeader,
  plan: Omit<SealPlan, 'root' | 'full'>,
): Promise<void> {
  const before = [...group.paths];
  const earlierSealId = group.sealId;
  setSealId(context, group, context.random.bytes(16));
  const files: OpenFile[] = [];
  try {
    const paths = await openMembers(context, group, header, files);
    const macs = await makeParity(context, group, files, plan.end);
    await trimData(group, files, plan.end);
    await sealFiles(context, group, files, paths, macs, { ...plan, root: null, full: false });
  } catch (error) {
    // Once a member bears its final name the seal stands, and the next recovery finishes it.
    if (!isDecided(group)) {
      await removeParity(context, group, group.sealId, NEW_SUFFIX).catch(() => undefined);
      setSealId(context, group, earlierSealId);
      group.paths = before;
    }
    throw error;
  } finally {
    await Promise.all(files.map((file) => file.close().catch(() => undefined)));
  }
  await removeAbandoned(context, group, header);
}

/** Removes the parity files that the first writer left, once others stand in their stead. */
export async function removeAbandoned(
  context: StoreContext,
  group: Group,
  header: ChunkHeader,
): Promise<void> {
  await removeParity(context, group, header.sealId, OPEN_SUFFIX);
  await context.files.syncFolder(chunkFolder(context));
}

async function removeParity(
  context: StoreContext,
  group: Group,
  sealId: Uint8Array,
  suffix: string,
): Promise<void> {
  const paths = memberPaths(context, group.id, sealId, group.geometry, suffix);
  for (const path of paths.slice(group.geometry.data)) await context.files.remove(path);
}

/** Data members as they are; parity members as new files. Returns their present paths. */
async function openMembers(
  context: StoreContext,
  group: Group,
  header: ChunkHeader,
  files: OpenFile[],
): Promise<string[]> {
  const { data } = group.geometry;
  const fresh = memberPaths(context, group.id, group.sealId, group.geometry, NEW_SUFFIX);
  const paths = fresh.map((path, place) => (place < data ? group.paths[place]! : path));
  for (const [place, path] of paths.entries()) {
    // A data file may be missing that never held more than its header.
    const exists = place < data && (await context.files.stat(path)) !== null;
    const file = await context.files.open(path, exists ? 'update' : 'create');
    files.push(file);
    // A data member's header is written again too: the same bytes, should they have been damaged.
    await file.write(sealHeader(context.keys.maintenance, { ...header, place }), 0);
  }
  return paths;
}

/** Reads all data units up to `end`, writes the parity, and returns every unit's MAC by member. */
async function makeParity(
  context: StoreContext,
  group: Group,
  files: readonly OpenFile[],
  end: number,
): Promise<Uint8Array[][]> {
  const { data, parity, unitBytes } = group.geometry;
  const codec = await RowCodec.create(data, parity, unitBytes);
  const macs: Uint8Array[][] = files.map(() => []);
  for (let row = 0; row < rowCount(group.geometry, end); row++) {
    codec.data.fill(0);
    for (let place = 0; place < data; place++) {
      const length = unitLength(group.geometry, end, place, row);
      const unit = codec.unit(place).subarray(0, length);
      const got = await files[place]!.read(unit, row * unitBytes);
      if (got < length) throw tooShort(group, files[place]!);
    }
    const rowMacs = finishRow(context.engine, group, codec, row, end);
    rowMacs.forEach((mac, place) => macs[place]!.push(mac));
    const start = unitStart(row);
    const length = unitLength(group.geometry, end, data, row);
    await settleAll(
      files.slice(data).map((file, index) => {
        return file.write(
          codec.unit(data + index).subarray(start, length),
          row * unitBytes + start,
        );
      }),
    );
  }
  return macs;
}

async function trimData(group: Group, files: readonly OpenFile[], end: number): Promise<void> {
  for (let place = 0; place < group.geometry.data; place++) {
    await cutOff(files[place]!, memberBytes(group.geometry, end, place));
  }
}

function tooShort(group: Group, file: OpenFile): ChunkvolError {
  return new ChunkvolError(
    'damaged',
    `${file.path} of ${groupLabel(group)} is shorter than its log`,
  );
}
