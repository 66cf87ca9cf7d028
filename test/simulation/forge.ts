/**
 * Somebody who holds the keys and means harm: opens the records of a volume, and puts others in their
 * place whose every tag and MAC is right.
 *
 * A record is offered as its plaintext; `put` seals another plaintext just as the program would have, and
 * puts it where the record was found. What hangs on it is adjusted as far as the program would check it
 * first: the name of a root, the digest that binds its inner part, the nonce that a header derives.
 */
import { createHmac } from 'node:crypto';
import { fromHex } from '../../src/base/bytes.js';
import { HEADER_BYTES } from '../../src/base/geometry.js';
import { derive } from '../../src/crypto/derive.js';
import { chooseEngine } from '../../src/crypto/engines.js';
import { SLOT_OVERHEAD_BYTES, type SlotBatch, type SlotKey } from '../../src/crypto/engine.js';
import { openLong, openRecord, sealLong, sealRecord } from '../../src/crypto/sealing.js';
import { locate, place } from '../../src/erasure/stripe.js';
import {
  COMMIT_HEADER_PLAIN_BYTES,
  isSlotEntry,
  nodeSlotKind,
  SLOT_KIND,
} from '../../src/format/commit.js';
import { HEADER_ID_BYTES } from '../../src/format/chunk-header.js';
import { TRAILER_BYTES } from '../../src/format/footer.js';
import { KEY_FILE_MAC_BYTES } from '../../src/format/key-file.js';
import { NODE_BYTES } from '../../src/format/map-node.js';
import {
  ROOT_ENVELOPE_BYTES,
  ROOT_NONCE_BYTES,
  sha256,
  type LogPoint,
} from '../../src/format/root.js';
import type { StoreContext } from '../../src/store/context.js';
import type { Group } from '../../src/store/group.js';
import { OpenFiles } from '../../src/store/open-files.js';
import { openRoot, rootName } from '../../src/store/root-files.js';
import { SlotReader } from '../../src/store/slot-reader.js';
import { CommitReader, type ReadCommit } from '../../src/volume/commit-reader.js';
import { COMMIT_HEADER_BYTES } from '../../src/volume/log.js';
import type { Volume } from '../../src/volume/volume.js';
import type { SimulatedFiles } from './files.js';

/** One record, opened. */
export interface Forgeable {
  /** What it is and where, for messages. */
  readonly what: string;
  readonly plain: Uint8Array;
  put(plain: Uint8Array): void;
}

const TAG_BYTES = 16;
const SALT = Buffer.from('forged!!');

const aad = (text: string): Uint8Array => Buffer.from(text);

/** All records of what lies in the folder but for the log. The newest root's parts come last. */
export function outerRecords(context: StoreContext, files: SimulatedFiles): Forgeable[] {
  const generationOf = (path: string): number => {
    return openRoot(context.keys, files.peek(path)!)?.generation ?? 0;
  };
  const roots = files.paths(`${context.folder}/roots`);
  const byAge = roots.sort((a, b) => generationOf(a) - generationOf(b));
  const others = files.paths(context.folder).filter((path) => !roots.includes(path));
  return [...others, ...byAge].flatMap((path) => {
    const kind = path.slice(context.folder.length + 1).split('/')[0];
    if (kind === 'roots') return rootRecords(context, files, path);
    if (kind === 'keys') return [keyFileRecord(context, files, path)];
    if (kind !== 'chunks') return [];
    return [...headerRecord(context, files, path), ...footerRecords(context, files, path)];
  });
}

