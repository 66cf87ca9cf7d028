/**
 * Reading the log: the commits of a group, one after the other, each verified whole.
 *
 * In a group that is not sealed a commit ends the log when any of it is not what it must be: its header
 * (or what stands there in its stead), its body, a single slot, a piece of its root, or the padding in
 * between. What is accepted is in the files to the last byte, as whoever seals the group relies on.
 */
import { equalBytes, isZero } from '../base/bytes.js';
import { SECTOR_BYTES, type Geometry } from '../base/geometry.js';
import { SLOT_OVERHEAD_BYTES, type SlotKey } from '../crypto/engine.js';
import {
  commitEnd,
  locate,
  memberBytes,
  piecesInUnit,
  place,
  rowBytes,
} from '../erasure/stripe.js';
import {
  COMMIT_HEADER_PLAIN_BYTES,
  decodeCommitBody,
  decodeCommitHeader,
  isSlotEntry,
  nodeSlotKind,
  SLOT_KIND,
  type CommitEntry,
  type CommitHeader,
} from '../format/commit.js';
import { maxRows } from '../format/footer.js';
import { NODE_BYTES } from '../format/map-node.js';
import { sha256, type LogPoint } from '../format/root.js';
import { decodeOrNull } from '../store/chunk-meta.js';
import type { StoreContext } from '../store/context.js';
import type { Group } from '../store/group.js';
import type { SlotReader } from '../store/slot-reader.js';
import { announcedPieces, COMMIT_HEADER_BYTES } from './log.js';

export interface ReadCommit {
  readonly header: CommitHeader;
  readonly entries: readonly CommitEntry[];
  /** Positions of the block slots, in the order of the entries. */
  readonly positions: Uint32Array;
  /** The log's end behind this commit. */
  readonly end: LogPoint;
}

/** Slots of one kind in one stripe unit, one right behind the other. */
interface Neighbours {
  readonly address: number;
  readonly plainBytes: number;
  readonly kind: number;
  readonly numbers: number[];
}

export class CommitReader {
  constructor(
    private readonly context: StoreContext,
    private readonly slots: SlotReader,
    private readonly blockBytes: number,
  ) {}

  /** The commit at `point` in `group`; null when there is no whole one that continues the chain. */
  async read(group: Group, point: LogPoint): Promise<ReadCommit | null> {
    const capacity = maxRows(group.geometry) * rowBytes(group.geometry);
    const headerAt = place(group.geometry, point.address, COMMIT_HEADER_BYTES);
    const sealedHeader = await this.record(group, headerAt, COMMIT_HEADER_PLAIN_BYTES, 'header', 0);
    const header = sealedHeader && decodeOrNull(() => decodeCommitHeader(sealedHeader.plain));
    if (!header || header.sequence !== point.sequence) return null;
    if (!equalBytes(header.previousChain, point.chain)) return null;
    // Before anything is allocated for them: so many slots as no group can hold.
    if (header.slotCount * Math.min(NODE_BYTES, this.blockBytes) > capacity) return null;
    const body = await this.body(group, headerAt + COMMIT_HEADER_BYTES, header);
    if (!body) return null;
    const verified = await this.verifySlots(group, body.next, header, body.entries, capacity);
    if (!verified) return null;
    const end: LogPoint = {
      ordinal: group.ordinal,
      address: verified.end,
      sequence: point.sequence + 1,
      chain: sha256(point.chain, sealedHeader.sealed, body.sealed),
      durableUpTo: Math.max(point.durableUpTo, header.durableUpTo),
    };
    return { header, entries: body.entries, positions: verified.positions, end };
  }

