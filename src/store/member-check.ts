/**
 * Verifying the chunk files of a sealed group: every byte of a member against its group's manifest.
 *
 * - Which manifest counts: the one whose digest the group knows; where it knows none, the one that most
 *   members carry. A footer with any other is damaged.
 * - A unit is sound when its MAC is the one in the member's list. The list comes from the footer; where
 *   that is damaged, the MACs of the units as they are count when the manifest's digest vouches for them.
 * - What cannot be read is damaged; it never stops the check.
 */
import { equalBytes, isZero, MIB, toHex } from '../base/bytes.js';
import { ChunkvolError, tellsDamage } from '../base/errors.js';
import type { OpenFile } from '../base/files.js';
import { HEADER_BYTES, type Geometry } from '../base/geometry.js';
import { memberBytes, rowCount, unitLength, unitStart } from '../erasure/stripe.js';
import type { ChunkHeader } from '../format/chunk-header.js';
import { footerBytes, type FooterBody, type Manifest } from '../format/footer.js';
import { sha256 } from '../format/root.js';
import { isHeaderOf, readFooter, readHeader } from './chunk-meta.js';
import type { StoreContext } from './context.js';
import { memberName, type Group } from './group.js';
import { memberDigest, parityCounter, unitMac } from './parity.js';
import { plausibleSizes, sealedBytes } from './seal.js';

/** A manifest that counts, and its own bytes. */
export interface GroupManifest {
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
}

/** `file`: missing. `size`: cut short, or bytes behind the end. `units`: one or more, side by side. */
export type DamagedPart = 'file' | 'size' | 'header' | 'units' | 'fill' | 'footer';

export interface Damage {
  readonly part: DamagedPart;
  /** Range of bytes in the file. */
  readonly from: number;
  readonly to: number;
}

export interface MemberCheck {
  readonly place: number;
  /** The final name, and where the file was looked for. */
  readonly name: string;
  readonly path: string;
  readonly exists: boolean;
  /** Bytes that the file should have. */
  readonly expectedBytes: number;
  /** Empty when every byte is right. */
  readonly damages: readonly Damage[];
  /** null where it is damaged, or that of another file. */
  readonly header: ChunkHeader | null;
  /** The MACs that this member's units must have, row by row; null when nothing vouches for a list. */
  readonly macs: readonly Uint8Array[] | null;
  /** The MACs of the units as they are; null where a unit cannot be read. */
  readonly found: readonly (Uint8Array | null)[];
}

export interface CheckOptions {
  /** Where the file is, when it is not at the group's own path. */
  readonly path?: string;
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes of each unit that has been looked at. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** The manifest of a sealed group, from the footers of its members; null when none can be trusted. */
export async function readGroupManifest(
  context: StoreContext,
  group: Group,
): Promise<GroupManifest | null> {
  const votes = new Map<string, { readonly manifest: GroupManifest; count: number }>();
  for (const [place, path] of group.paths.entries()) {
    const manifest = await readManifestAt(context, group, place, path);
    if (!manifest) continue;
    if (group.manifestDigest) return manifest;
    const digest = toHex(sha256(manifest.bytes));
    const vote = votes.get(digest) ?? { manifest, count: 0 };
    vote.count++;
    votes.set(digest, vote);
  }
  const [most] = [...votes.values()].sort((a, b) => b.count - a.count);
  return most?.manifest ?? null;
}

/** The manifest in the file at `path`, when it is of this group, and the one that the group knows if any. */
export async function readManifestAt(
  context: StoreContext,
  group: Group,
  place: number,
  path: string,
): Promise<GroupManifest | null> {
  const footer = await withFile(context, path, (file) => {
    return readFooterOf(context, group, place, file);
  });
  if (!footer || !isManifestOf(context, group, footer.manifest)) return null;
  const bytes = footer.manifestBytes;
  const digest = group.manifestDigest;
  if (digest && !equalBytes(sha256(bytes), digest)) return null;
  return { manifest: footer.manifest, bytes };
}

/** Reads the whole file of one member, a unit at a time. Throws 'interrupted' when the signal says so. */
export async function checkMember(
  context: StoreContext,
  group: Group,
  place: number,
  manifest: GroupManifest,
  options: CheckOptions = {},
): Promise<MemberCheck> {
  const path = options.path ?? group.paths[place]!;
  const checker = new MemberChecker(context, group, place, path, manifest, options);
  return (await withFile(context, path, (file) => checker.check(file))) ?? checker.missing();
}

/** Whether header and footer of every member of a group are right: of what lies between they tell nothing. */
export async function hasSoundEnds(context: StoreContext, group: Group): Promise<boolean> {
  for (const [place, path] of group.paths.entries()) {
    const header = await withFile(context, path, (file) => {
      return orNull(readHeader(context.keys.maintenance, file));
    });
    if (!isHeaderOf(header, group, place)) return false;
    if (!(await readManifestAt(context, group, place, path))) return false;
  }
  return true;
}

/** Whether the unit of a member needs no file: nothing is in it. */
export function isEmptyUnit(geometry: Geometry, end: number, place: number, row: number): boolean {
  return unitLength(geometry, end, place, row) <= unitStart(row);
}

class MemberChecker {
  private readonly damages: Damage[] = [];
  private readonly name: string;
  private readonly rows: number;
  private readonly end: number;
  private readonly expectedBytes: number;
  private readonly footerAt: number;

