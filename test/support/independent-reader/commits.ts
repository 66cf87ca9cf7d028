/** Section 8 of docs/format.md: headers and bodies of commits. */
import { Damaged, Fields, within } from './fields.js';

/** Where a slot stands, as the map says it (9.1). */
export interface Entry {
  readonly ordinal: number;
  readonly position: number;
}

export interface CommitHeader {
  readonly sequence: number;
  readonly previousChain: Buffer;
  readonly bodyBytes: number;
  readonly slotCount: number;
  readonly rootBytes: number;
}

/** Throws Damaged, as parseCommitBody does. */
export function parseCommitHeader(plain: Buffer): CommitHeader {
  const fields = new Fields(plain);
  fields.start('CVCO');
  fields.zero(2);
  const sequence = fields.u64();
  const previousChain = fields.take(32);
  fields.take(16);
  const [bodyBytes, slotCount, rootBytes] = [fields.u32(), fields.u32(), fields.u32()];
  fields.end();
  if (bodyBytes > 32768) throw new Damaged('a body that is too long');
  return { sequence, previousChain, bodyBytes, slotCount, rootBytes };
}

/** What changes the disk as a whole; of a snapshot only its existence matters here. */
export interface Head {
  readonly size: number;
  readonly map: { readonly depth: number; readonly ordinal: number; readonly position: number };
}

/** Blocks that stand elsewhere if they stood where it says. */
export interface Move {
  readonly groupId: Buffer;
  readonly ordinal: number;
  /** As far as the group has to reach. */
  readonly end: number;
  readonly blocks: readonly {
    readonly number: number;
    readonly old: Entry;
    readonly position: number;
  }[];
}

export interface CommitEntry {
  readonly kind: number;
  readonly level: number;
  readonly count: number;
  readonly number: number;
  readonly move: Move | null;
  /** Of a head entry. */
  readonly head: Head | null;
}

export function parseCommitBody(plain: Buffer, slotCount: number): CommitEntry[] {
  const fields = new Fields(plain);
  const entries: CommitEntry[] = [];
  while (fields.more) {
    const kind = fields.u8();
    const level = fields.u8();
    const count = fields.u48();
    const number = fields.u64();
    if (!within(kind, 1, 7) || count === 0) throw new Damaged('an impossible entry');
    const entry = { kind, level, count, number, move: null, head: null };
    if (kind > 4) {
      const record = new Fields(fields.take(count));
      entries.push({ ...entry, count: 0, head: parseHead(kind, record) });
    } else if (kind === 4) {
      entries.push({ ...entry, count: 0, move: parseMove(fields, number, count) });
    } else {
      entries.push(entry);
    }
  }
  const slots = entries.reduce((sum, { kind, count }) => sum + (kind === 2 ? 0 : count), 0);
  if (slots !== slotCount) throw new Damaged('entries and slots that do not agree');
  return entries;
}

function parseMove(fields: Fields, end: number, count: number): Move {
  const [groupId, ordinal] = [fields.take(16), fields.u32()];
  fields.zero(4);
  const blocks = Array.from({ length: count }, () => {
    const [number, old] = [fields.u64(), { ordinal: fields.u32(), position: fields.u32() }];
    const position = fields.u32();
    fields.zero(4);
    return { number, old, position };
  });
  const inOrder = blocks.every(({ number }, i) => i === 0 || number >= blocks[i - 1]!.number);
  if (end % 4096 !== 0 || !inOrder) throw new Damaged('an impossible move');
  return { groupId, ordinal, end, blocks };
}

function parseHead(kind: number, record: Fields): Head | null {
  if (kind !== 7) return null;
  const size = record.u64();
  record.u64();
  return { size, map: { depth: record.u8(), ordinal: record.u32(), position: record.u32() } };
}