function rootRecords(context: StoreContext, files: SimulatedFiles, path: string): Forgeable[] {
  const bytes = files.peek(path)!;
  const { outerRoot } = context.keys.maintenance;
  const { innerRoot } = context.keys.data;
  const nonce = (part: number): Uint8Array => {
    const copy = bytes.slice(0, ROOT_NONCE_BYTES);
    copy[ROOT_NONCE_BYTES - 1] = part;
    return copy;
  };
  const outerAt = ROOT_NONCE_BYTES + ROOT_ENVELOPE_BYTES + TAG_BYTES;
  const envelope = openLong(
    outerRoot,
    nonce(0),
    bytes.subarray(ROOT_NONCE_BYTES, outerAt),
    aad('root envelope'),
  );
  if (!envelope) return [];
  const innerAt = outerAt + Buffer.from(envelope).readUInt32LE(8);
  const outer = openLong(outerRoot, nonce(1), bytes.subarray(outerAt, innerAt), aad('root outer'));
  const inner = openLong(innerRoot, nonce(2), bytes.subarray(innerAt), aad('root inner'));
  if (!outer || !inner) return [];
  const put = (newEnvelope: Uint8Array, newOuter: Uint8Array, newInner: Uint8Array): void => {
    const bound = newInner.slice();
    if (bound.length >= 40) bound.set(sha256(newOuter), 8);
    const forged = Buffer.concat([
      bytes.subarray(0, ROOT_NONCE_BYTES),
      sealLong(outerRoot, nonce(0), newEnvelope, aad('root envelope')),
      sealLong(outerRoot, nonce(1), newOuter, aad('root outer')),
      sealLong(innerRoot, nonce(2), bound, aad('root inner')),
    ]);
    const session = newOuter.subarray(24, 40);
    const name = rootName(context.keys.maintenance, session, forged);
    files.poke(path, null);
    files.poke(`${context.folder}/roots/${name}`, new Uint8Array(forged));
  };
  const lengths = (outerBytes: number, innerBytes: number): Uint8Array => {
    const changed = Buffer.from(envelope);
    changed.writeUInt32LE(outerBytes + TAG_BYTES, 8);
    changed.writeUInt32LE(innerBytes + TAG_BYTES, 12);
    return changed;
  };
  return [
    {
      what: `envelope of ${path}`,
      plain: envelope,
      put: (plain) => {
        put(plain, outer, inner);
      },
    },
    {
      what: `outer part of ${path}`,
      plain: outer,
      put: (plain) => {
        put(lengths(plain.length, inner.length), plain, inner);
      },
    },
    {
      what: `inner part of ${path}`,
      plain: inner,
      put: (plain) => {
        put(lengths(outer.length, plain.length), outer, plain);
      },
    },
  ];
}

function keyFileRecord(context: StoreContext, files: SimulatedFiles, path: string): Forgeable {
  const plain = files.peek(path)!.slice(0, -KEY_FILE_MAC_BYTES);
  const put = (body: Uint8Array): void => {
    const mac = createHmac('sha256', context.keys.data.keyFile).update(body).digest();
    files.poke(path, new Uint8Array(Buffer.concat([body, mac])));
  };
  return { what: `key file ${path}`, plain, put };
}

function headerRecord(context: StoreContext, files: SimulatedFiles, path: string): Forgeable[] {
  const bytes = files.peek(path)!;
  const { header, headerId } = context.keys.maintenance;
  const nonce = bytes.subarray(0, 12);
  const sealed = bytes.subarray(HEADER_ID_BYTES, HEADER_BYTES);
  const plain = openRecord(header, nonce, sealed, aad('chunk header'));
  if (!plain) return [];
  const put = (changed: Uint8Array): void => {
    const [groupId, at] = [changed.subarray(24, 40), changed.subarray(44, 45)];
    const id = derive(headerId, 'header id', groupId, at).subarray(0, HEADER_ID_BYTES);
    const whole = files.peek(path)!.slice();
    whole.set(id, 0);
    whole.set(
      sealRecord(header, id.subarray(0, 12), changed, aad('chunk header')),
      HEADER_ID_BYTES,
    );
    files.poke(path, whole);
  };
  return [{ what: `header of ${path}`, plain, put }];
}

function footerRecords(context: StoreContext, files: SimulatedFiles, path: string): Forgeable[] {
  const bytes = files.peek(path)!;
  const { footer, trailer } = context.keys.maintenance;
  const name = fromHex(path.slice(path.lastIndexOf('/') + 1));
  if (!name || bytes.length < TRAILER_BYTES) return [];
  const nonce = name.subarray(0, 12);
  const sealedTrailer = bytes.subarray(bytes.length - TRAILER_BYTES);
  const trailerPlain = openRecord(trailer, nonce, sealedTrailer, aad('chunk trailer'));
  if (!trailerPlain) return [];
  const bodyBytes = Buffer.from(trailerPlain).readUInt32LE(8);
  const bodyAt = bytes.length - TRAILER_BYTES - bodyBytes;
  const sealedBody = bytes.subarray(bodyAt, bodyAt + bodyBytes);
  const body = openRecord(footer, nonce, sealedBody, aad('chunk footer'));
  if (!body) return [];
  const put = (newBody: Uint8Array, newTrailer: Uint8Array): void => {
    const parts = [
      bytes.subarray(0, bodyAt),
      sealRecord(footer, nonce, newBody, aad('chunk footer')),
      sealRecord(trailer, nonce, newTrailer, aad('chunk trailer')),
    ];
    files.poke(path, new Uint8Array(Buffer.concat(parts)));
  };
  return [
    {
      what: `footer of ${path}`,
      plain: body,
      put: (plain) => {
        put(plain, trailerPlain);
      },
    },
    {
      what: `trailer of ${path}`,
      plain: trailerPlain,
      put: (plain) => {
        put(body, plain);
      },
    },
  ];
}

