/**
 * The worked examples of docs/format.md, computed through src/ from fixed inputs: byte strings that
 * count upwards, so that the page can state them in words.
 */
import { createHmac } from 'node:crypto';
import { concatBytes, MIB, toHex } from '../../src/base/bytes.js';
import type { Geometry } from '../../src/base/geometry.js';
import type { Randomness } from '../../src/base/randomness.js';
import { NobleEngine } from '../../src/crypto/engine-noble.js';
import type { SlotBatch } from '../../src/crypto/engine.js';
import { argon2id } from '../../src/crypto/kdf.js';
import { VolumeKeys } from '../../src/crypto/key-schedule.js';
import { wrapVolumeKey } from '../../src/crypto/key-slot.js';
import { encode } from '../../src/erasure/reference.js';
import {
  encodeCommitBody,
  encodeCommitHeader,
  nodeSlotKind,
  SLOT_KIND,
  type CommitEntry,
} from '../../src/format/commit.js';
import { encodeManifest } from '../../src/format/footer.js';
import { encodeKeyFile } from '../../src/format/key-file.js';
import { encodeInner, encodeOuter, sha256, type Root } from '../../src/format/root.js';
import { sealFooter, sealHeader } from '../../src/store/chunk-meta.js';
import type { StoreContext } from '../../src/store/context.js';
import { makeGroup, memberName } from '../../src/store/group.js';
import { keySlot } from '../../src/store/key-files.js';
import { cryptParity, memberDigest, unitMac } from '../../src/store/parity.js';
import { rootName, sealRoot } from '../../src/store/root-files.js';

/** `length` bytes that count upwards from `first`. */
function counting(first: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (first + index) % 256);
}

const VOLUME_KEY = counting(0x00, 32);
const SECRET = counting(0x20, 32);
const SALT = counting(0x40, 32);
const NONCE = counting(0x60, 24);
const SLOT_ID = counting(0x78, 8);
const COMMIT_SALT = counting(0x80, 8);
const VOLUME_ID = counting(0xa0, 16);
const GROUP_ID = counting(0xb0, 16);
const SEAL_ID = counting(0xc0, 16);
const SESSION = counting(0xd0, 16);
const CREATED_MS = 1_700_000_000_000;
const GEOMETRY: Geometry = { data: 4, parity: 2, unitBytes: 65_536, chunkBytes: MIB };
const END = 8192;

const keys = new VolumeKeys(VOLUME_KEY);
const engine = new NobleEngine();
/** Names, headers and footers need no files. */
const context = { keys, engine, folder: '' } as unknown as StoreContext;
const firstChain = sha256(Buffer.from('chunkvol log'), VOLUME_ID);
const group = makeGroup(context, {
  ordinal: 1,
  id: GROUP_ID,
  sealId: SEAL_ID,
  geometry: GEOMETRY,
  survived: 0,
  state: 'sealed',
  end: END,
});

/** Hands out given byte strings, one after the other. */
function scripted(...answers: Uint8Array[]): Randomness {
  return { bytes: () => answers.shift()! };
}

function sealOne(
  key: Uint8Array,
  plain: Uint8Array,
  position: number,
  kind: number,
  number: number,
): Uint8Array {
  const batch: SlotBatch = {
    count: 1,
    plainBytes: plain.length,
    plain,
    plainAt: Uint32Array.of(0),
    slots: new Uint8Array(plain.length + 24),
    slotAt: Uint32Array.of(0),
    positions: Uint32Array.of(position),
    numbers: Float64Array.of(number),
    kind,
  };
  engine.sealSlots(engine.slotKey(key), batch, COMMIT_SALT);
  return batch.slots;
}

type Vectors = Record<string, Uint8Array | string>;

function keyVectors(): Vectors {
  const { maintenance, data } = keys;
  const seal = maintenance.seal(GROUP_ID, SEAL_ID);
  return {
    'key maintenance': maintenance.raw,
    'key name': maintenance.name,
    'key header id': maintenance.headerId,
    'key header': maintenance.header,
    'key footer': maintenance.footer,
    'key trailer': maintenance.trailer,
    'key outer root': maintenance.outerRoot,
    'key pad': maintenance.group(GROUP_ID).pad,
    'key root replica': maintenance.group(GROUP_ID).rootReplica,
    'key parity': seal.parity,
    'key mac': seal.mac,
    'key fill': seal.fill,
    'key inner root': data.innerRoot,
    'key key file': data.keyFile,
    'key slot': data.group(GROUP_ID).slot,
    'key record': data.group(GROUP_ID).record,
  };
}

async function unlockVectors(): Promise<Vectors> {
  const parameters = { memoryKiB: 8192, iterations: 1, lanes: 1 };
  const password = Buffer.from('correct horse battery staple', 'utf8');
  const credential = { kind: 'key-file', secret: SECRET } as const;
  const wrapped = await wrapVolumeKey(VOLUME_KEY, credential, scripted(SALT, NONCE));
  const slot = keySlot(SLOT_ID, CREATED_MS, wrapped);
  const body = encodeKeyFile({ volumeId: VOLUME_ID, counter: 1, slots: [slot] });
  const mac = createHmac('sha256', keys.data.keyFile).update(body).digest();
  const file = concatBytes(body, mac);
  return {
    'argon2id material': await argon2id(password, SALT, parameters),
    commitment: wrapped.commitment,
    wrapped: wrapped.wrapped,
    'key file': file,
    'name of the key file': keys.maintenance.fileName('key', sha256(file)),
  };
}

