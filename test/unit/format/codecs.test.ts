import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import { makeGeometry, type Geometry } from '../../../src/base/geometry.js';
import {
  decodeChunkHeader,
  encodeChunkHeader,
  MAX_SURVIVED,
} from '../../../src/format/chunk-header.js';
import {
  FormatError,
  NewerFormatError,
  RecordReader,
  RecordWriter,
} from '../../../src/format/codec.js';
import {
  decodeCommitBody,
  decodeCommitHeader,
  encodeCommitBody,
  encodeCommitHeader,
  isSlotEntry,
  type CommitEntry,
} from '../../../src/format/commit.js';
import {
  decodeFooterBody,
  encodeFooterBody,
  encodeManifest,
  footerBytes,
  maxRows,
} from '../../../src/format/footer.js';
import { decodeKeyFile, encodeKeyFile } from '../../../src/format/key-file.js';
import {
  decodeMapNode,
  encodeMapNode,
  mapDepth,
  NODE_BYTES,
} from '../../../src/format/map-node.js';
import {
  decodeInner,
  decodeOuter,
  encodeInner,
  encodeOuter,
  type Root,
} from '../../../src/format/root.js';

const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });
const u48 = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const ordinal = fc.integer({ min: 1, max: 2 ** 32 - 1 });

const geometry: fc.Arbitrary<Geometry> = fc
  .record({
    data: fc.integer({ min: 1, max: 32 }),
    parity: fc.integer({ min: 0, max: 8 }),
    chunkMiB: fc.integer({ min: 1, max: 1024 }),
  })
  .map(({ data, parity, chunkMiB }) => makeGeometry(data, parity, chunkMiB * MIB, 4 * KIB));

const pointer = fc.record({ depth: fc.integer({ min: 1, max: 6 }), ordinal: u32, position: u32 });

const snapshot = fc.record({
  id: bytes(8),
  name: fc.string({ maxLength: 60 }),
  timeMs: u48,
  sizeBytes: u48,
  mappedBlocks: u48,
  map: pointer,
});

/** An address where a commit may end. */
const sectors = (max: number): fc.Arbitrary<number> =>
  fc.integer({ min: 0, max }).map((count) => count * 4096);

const entry: fc.Arbitrary<CommitEntry> = fc.oneof(
  fc.record({
    kind: fc.constant('write' as const),
    number: u48,
    count: fc.integer({ min: 1, max: 9 }),
  }),
  fc.record({
    kind: fc.constant('hole' as const),
    number: u48,
    count: fc.integer({ min: 1, max: 2 ** 47 }),
  }),
  fc.record({
    kind: fc.constant('node' as const),
    level: fc.integer({ min: 0, max: 5 }),
    number: u48,
    count: fc.integer({ min: 1, max: 3 }),
  }),
  fc.uniqueArray(u48, { minLength: 1, maxLength: 4 }).chain((numbers) =>
    fc.record({
      kind: fc.constant('move' as const),
      group: fc.record({ id: bytes(16), ordinal, end: sectors(2 ** 20) }),
      blocks: fc.constant(Float64Array.from(numbers).sort()),
      old: fc.uint32Array({ minLength: numbers.length * 2, maxLength: numbers.length * 2 }),
      positions: fc.uint32Array({ minLength: numbers.length, maxLength: numbers.length }),
    }),
  ),
  fc.record({ kind: fc.constant('snapshot' as const), snapshot }),
  fc.record({ kind: fc.constant('drop' as const), id: bytes(8) }),
  fc.record({
    kind: fc.constant('head' as const),
    sizeBytes: u48,
    mappedBlocks: u48,
    map: pointer,
  }),
);

const root: fc.Arbitrary<Root> = geometry.chain((shape) =>
  fc.record({
    closed: fc.boolean(),
    volumeId: bytes(16),
    session: bytes(16),
    generation: u48,
    geometry: fc.constant(shape),
    blockBytes: fc.constantFrom(4096, 65536),
    groups: fc.array(
      fc.record({
        ordinal,
        state: fc.constantFrom('sealed' as const, 'open' as const, 'cut' as const),
        survived: fc.integer({ min: 0, max: MAX_SURVIVED }),
        geometry: fc.constant(shape),
        groupId: bytes(16),
        sealId: bytes(16),
        end: sectors((shape.data * shape.chunkBytes) / 4096),
        manifestDigest: fc.option(bytes(32).map((digest) => digest.fill(1, 0, 1))),
        liveBytes: u48,
      }),
      { maxLength: 30 },
    ),
    name: fc.string({ maxLength: 60 }),
    sizeBytes: u48,
    createdMs: u48,
    timeMs: u48,
    map: pointer,
    tail: fc.record({
      ordinal: u32,
      address: sectors(2 ** 40),
      sequence: u48.map((number) => number + 1),
      chain: bytes(32),
      durableUpTo: u48,
    }),
    nextOrdinal: u32,
    keyCounter: u48,
    mappedBlocks: u48,
    writtenBytes: u48,
    loggedBytes: u48,
    lineage: fc.record({
      droppedCount: u32,
      droppedDigest: bytes(32),
      entries: fc.array(fc.record({ session: bytes(16), firstGeneration: u48 }), { maxLength: 50 }),
    }),
    snapshots: fc.array(snapshot, { maxLength: 120 }),
  }),
);