/** Records of the log: the commits of every group, and the map nodes in them. */
export async function logRecords(
  context: StoreContext,
  files: SimulatedFiles,
  volume: Volume,
): Promise<Forgeable[]> {
  const slots = new SlotReader(context, new OpenFiles(files), false);
  const found: Forgeable[] = [];
  for (const group of volume.groups()) {
    found.push(...(await commitRecords(context, files, slots, group, volume.blockBytes)));
  }
  await slots.openFiles.closeAll();
  return found;
}

async function commitRecords(
  context: StoreContext,
  files: SimulatedFiles,
  slots: SlotReader,
  group: Group,
  blockBytes: number,
): Promise<Forgeable[]> {
  const found: (Forgeable | null)[] = [];
  const reader = new CommitReader(context, slots, blockBytes);
  const first = await firstPoint(slots, group);
  for (let point = first; point !== null;) {
    const commit = await reader.read(group, point);
    if (!commit) break;
    const headerAt = place(group.geometry, point.address, COMMIT_HEADER_BYTES);
    const slot = { files, group, key: group.keys.record };
    const header = { ...slot, address: headerAt, kind: SLOT_KIND.commitHeader, number: 0 };
    found.push(await slotRecord(slots, header, COMMIT_HEADER_PLAIN_BYTES, 'commit header'));
    if (commit.header.bodyBytes > 0) {
      const bytes = commit.header.bodyBytes;
      const address = place(
        group.geometry,
        headerAt + COMMIT_HEADER_BYTES,
        bytes + SLOT_OVERHEAD_BYTES,
      );
      const number = commit.header.sequence;
      const body = { ...slot, address, kind: SLOT_KIND.commitBody, number };
      found.push(await slotRecord(slots, body, bytes, 'commit body'));
    }
    found.push(...(await nodeRecords(slots, { files, group }, commit)));
    point = commit.end;
  }
  return found.filter((record) => record !== null);
}

/** Where the log stands at the start of a group: what its first commit says itself. */
async function firstPoint(slots: SlotReader, group: Group): Promise<LogPoint | null> {
  const { record } = group.keys;
  const at = place(group.geometry, 0, COMMIT_HEADER_BYTES);
  const bytes = COMMIT_HEADER_PLAIN_BYTES;
  const read = await slots.readRecord(group, record, at, bytes, SLOT_KIND.commitHeader, 0);
  if (!read) return null;
  const sequence = Number(Buffer.from(read.plain).readBigUInt64LE(8));
  const chain = read.plain.slice(16, 48);
  return { ordinal: group.ordinal, address: 0, sequence, chain, durableUpTo: 0 };
}

/** The map nodes of a commit. */
async function nodeRecords(
  slots: SlotReader,
  place: Pick<SlotPlace, 'files' | 'group'>,
  commit: ReadCommit,
): Promise<(Forgeable | null)[]> {
  const found: (Forgeable | null)[] = [];
  const { slot: key } = place.group.keys;
  let at = 0;
  for (const entry of commit.entries) {
    if (!isSlotEntry(entry)) continue;
    for (let i = 0; i < entry.count; i++, at++) {
      if (entry.kind !== 'node') continue;
      const address = commit.positions[at]! * 8;
      const number = entry.number + i;
      const slot = { ...place, key, address, kind: nodeSlotKind(entry.level), number };
      found.push(await slotRecord(slots, slot, NODE_BYTES, `node of level ${entry.level}`));
    }
  }
  return found;
}

interface SlotPlace {
  readonly files: SimulatedFiles;
  readonly group: Group;
  readonly key: SlotKey;
  readonly address: number;
  readonly kind: number;
  readonly number: number;
}

async function slotRecord(
  slots: SlotReader,
  slot: SlotPlace,
  plainBytes: number,
  what: string,
): Promise<Forgeable | null> {
  const { files, group, key, address, kind, number } = slot;
  const read = await slots.readRecord(group, key, address, plainBytes, kind, number);
  if (!read) return null;
  const put = (changed: Uint8Array): void => {
    const sealed = new Uint8Array(changed.length + SLOT_OVERHEAD_BYTES);
    chooseEngine().sealSlots(key, batchOf(sealed, changed, address, kind, number), SALT);
    const { member, offset } = locate(group.geometry, address);
    const whole = files.peek(group.paths[member]!)!.slice();
    whole.set(sealed, offset);
    files.poke(group.paths[member]!, whole);
  };
  return { what: `${what} at ${address} of group ${group.ordinal}`, plain: read.plain, put };
}

function batchOf(
  slots: Uint8Array,
  plain: Uint8Array,
  address: number,
  kind: number,
  number: number,
): SlotBatch {
  return {
    count: 1,
    plainBytes: plain.length,
    plain,
    plainAt: Uint32Array.of(0),
    slots,
    slotAt: Uint32Array.of(0),
    positions: Uint32Array.of(address / 8),
    numbers: Float64Array.of(number),
    kind,
  };
}