/** A header, a body and a commit's two kinds of slots, as if they stood one behind the other. */
function logVectors(): Vectors {
  const entries: CommitEntry[] = [
    { kind: 'hole', number: 100, count: 1000 },
    {
      kind: 'move',
      group: { id: counting(0xe0, 16), ordinal: 2, end: END },
      blocks: Float64Array.of(9),
      old: Uint32Array.of(1, 515),
      positions: Uint32Array.of(64),
    },
    { kind: 'write', number: 7, count: 1 },
    { kind: 'node', level: 1, number: 3, count: 1 },
  ];
  const bodyPlain = encodeCommitBody(entries);
  const headerPlain = encodeCommitHeader({
    sequence: 1,
    previousChain: firstChain,
    durableUpTo: 0,
    timeMs: CREATED_MS,
    bodyBytes: bodyPlain.length,
    slotCount: 2,
    rootBytes: 0,
  });
  const { slot, record } = keys.data.group(GROUP_ID);
  const headerSlot = sealOne(record, headerPlain, 64, SLOT_KIND.commitHeader, 0);
  const bodySlot = sealOne(record, bodyPlain, 81, SLOT_KIND.commitBody, 1);
  const pad = new Uint8Array(32);
  engine.ctr(group.keys.pad, new Uint8Array(16), pad, 4104);
  return {
    'first chain hash': firstChain,
    'commit header, plain': headerPlain,
    'commit header, slot': headerSlot,
    'commit body, plain': bodyPlain,
    'commit body, slot': bodySlot,
    'second chain hash': sha256(firstChain, headerSlot, bodySlot),
    'block slot': sealOne(slot, counting(0, 32), 96, SLOT_KIND.block, 7),
    'node slot': sealOne(slot, counting(0, 32), 103, nodeSlotKind(1), 3),
    padding: pad,
  };
}

function chunkVectors(): Vectors {
  const header = {
    volumeId: VOLUME_ID,
    groupId: GROUP_ID,
    ordinal: 1,
    place: 5,
    geometry: GEOMETRY,
    sealId: SEAL_ID,
    session: SESSION,
    createdMs: CREATED_MS,
    predecessor: { groupId: new Uint8Array(16), ordinal: 0, cut: 0, chain: firstChain },
    firstSequence: 1,
    durableUpTo: 0,
    survived: 0,
  };
  const data = [0, 1, 2, 3].map((index) => counting(0x10 * index, 8));
  const parity = encode(data, 2);
  const stored = parity.map((unit, index) => {
    const bytes = Uint8Array.from(unit);
    cryptParity(engine, group, 4 + index, 3, 0, bytes);
    return bytes;
  });
  const mac = unitMac(engine, group, 5, 3, stored[1]!);
  const manifest = encodeManifest({
    volumeId: VOLUME_ID,
    groupId: GROUP_ID,
    sealId: SEAL_ID,
    ordinal: 1,
    full: false,
    geometry: GEOMETRY,
    end: END,
    firstSequence: 1,
    endSequence: 2,
    chain: firstChain,
    root: null,
    digests: Array.from({ length: 6 }, () => memberDigest([mac])),
  });
  const name = memberName(context, GROUP_ID, SEAL_ID, 5);
  return {
    'name of the chunk file': name,
    'chunk header': sealHeader(keys.maintenance, header),
    'parity, plain': concatBytes(...parity),
    'parity, stored': concatBytes(...stored),
    'unit MAC': mac,
    'member digest': memberDigest([mac]),
    'manifest digest': sha256(manifest),
    footer: sealFooter(keys.maintenance, name, manifest, [mac], 8192 + 428),
  };
}

function rootVectors(): Vectors {
  const root: Root = {
    closed: true,
    volumeId: VOLUME_ID,
    session: SESSION,
    generation: 2,
    geometry: GEOMETRY,
    blockBytes: 4096,
    groups: [
      {
        ordinal: 1,
        state: 'sealed',
        survived: 0,
        geometry: GEOMETRY,
        groupId: GROUP_ID,
        sealId: SEAL_ID,
        end: END,
        manifestDigest: null,
        liveBytes: 4120,
      },
    ],
    name: 'disk',
    sizeBytes: 1024 * MIB,
    createdMs: CREATED_MS,
    timeMs: CREATED_MS + 1,
    map: { depth: 2, ordinal: 1, position: 103 },
    tail: { ordinal: 1, address: END, sequence: 2, chain: firstChain, durableUpTo: 0 },
    nextOrdinal: 2,
    keyCounter: 1,
    mappedBlocks: 1,
    writtenBytes: 4096,
    loggedBytes: END,
    lineage: {
      droppedCount: 0,
      droppedDigest: new Uint8Array(32),
      entries: [{ session: SESSION, firstGeneration: 1 }],
    },
    snapshots: [],
  };
  const outer = encodeOuter(root);
  const bytes = sealRoot(keys, scripted(NONCE), root);
  return {
    'root, outer plain': outer,
    'root, inner plain': encodeInner(root, outer),
    'root, envelope sealed': bytes.slice(24, 64),
    'root file': bytes,
    'name of the root': rootName(keys.maintenance, SESSION, bytes),
  };
}

/** Every example by its name, in hexadecimal. */
export async function computeFormatVectors(): Promise<Record<string, string>> {
  const all = {
    ...(await unlockVectors()),
    ...keyVectors(),
    ...chunkVectors(),
    ...logVectors(),
    ...rootVectors(),
  };
  return Object.fromEntries(
    Object.entries(all).map(([name, value]) => [
      name,
      typeof value === 'string' ? value : toHex(value),
    ]),
  );
}