describe('records', () => {
  it('grow by any write, whatever capacity they started with', () => {
    const record = new RecordWriter(1)
      .u8(1)
      .u16(2)
      .u32(3)
      .u48(4)
      .u64(5)
      .fixed(Uint8Array.of(6, 7), 2);
    const reader = new RecordReader(record.text('eight').finish(), 'record');
    expect([reader.u8(), reader.u16(), reader.u32(), reader.u48(), reader.u64()]).toEqual([
      1, 2, 3, 4, 5,
    ]);
    expect([...reader.fixed(2)]).toEqual([6, 7]);
    expect(reader.text(10)).toBe('eight');
    expect(() => reader.u8()).toThrow(FormatError);
  });

  it('refuse a count that cannot be true before anything is allocated for it', () => {
    const reader = new RecordReader(
      new RecordWriter()
        .u32(2 ** 32 - 1)
        .u64(0)
        .finish(),
      'record',
    );
    expect(() => reader.count(1)).toThrow(FormatError);
  });

  it.each<[string, (writer: RecordWriter) => void]>([
    ['no number that needs more than 53 bits', (writer) => writer.u64(2 ** 53)],
    ['no number below zero', (writer) => writer.u64(-1)],
    ['no bytes of another length', (writer) => writer.fixed(new Uint8Array(3), 4)],
    ['no more than they are to be padded to', (writer) => writer.u64(1).padTo(7)],
  ])('take %s', (_, write) => {
    expect(() => {
      write(new RecordWriter());
    }).toThrow(RangeError);
  });
});