  constructor(
    private readonly context: StoreContext,
    private readonly group: Group,
    private readonly place: number,
    private readonly path: string,
    private readonly trusted: GroupManifest,
    private readonly options: CheckOptions,
  ) {
    const { manifest } = trusted;
    this.name = memberName(context, group.id, group.sealId, place);
    this.end = manifest.end;
    this.rows = rowCount(group.geometry, this.end);
    this.expectedBytes = sealedBytes(group, manifest, place);
    this.footerAt = this.expectedBytes - footerBytes(group.geometry, this.rows);
  }

  async check(file: OpenFile): Promise<MemberCheck> {
    const fileBytes = await file.size();
    const header = await this.checkHeader(file);
    const found = await this.readUnits(file);
    const footer = await this.checkFooter(file);
    if (!footer) this.damages.push({ part: 'footer', from: this.footerAt, to: this.expectedBytes });
    const macs = footer?.macs ?? this.vouchedFor(found);
    this.compareUnits(macs, found);
    if (this.trusted.manifest.full) await this.checkFill(file);
    if (fileBytes !== this.expectedBytes) {
      const [from, to] = [fileBytes, this.expectedBytes].sort((a, b) => a - b);
      this.damages.push({ part: 'size', from: from!, to: to! });
    }
    return this.result(true, header, macs, found);
  }

  missing(): MemberCheck {
    const { geometry } = this.group;
    this.options.onBytes?.(memberBytes(geometry, this.end, this.place));
    const damage: Damage = { part: 'file', from: 0, to: this.expectedBytes };
    const found = Array.from({ length: this.rows }, () => null);
    return { ...this.result(false, null, null, found), damages: [damage] };
  }

  private result(
    exists: boolean,
    header: ChunkHeader | null,
    macs: readonly Uint8Array[] | null,
    found: readonly (Uint8Array | null)[],
  ): MemberCheck {
    const { place, name, path, expectedBytes } = this;
    const damages = this.damages.sort((a, b) => a.from - b.from);
    return { place, name, path, exists, expectedBytes, damages, header, macs, found };
  }

  private async checkHeader(file: OpenFile): Promise<ChunkHeader | null> {
    const header = await orNull(readHeader(this.context.keys.maintenance, file));
    if (isHeaderOf(header, this.group, this.place)) return header;
    this.damages.push({ part: 'header', from: 0, to: HEADER_BYTES });
    return null;
  }

  /** The MAC of every unit as it is. */
  private async readUnits(file: OpenFile): Promise<(Uint8Array | null)[]> {
    const { geometry } = this.group;
    const buffer = Buffer.allocUnsafeSlow(geometry.unitBytes);
    const found: (Uint8Array | null)[] = [];
    for (let row = 0; row < this.rows; row++) {
      throwIfStopped(this.options.signal);
      const unit = buffer.subarray(0, unitLength(geometry, this.end, this.place, row));
      const got = await orNull(file.read(unit, row * geometry.unitBytes));
      const whole = got === unit.length || isEmptyUnit(geometry, this.end, this.place, row);
      found.push(whole ? unitMac(this.context.engine, this.group, this.place, row, unit) : null);
      this.options.onBytes?.(unit.length);
    }
    return found;
  }

  private async checkFooter(file: OpenFile): Promise<FooterBody | null> {
    const footer = await readFooterOf(this.context, this.group, this.place, file);
    if (!footer || !equalBytes(footer.manifestBytes, this.trusted.bytes)) return null;
    return this.isMacList(footer.macs) ? footer : null;
  }