  /** Whether blocks stand whole in a group at these positions. */
  async holds(group: Group, blocks: Float64Array, positions: Uint32Array): Promise<boolean> {
    const { blockBytes: plainBytes } = this;
    for (let at = 0; at < blocks.length;) {
      const run = {
        address: positions[at]! * 8,
        plainBytes,
        kind: SLOT_KIND.block,
        numbers: [] as number[],
      };
      do run.numbers.push(blocks[at++]!);
      while (at < blocks.length && continues(run, positions[at]! * 8, group.geometry));
      if (!(await this.opens(group, group.keys.slot, run))) return false;
    }
    return true;
  }

  /**
   * Looks for commit headers behind `point`, where the chain has ended: the highest `durableUpTo` that
   * any of them knew of. That tells a torn end, which nobody was promised, from lost writes.
   */
  async durableBeyond(group: Group, point: LogPoint): Promise<number> {
    const ends = await this.dataEnds(group);
    let highest = 0;
    for (let sector = commitEnd(point.address); sector < ends; sector += SECTOR_BYTES) {
      const at = place(group.geometry, sector, COMMIT_HEADER_BYTES);
      const record = await this.record(group, at, COMMIT_HEADER_PLAIN_BYTES, 'header', 0);
      const header = record && decodeOrNull(() => decodeCommitHeader(record.plain));
      if (header) highest = Math.max(highest, header.durableUpTo);
    }
    return highest;
  }

  /** An address behind everything that the group's files hold. */
  private async dataEnds(group: Group): Promise<number> {
    const { geometry } = group;
    let end = 0;
    for (let member = 0; member < geometry.data; member++) {
      const bytes =
        (await this.slots.openFiles.use(group.paths[member]!, (file) => file.size())) ?? 0;
      const row = Math.floor(Math.max(bytes - 1, 0) / geometry.unitBytes);
      const unitStart = (row * geometry.data + member) * geometry.unitBytes;
      if (bytes > memberBytes(geometry, 0, member)) {
        end = Math.max(end, unitStart + (bytes - row * geometry.unitBytes));
      }
    }
    return end;
  }

  private async body(
    group: Group,
    after: number,
    header: CommitHeader,
  ): Promise<{ entries: CommitEntry[]; sealed: Uint8Array; next: number } | null> {
    if (header.bodyBytes === 0) {
      return header.slotCount === 0
        ? { entries: [], sealed: new Uint8Array(0), next: after }
        : null;
    }
    const at = place(group.geometry, after, header.bodyBytes + SLOT_OVERHEAD_BYTES);
    if (!(await this.isPadded(group, after, at))) return null;
    const record = await this.record(group, at, header.bodyBytes, 'body', header.sequence);
    if (!record) return null;
    const entries = decodeOrNull(() => decodeCommitBody(record.plain, header.slotCount));
    return entries && { entries, sealed: record.sealed, next: at + record.sealed.length };
  }

  /** A header or body: its plaintext, and its stored bytes for the chain. */
  private async record(
    group: Group,
    address: number,
    plainBytes: number,
    what: 'header' | 'body',
    number: number,
  ): Promise<{ plain: Uint8Array; sealed: Uint8Array } | null> {
    const kind = what === 'header' ? SLOT_KIND.commitHeader : SLOT_KIND.commitBody;
    return this.slots.readRecord(group, group.keys.record, address, plainBytes, kind, number);
  }

