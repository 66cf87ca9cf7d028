/**
 * What lies in chunks/: every file by its name, and the groups that headers tell of.
 *
 * Headers are read only of files that are not known by name already.
 */
import { toHex } from '../base/bytes.js';
import { tellsDamage } from '../base/errors.js';
import type { OpenFile } from '../base/files.js';
import type { ChunkHeader } from '../format/chunk-header.js';
import type { FooterBody, Manifest } from '../format/footer.js';
import { sha256 } from '../format/root.js';
import { readFooter, readHeader } from './chunk-meta.js';
import { chunkFolder, NAME_PATTERN, type StoreContext } from './context.js';
import { memberName, NEW_SUFFIX, OPEN_SUFFIX } from './group.js';

export interface FoundFile {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  /** By its suffix: a final name, an open group's file, or one that does not count yet. */
  readonly stage: 'final' | 'open' | 'new';
  readonly header: ChunkHeader;
}

export interface FoundGroup {
  readonly id: Uint8Array;
  /** Of any member: they differ in the place alone. */
  readonly header: ChunkHeader;
  readonly files: readonly FoundFile[];
  /** From the footer of a member under its final name; null when none has one. */
  readonly manifest: Manifest | null;
  readonly manifestDigest: Uint8Array | null;
}

export interface Catalog {
  readonly groups: Map<string, FoundGroup>;
  /** Files that are not this volume's, or whose header is damaged. */
  readonly foreign: readonly string[];
  /** Files whose header the disk does not give. */
  readonly unreadable: readonly string[];
}

/** Reads the headers of all chunk files but those named in `known`. */
export async function readCatalog(
  context: StoreContext,
  known: ReadonlySet<string>,
): Promise<Catalog> {
  const byGroup = new Map<string, FoundFile[]>();
  const foreign: string[] = [];
  const unreadable: string[] = [];
  for (const entry of await context.files.list(chunkFolder(context))) {
    const { name, stage } = parseName(entry);
    if (stage === 'final' && known.has(name)) continue;
    const found = stage && (await readFound(context, entry, name, stage));
    if (!found || found === 'unreadable') {
      (found ? unreadable : foreign).push(entry);
      continue;
    }
    const id = toHex(found.header.groupId);
    byGroup.set(id, [...(byGroup.get(id) ?? []), found]);
  }
  const groups = new Map<string, FoundGroup>();
  for (const [id, files] of byGroup) {
    const header = files[0]!.header;
    groups.set(id, { id: header.groupId, header, files, ...(await anyManifest(context, files)) });
  }
  return { groups, foreign, unreadable };
}

function parseName(entry: string): { name: string; stage: FoundFile['stage'] | null } {
  const name = entry.slice(0, 32);
  const suffix = entry.slice(32);
  if (!NAME_PATTERN.test(name)) return { name, stage: null };
  if (suffix === '') return { name, stage: 'final' };
  if (suffix === OPEN_SUFFIX) return { name, stage: 'open' };
  return { name, stage: suffix === NEW_SUFFIX ? 'new' : null };
}

async function readFound(
  context: StoreContext,
  entry: string,
  name: string,
  stage: FoundFile['stage'],
): Promise<FoundFile | null | 'unreadable'> {
  const path = `${chunkFolder(context)}/${entry}`;
  return withFile(context, path, 'unreadable', async (file) => {
    const header = await readHeader(context.keys.maintenance, file);
    return header && { name, path, stage, header, bytes: await file.size() };
  });
}

/** The manifest of the group, from the first final file whose footer opens. */
async function anyManifest(
  context: StoreContext,
  files: readonly FoundFile[],
): Promise<Pick<FoundGroup, 'manifest' | 'manifestDigest'>> {
  for (const found of files) {
    if (found.stage !== 'final') continue;
    const footer = await footerAt(context, found.path, found.name);
    const { groupId, place } = found.header;
    if (footer && memberName(context, groupId, footer.manifest.sealId, place) === found.name) {
      return { manifest: footer.manifest, manifestDigest: sha256(footer.manifestBytes) };
    }
  }
  return { manifest: null, manifestDigest: null };
}

/** The footer of the file at `path`, which has, or will have, the final name `name`. */
export async function footerAt(
  context: StoreContext,
  path: string,
  name: string,
): Promise<FooterBody | null> {
  return withFile(context, path, null, async (file) => {
    return readFooter(context.keys.maintenance, file, name, await file.size());
  });
}

/** Runs `work` on a file open for reading; `damaged` where the disk does not give it. */
async function withFile<T, D>(
  context: StoreContext,
  path: string,
  damaged: D,
  work: (file: OpenFile) => Promise<T>,
): Promise<T | D> {
  let file: OpenFile | null = null;
  try {
    file = await context.files.open(path, 'read');
    return await work(file);
  } catch (error) {
    if (tellsDamage(error)) return damaged;
    throw error;
  } finally {
    await file?.close().catch(() => undefined);
  }
}
