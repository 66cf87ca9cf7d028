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

export interface CommitEntry {
  readonly kind: number;
  readonly level: number;
  readonly count: number;
  readonly number: number;
  /** Of a move. */
  readonly old: readonly Entry[];
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
    if (kind > 4) {
      const record = new Fields(fields.take(count));
      entries.push({ kind, level, count: 0, number, old: [], head: parseHead(kind, record) });
      continue;
    }
    const old: Entry[] = [];
    for (let i = 0; kind === 4 && i < count; i++) {
      old.push({ ordinal: fields.u32(), position: fields.u32() });
    }
    entries.push({ kind, level, count, number, old, head: null });
  }
  const slots = entries.reduce((sum, { kind, count }) => sum + (kind === 2 ? 0 : count), 0);
  if (slots !== slotCount) throw new Damaged('entries and slots that do not agree');
  return entries;
}

function parseHead(kind: number, record: Fields): Head | null {
  if (kind !== 7) return null;
  const size = record.u64();
  record.u64();
  return { size, map: { depth: record.u8(), ordinal: record.u32(), position: record.u32() } };
}
