/** Sections 2, 10 and 12 of docs/format.md: what a folder holds. */
import * as fs from 'node:fs';
import { parseFooter, parseHeader, type Header, type Manifest } from './chunks.js';
import { attempt, sha256 } from './fields.js';
import { place } from './geometry.js';
import { Group, readRange, ROOT_PIECE } from './group.js';
import type { Keys } from './keys.js';
import { parseRoot, type Root } from './roots.js';

export function namesIn(folder: string): string[] {
  if (!fs.existsSync(folder)) return [];
  return fs.readdirSync(folder).filter((name) => /^[0-9a-f]{32}$/.test(name));
}

/** A group that headers in chunks/ tell of. */
export interface Found {
  readonly header: Header;
  /** By place. */
  readonly files: Map<number, { readonly path: string; readonly suffix: string }>;
  manifest: Manifest | null;
}

export function surveyChunks(folder: string, keys: Keys): Map<string, Found> {
  const groups = new Map<string, Found>();
  for (const entry of fs.readdirSync(`${folder}/chunks`)) {
    const [, name, suffix] = /^([0-9a-f]{32})(|\.open|\.new)$/.exec(entry) ?? [];
    if (name === undefined || suffix === undefined) continue;
    const path = `${folder}/chunks/${entry}`;
    const head = readRange(path, 0, 512);
    const header = head && attempt(() => parseHeader(keys, head));
    if (!header) continue;
    const id = header.groupId.toString('hex');
    const found: Found = groups.get(id) ?? { header, files: new Map(), manifest: null };
    groups.set(id, found);
    const other = found.files.get(header.place);
    if (!other || rank(suffix) < rank(other.suffix))
      found.files.set(header.place, { path, suffix });
    if (suffix === '') found.manifest ??= manifestOf(keys, header, name, path);
  }
  return groups;
}

const rank = (suffix: string): number => ['', '.open', '.new'].indexOf(suffix);

function manifestOf(keys: Keys, header: Header, name: string, path: string): Manifest | null {
  const manifest = attempt(() => parseFooter(keys, name, fs.readFileSync(path)))?.manifest;
  if (!manifest) return null;
  const expected = keys.fileName('chunk', header.groupId, manifest.sealId, Buffer.of(header.place));
  return expected === name ? manifest : null;
}

export function readRoots(folder: string, keys: Keys): Root[] {
  return namesIn(`${folder}/roots`).flatMap((name) => {
    const file = fs.readFileSync(`${folder}/roots/${name}`);
    const root = attempt(() => parseRoot(keys, file));
    return root && keys.fileName('root', root.session, sha256(file)) === name ? [root] : [];
  });
}

/** Roots out of sealed groups (10). */
export function replicas(folder: string, keys: Keys, found: Map<string, Found>): Root[] {
  return [...found.values()].flatMap(({ manifest }) => {
    if (!manifest || manifest.root.bytes === 0) return [];
    const { groupId, ordinal, geometry, sealId, end, root } = manifest;
    const members = Array.from({ length: geometry.data + geometry.parity }, (_, member) => {
      return `${folder}/chunks/${keys.fileName('chunk', groupId, sealId, Buffer.of(member))}`;
    });
    const group = new Group(keys, groupId, ordinal, geometry, true, sealId, end, members);
    const pieces: Buffer[] = [];
    let at = root.address;
    for (const [index, bytes] of rootPieces(root.bytes).entries()) {
      at = place(geometry, at, bytes + 24);
      const piece = group.read(at, bytes, ROOT_PIECE(index));
      if (!piece) return [];
      pieces.push(piece.plain);
      at += bytes + 24;
    }
    const file = Buffer.concat(pieces).subarray(0, root.bytes);
    return attempt(() => parseRoot(keys, file)) ?? [];
  });
}

/** Plaintext bytes of each piece of a root of so many bytes. */
export function rootPieces(rootBytes: number): number[] {
  const count = Math.ceil(rootBytes / 16384);
  return Array.from({ length: count }, (_, i) =>
    Math.min(16384, Math.ceil((rootBytes - i * 16384) / 8) * 8),
  );
}