  /** Opens every slot of the commit; null when one fails. */
  private async verifySlots(
    group: Group,
    after: number,
    header: CommitHeader,
    entries: readonly CommitEntry[],
    capacity: number,
  ): Promise<{ positions: Uint32Array; end: number } | null> {
    const positions = new Uint32Array(header.slotCount);
    let at = after;
    let done = 0;
    // Blocks from here and there stand side by side: they are read at once, and not one by one.
    let run = null as Neighbours | null;
    for (const entry of entries) {
      if (!isSlotEntry(entry)) continue;
      const kind = entry.kind === 'node' ? nodeSlotKind(entry.level) : SLOT_KIND.block;
      const plainBytes = entry.kind === 'node' ? NODE_BYTES : this.blockBytes;
      const slotBytes = plainBytes + SLOT_OVERHEAD_BYTES;
      for (let left = entry.count; left > 0;) {
        const padded = at;
        at = place(group.geometry, at, slotBytes);
        if (at + slotBytes > capacity || !(await this.isPadded(group, padded, at))) return null;
        const count = Math.min(left, piecesInUnit(group.geometry, at, slotBytes));
        if (run?.kind !== kind || !continues(run, at, group.geometry)) {
          if (run && !(await this.opens(group, group.keys.slot, run))) return null;
          run = { address: at, plainBytes, kind, numbers: [] };
        }
        const first = entry.number + entry.count - left;
        for (let i = 0; i < count; i++) {
          run.numbers.push(first + i);
          positions[done++] = (at + i * slotBytes) / 8;
        }
        at += count * slotBytes;
        left -= count;
      }
    }
    if (run && !(await this.opens(group, group.keys.slot, run))) return null;
    const end = await this.verifyRoot(group, at, header, capacity);
    return end === null ? null : { positions, end };
  }

  /** Whether slots of a group that is not sealed open. What was sealed was whole: damage is parity's affair. */
  private async opens(group: Group, key: SlotKey, slots: Neighbours): Promise<boolean> {
    if (group.state === 'sealed') return true;
    const { address, plainBytes, kind, numbers } = slots;
    const count = numbers.length;
    const failed = await this.slots.readOrFail({
      group,
      key,
      address,
      count,
      plainBytes,
      kind,
      numbers: Float64Array.from(numbers),
      plain: new Uint8Array(count * plainBytes),
      plainAt: Uint32Array.from({ length: count }, (_, i) => i * plainBytes),
    });
    return failed.every((flag) => flag === 0);
  }

  /** Where the commit ends, behind the root's pieces and the padding; null when they are not there. */
  private async verifyRoot(
    group: Group,
    after: number,
    header: CommitHeader,
    capacity: number,
  ): Promise<number | null> {
    const pieces = announcedPieces({ bodyBytes: 0, slotCount: 0, rootBytes: header.rootBytes }, 0);
    let at = after;
    for (const [index, { bytes }] of pieces.slice(1).entries()) {
      const padded = at;
      at = place(group.geometry, at, bytes);
      if (at + bytes > capacity || !(await this.isPadded(group, padded, at))) return null;
      const plainBytes = bytes - SLOT_OVERHEAD_BYTES;
      const piece = { address: at, plainBytes, kind: SLOT_KIND.root, numbers: [index] };
      if (!(await this.opens(group, group.keys.rootReplica, piece))) return null;
      at += bytes;
    }
    const end = commitEnd(at);
    return end <= capacity && (await this.isPadded(group, at, end)) ? end : null;
  }

  /** Whether the padding between two addresses of a group that is not sealed is there. */
  private async isPadded(group: Group, from: number, to: number): Promise<boolean> {
    if (group.state === 'sealed') return true;
    const { geometry, keys } = group;
    for (let at = from; at < to;) {
      const start = place(geometry, at, 1);
      const unitEnd = (Math.floor(at / geometry.unitBytes) + 1) * geometry.unitBytes;
      const padding = new Uint8Array(Math.max(0, Math.min(to, unitEnd) - start));
      const { member, offset } = locate(geometry, start);
      if (!(await this.slots.members.read(group, member, offset, padding))) return false;
      this.context.engine.ctr(keys.pad, new Uint8Array(16), padding, start);
      if (!isZero(padding)) return false;
      at = unitEnd;
    }
    return true;
  }
}

/** Whether a slot at `at` stands right behind the others, in the same stripe unit. */
function continues(run: Neighbours, at: number, geometry: Geometry): boolean {
  const { address, plainBytes, numbers } = run;
  const slotBytes = plainBytes + SLOT_OVERHEAD_BYTES;
  if (at !== address + numbers.length * slotBytes) return false;
  return numbers.length < piecesInUnit(geometry, address, slotBytes);
}
