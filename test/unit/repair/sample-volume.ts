/** A volume folder with sealed groups of known contents, built by the store alone, and ways to harm it. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { toHex } from '../../../src/base/bytes.js';
import { systemClock } from '../../../src/base/clock.js';
import type { Geometry } from '../../../src/base/geometry.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import { kernelRandomness } from '../../../src/base/randomness.js';
import { chooseEngine } from '../../../src/crypto/engines.js';
import { VolumeKeys } from '../../../src/crypto/key-schedule.js';
import { ROOT_PIECE_BYTES, SLOT_KIND } from '../../../src/format/commit.js';
import type { RootReplica } from '../../../src/format/footer.js';
import { sha256, type Root } from '../../../src/format/root.js';
import { createGroup } from '../../../src/store/birth.js';
import { RowCodecs } from '../../../src/store/row-codecs.js';
import { chunkFolder, rootFolder, type StoreContext } from '../../../src/store/context.js';
import type { GroupWriter } from '../../../src/store/group-writer.js';
import { rootEntry, type Group } from '../../../src/store/group.js';
import { OpenFiles } from '../../../src/store/open-files.js';
import { publishRoot, sealRoot } from '../../../src/store/root-files.js';
import { sealWriter } from '../../../src/store/seal.js';
import { SlotReader } from '../../../src/store/slot-reader.js';

export const KIB = 1024;
export const SMALL: Geometry = {
  data: 4,
  parity: 2,
  unitBytes: 64 * KIB,
  chunkBytes: 1024 * KIB,
};
/** 4 KiB blocks. */
export const BLOCK_BYTES = 4096;
const SLOT_BYTES = BLOCK_BYTES + 24;
const SESSION = new Uint8Array(16).fill(9);

export class SampleVolume {
  readonly folder: string = fs.mkdtempSync(path.join(os.tmpdir(), 'chunkvol-repair-'));
  readonly context: StoreContext = {
    files: nodeFiles,
    clock: systemClock,
    random: kernelRandomness,
    engine: chooseEngine(),
    folder: this.folder,
    volumeId: kernelRandomness.bytes(16),
    keys: new VolumeKeys(kernelRandomness.bytes(32)),
  };
  readonly groups: Group[] = [];
  readonly slots: SlotReader = new SlotReader(this.context, new OpenFiles(nodeFiles), true);
  private generation = 0;

  constructor() {
    fs.mkdirSync(chunkFolder(this.context));
    fs.mkdirSync(rootFolder(this.context));
  }

  /** A sealed group of `blocks` blocks: number i is at the address that `blockAddress` tells. */
  async addGroup(options: {
    geometry?: Geometry;
    codecs?: RowCodecs;
    blocks: number;
    full?: boolean;
    root?: boolean;
  }): Promise<Group> {
    const geometry = options.geometry ?? SMALL;
    const writer = await this.startGroup(geometry, this.context, options.codecs);
    this.writeBlocks(writer, options.blocks);
    const root = options.root ? await this.addRoot(writer) : null;
    if (writer.address > 0) writer.endCommit();
    await sealWriter(this.context, writer, {
      end: writer.address,
      firstSequence: 1,
      endSequence: 2,
      chain: new Uint8Array(32).fill(7),
      root,
      full: options.full ?? false,
    });
    return writer.group;
  }

  async startGroup(
    geometry: Geometry,
    context: StoreContext = this.context,
    codecs?: RowCodecs,
  ): Promise<GroupWriter> {
    const writer = await createGroup(
      context,
      {
        ordinal: this.groups.length + 1,
        geometry,
        session: SESSION,
        predecessor: {
          groupId: new Uint8Array(16),
          ordinal: 0,
          cut: 0,
          chain: new Uint8Array(32),
        },
        firstSequence: 1,
        durableUpTo: 0,
        survived: 0,
      },
      codecs ?? (await RowCodecs.create(geometry)),
    );
    this.groups.push(writer.group);
    return writer;
  }

  /** The bytes of every file of a group, by place; null for a missing one. */
  contents(group: Group): (Buffer | null)[] {
    return group.paths.map((file) => (fs.existsSync(file) ? fs.readFileSync(file) : null));
  }