  /** The units as they are, when they are all right: then it is the footer alone that is not. */
  private vouchedFor(found: readonly (Uint8Array | null)[]): readonly Uint8Array[] | null {
    const macs = found.filter((mac) => mac !== null);
    return this.isMacList(macs) ? macs : null;
  }

  private isMacList(macs: readonly Uint8Array[]): boolean {
    return isMacListOf(this.trusted.manifest, this.place, macs);
  }

  private compareUnits(
    macs: readonly Uint8Array[] | null,
    found: readonly (Uint8Array | null)[],
  ): void {
    const { geometry } = this.group;
    const runs: { from: number; to: number }[] = [];
    for (let row = 0; row < this.rows; row++) {
      if (isEmptyUnit(geometry, this.end, this.place, row) || isSoundUnit(macs, found, row))
        continue;
      const from = row * geometry.unitBytes + unitStart(row);
      const to = row * geometry.unitBytes + unitLength(geometry, this.end, this.place, row);
      const last = runs.at(-1);
      if (last?.to === from) last.to = to;
      else runs.push({ from, to });
    }
    this.damages.push(...runs.map((run) => ({ part: 'units' as const, ...run })));
  }

  private async checkFill(file: OpenFile): Promise<void> {
    const { engine } = this.context;
    const start = memberBytes(this.group.geometry, this.end, this.place);
    for (let at = start; at < this.footerAt; at += MIB) {
      throwIfStopped(this.options.signal);
      const bytes = new Uint8Array(Math.min(MIB, this.footerAt - at));
      const got = await orNull(file.read(bytes, at));
      engine.ctr(this.group.sealKeys.fill, parityCounter(this.place, 0), bytes, at - start);
      if (got === bytes.length && isZero(bytes)) continue;
      this.damages.push({ part: 'fill', from: start, to: this.footerAt });
      return;
    }
  }
}

/** Whether the manifest vouches for these MACs as those of the member's units. */
export function isMacListOf(
  manifest: Manifest,
  place: number,
  macs: readonly Uint8Array[],
): boolean {
  return (
    macs.length === rowCount(manifest.geometry, manifest.end) &&
    equalBytes(memberDigest(macs), manifest.digests[place]!)
  );
}

/** Whether a unit's MAC, as found, is the one it must have. */
export function isSoundUnit(
  macs: readonly Uint8Array[] | null,
  found: readonly (Uint8Array | null)[],
  row: number,
): boolean {
  const [wanted, got] = [macs?.[row], found[row]];
  return !!wanted && !!got && equalBytes(wanted, got);
}

export function throwIfStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new ChunkvolError('interrupted', 'stopped; what was finished stays, run it again');
  }
}

function isManifestOf(context: StoreContext, group: Group, manifest: Manifest): boolean {
  const { data, parity, unitBytes, chunkBytes } = group.geometry;
  const other = manifest.geometry;
  return (
    equalBytes(manifest.volumeId, context.volumeId) &&
    equalBytes(manifest.groupId, group.id) &&
    equalBytes(manifest.sealId, group.sealId) &&
    other.data === data &&
    other.parity === parity &&
    other.unitBytes === unitBytes &&
    other.chunkBytes === chunkBytes
  );
}

/** At the end of the file or, when bytes have come to stand behind that, where it should be. */
async function readFooterOf(
  context: StoreContext,
  group: Group,
  place: number,
  file: OpenFile,
): Promise<FooterBody | null> {
  const name = memberName(context, group.id, group.sealId, place);
  const fileBytes = await file.size();
  const proper = plausibleSizes(group, place).filter((bytes) => bytes < fileBytes);
  for (const end of [fileBytes, ...proper]) {
    const footer = await orNull(readFooter(context.keys.maintenance, file, name, end));
    if (footer) return footer;
  }
  return null;
}

/** null where the file cannot be opened. */
async function withFile<T>(
  context: StoreContext,
  path: string,
  work: (file: OpenFile) => Promise<T>,
): Promise<T | null> {
  const file = await orNull(context.files.open(path, 'read'));
  if (!file) return null;
  try {
    return await work(file);
  } finally {
    await file.close().catch(() => undefined);
  }
}

/** null for what the disk cannot give: damage, as far as a check is concerned. */
async function orNull<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    if (tellsDamage(error)) return null;
    throw error;
  }
}