describe('every record comes back as it was written', () => {
  it('commit headers and bodies', () => {
    const header = {
      sequence: 2 ** 40 + 1,
      previousChain: new Uint8Array(32).fill(3),
      durableUpTo: 2 ** 40,
      timeMs: 1_900_000_000_000,
      bodyBytes: 16,
      slotCount: 1,
      rootBytes: 900,
    };
    expect(decodeCommitHeader(encodeCommitHeader(header))).toEqual(header);
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
        const slots = entries.reduce((sum, each) => sum + (isSlotEntry(each) ? each.count : 0), 0);
        expect(decodeCommitBody(encodeCommitBody(entries), slots)).toEqual(entries);
        expect(() => decodeCommitBody(encodeCommitBody(entries), slots + 1)).toThrow(FormatError);
      }),
    );
  });

  it('roots', () => {
    fc.assert(
      fc.property(root, (original) => {
        const outerBytes = encodeOuter(original);
        const outer = decodeOuter(outerBytes);
        const inner = encodeInner(original, outerBytes);
        expect(decodeInner(inner, outer, outerBytes)).toEqual(original);
        const other = encodeOuter({ ...original, generation: original.generation + 1 });
        expect(() => decodeInner(inner, decodeOuter(other), other)).toThrow(FormatError);
        const tail = { ...original.tail, sequence: 0 };
        const early = encodeInner({ ...original, tail }, outerBytes);
        expect(() => decodeInner(early, outer, outerBytes)).toThrow(FormatError);
      }),
      { numRuns: 50 },
    );
  });

  it('roots with extensions that may be passed over, and no others', () => {
    fc.assert(
      fc.property(root, (original) => {
        const outerBytes = encodeOuter(original);
        const outer = decodeOuter(outerBytes);
        const inner = encodeInner(original, outerBytes);
        const extended = (type: number): Uint8Array => {
          const extension = new RecordWriter().u32(1).u16(type).u32(3).zeros(3).finish();
          return Buffer.concat([inner.subarray(0, -4), extension]);
        };
        expect(decodeInner(extended(0x7fff), outer, outerBytes)).toEqual(original);
        expect(() => decodeInner(extended(0x8000), outer, outerBytes)).toThrow(NewerFormatError);
      }),
      { numRuns: 20 },
    );
  });

  it('chunk headers and footers, at every geometry', () => {
    fc.assert(
      fc.property(geometry, bytes(16), bytes(32), ordinal, (shape, id, hash, number) => {
        const header = {
          volumeId: id,
          groupId: id,
          ordinal: number,
          place: shape.data + shape.parity - 1,
          geometry: shape,
          sealId: id,
          session: id,
          createdMs: 5,
          predecessor: { groupId: id, ordinal: 4, cut: 8192, chain: hash },
          firstSequence: 77,
          durableUpTo: 76,
          survived: 2,
        };
        expect(decodeChunkHeader(encodeChunkHeader(header))).toEqual(header);
        const manifest = {
          volumeId: id,
          groupId: id,
          sealId: id,
          ordinal: number,
          full: true,
          geometry: shape,
          end: 65536,
          firstSequence: 1,
          endSequence: 9,
          chain: hash,
          root: { address: 512, bytes: 900, generation: 3 },
          digests: Array.from({ length: shape.data + shape.parity }, () => hash),
        };
        const macs = Array.from({ length: 3 }, () => id);
        const body = decodeFooterBody(encodeFooterBody(encodeManifest(manifest), macs));
        expect(body.manifest).toEqual(manifest);
        expect(body.macs).toEqual(macs);
        const beyond = { ...manifest, root: { ...manifest.root, bytes: 65536 } };
        const forged = encodeFooterBody(encodeManifest(beyond), macs);
        expect(() => decodeFooterBody(forged)).toThrow(FormatError);
        const rows = maxRows(shape);
        expect(rows).toBeGreaterThan(0);
        expect(rows * shape.unitBytes + footerBytes(shape, rows)).toBeLessThanOrEqual(
          shape.chunkBytes,
        );
      }),
      { numRuns: 60 },
    );
  });

  it('key files', () => {
    const slot = {
      id: new Uint8Array(8).fill(1),
      kind: 'passphrase' as const,
      memoryKiB: 65536,
      iterations: 3,
      lanes: 1,
      createdMs: 12,
      salt: new Uint8Array(32).fill(2),
      commitment: new Uint8Array(32).fill(3),
      nonce: new Uint8Array(24).fill(4),
      wrapped: new Uint8Array(48).fill(5),
    };
    const file = { volumeId: new Uint8Array(16).fill(9), counter: 3, slots: [slot, slot] };
    const decoded = decodeKeyFile(Buffer.concat([encodeKeyFile(file), new Uint8Array(32)]));
    expect(decoded.file).toEqual(file);
    expect(Buffer.compare(decoded.body, encodeKeyFile(file))).toBe(0);
  });

  it('map nodes, and how deep a map is', () => {
    const node = Uint32Array.from({ length: 1024 }, (_, i) => i * 4_000_037);
    const stored = new Uint8Array(NODE_BYTES);
    encodeMapNode(node, stored);
    expect(decodeMapNode(stored)).toEqual(node);
    // As on a machine whose order of bytes is the other one.
    const swapped = new Uint8Array(NODE_BYTES);
    encodeMapNode(node, swapped, false);
    expect(swapped).toEqual(stored);
    expect(decodeMapNode(stored, false)).toEqual(node);
    expect([1, 512, 513, 262_144, 262_145, 2 ** 38].map(mapDepth)).toEqual([1, 1, 2, 2, 3, 5]);
  });
});

describe('decoders', () => {
  it('refuse an entry of a kind that there is not', () => {
    const body = encodeCommitBody([{ kind: 'hole', number: 7, count: 1 }]);
    expect(decodeCommitBody(body, 0)).toHaveLength(1);
    body[0] = 0x77;
    expect(() => decodeCommitBody(body, 0)).toThrow(/unknown kind 119/);
  });

  it('tell a newer version from a corrupt record', () => {
    const outer = encodeKeyFile({ volumeId: new Uint8Array(16), counter: 1, slots: [] });
    outer[4] = 2;
    expect(() => decodeKeyFile(outer)).toThrow(NewerFormatError);
    outer[0] = 0;
    expect(() => decodeKeyFile(outer)).toThrow(FormatError);
  });

  it('throw nothing but FormatError, whatever they are given', () => {
    const decoders = [
      decodeOuter,
      decodeFooterBody,
      decodeCommitHeader,
      decodeChunkHeader,
      decodeKeyFile,
      (record: Uint8Array) => decodeCommitBody(record, 1),
    ];
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (record) => {
        for (const decode of decoders) {
          try {
            decode(record);
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