  /** A digest of every file of a group, by place: deep comparison of long buffers takes seconds. */
  digests(group: Group): (string | null)[] {
    return this.contents(group).map((bytes) => bytes && toHex(sha256(bytes)));
  }

  remove(): void {
    fs.rmSync(this.folder, { recursive: true });
  }

  /** Lays out blocks as slots; ends no commit. */
  writeBlocks(writer: GroupWriter, blocks: number): void {
    for (let done = 0; done < blocks;) {
      const run = writer.allocate(SLOT_BYTES, blocks - done);
      this.seal(writer, writer.group.keys.slot, SLOT_KIND.block, BLOCK_BYTES, run, (i) => ({
        plain: Buffer.alloc(BLOCK_BYTES, `block ${done + i} `),
        number: done + i,
      }));
      done += run.count;
    }
  }

  /** Publishes a root, and lays its replica out at the writer's end. */
  private async addRoot(writer: GroupWriter): Promise<RootReplica> {
    const generation = ++this.generation;
    const root = sampleRoot(this.context, generation, this.groups);
    const bytes = sealRoot(this.context.keys, this.context.random, root);
    await publishRoot(this.context, root, bytes);
    const padded = new Uint8Array(Math.ceil(bytes.length / 8) * 8);
    padded.set(bytes);
    let address: number | null = null;
    for (let at = 0; at < padded.length; at += ROOT_PIECE_BYTES) {
      const plain = padded.subarray(at, at + ROOT_PIECE_BYTES);
      const run = writer.allocate(plain.length + 24, 1);
      address ??= run.address;
      const key = writer.group.keys.rootReplica;
      const piece = { plain, number: at / ROOT_PIECE_BYTES };
      this.seal(writer, key, SLOT_KIND.root, plain.length, run, () => piece);
    }
    return { address: address!, bytes: bytes.length, generation };
  }

  private seal(
    writer: GroupWriter,
    key: Group['keys']['slot'],
    kind: number,
    plainBytes: number,
    run: ReturnType<GroupWriter['allocate']>,
    item: (index: number) => { plain: Uint8Array; number: number },
  ): void {
    for (let index = 0; index < run.count; index++) {
      const { plain, number } = item(index);
      const shift = index * (plainBytes + 24);
      const batch = {
        count: 1,
        plainBytes,
        plain,
        plainAt: Uint32Array.of(0),
        slots: run.buffer,
        slotAt: Uint32Array.of(run.offset + shift),
        positions: Uint32Array.of((run.address + shift) / 8),
        numbers: Float64Array.of(number),
        kind,
      };
      this.context.engine.sealSlots(key, batch, kernelRandomness.bytes(8));
    }
  }
}

function sampleRoot(context: StoreContext, generation: number, groups: readonly Group[]): Root {
  return {
    closed: true,
    volumeId: context.volumeId,
    session: SESSION,
    generation,
    geometry: SMALL,
    blockBytes: BLOCK_BYTES,
    groups: groups.map(rootEntry),
    name: 'sample',
    sizeBytes: 1e9,
    createdMs: 1,
    timeMs: 2,
    map: { depth: 1, ordinal: 0, position: 0 },
    tail: {
      ordinal: 0,
      address: 0,
      sequence: 1,
      chain: new Uint8Array(32),
      durableUpTo: 0,
    },
    nextOrdinal: groups.length + 1,
    keyCounter: 1,
    mappedBlocks: 0,
    writtenBytes: 0,
    loggedBytes: 0,
    // Long enough for a root of several pieces.
    lineage: {
      droppedCount: 0,
      droppedDigest: new Uint8Array(32),
      entries: Array.from({ length: 1500 }, (_, index) => ({
        session: SESSION,
        firstGeneration: index,
      })),
    },
    snapshots: [],
  };
}

/** Inverts one byte of a file. */
export function flip(file: string, at: number): void {
  const fd = fs.openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, at);
  byte[0] = byte[0]! ^ 0xff;
  fs.writeSync(fd, byte, 0, 1, at);
  fs.closeSync(fd);
}
