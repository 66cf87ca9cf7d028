/**
 * A volume's folder made of the real store's groups, roots and key files, without a disk on top: what
 * a sync sees of a volume. Groups are short unless a full one is asked for.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { systemClock } from '../../src/base/clock.js';
import type { Files } from '../../src/base/files.js';
import { makeGeometry, type Geometry } from '../../src/base/geometry.js';
import { nodeFiles } from '../../src/base/node-files.js';
import { kernelRandomness } from '../../src/base/randomness.js';
import { chooseEngine } from '../../src/crypto/engines.js';
import { wrapVolumeKey, type Credential } from '../../src/crypto/key-slot.js';
import { VolumeKeys } from '../../src/crypto/key-schedule.js';
import type { LineageEntry, Root } from '../../src/format/root.js';
import { createGroup } from '../../src/store/birth.js';
import { RowCodecs } from '../../src/store/row-codecs.js';
import { FOLDERS, type Environment, type StoreContext } from '../../src/store/context.js';
import { rootEntry, type Group } from '../../src/store/group.js';
import { keySlot, publishKeyFile } from '../../src/store/key-files.js';
import { publishRoot, readRoots, sealRoot, type RootFile } from '../../src/store/root-files.js';
import { sealWriter } from '../../src/store/seal.js';
import type { Origin } from '../../src/format/root.js';
import type { SyncSource } from '../../src/sync/run.js';

const SLOT_BYTES = 4096 + 24;

/** What is tested here is not power loss, and a hundred folders' worth of fsync takes its time. */
const quickFiles: Files = {
  ...nodeFiles,
  async open(name, mode) {
    return Object.assign(await nodeFiles.open(name, mode), { sync: () => Promise.resolve() });
  },
  syncFolder: () => Promise.resolve(),
};

export const environment: Environment = {
  files: quickFiles,
  clock: systemClock,
  random: kernelRandomness,
  engine: chooseEngine(),
};

export const credential: Credential = { kind: 'key-file', secret: new Uint8Array(32).fill(7) };

export class SealedVolume implements SyncSource {
  private dirtySlots = 0;
  private wantsFull = false;
  private sealed: Group[] = [];
  private lineage: LineageEntry[] = [];
  private generation = 0;
  private session = kernelRandomness.bytes(16);
  private keyCounter = 0;
  private lastOrdinal = 0;

  private constructor(
    readonly context: StoreContext,
    private readonly volumeKey: Uint8Array,
    private readonly geometry: Geometry,
  ) {}

  static async create(folder: string, data = 4, parity = 2): Promise<SealedVolume> {
    for (const name of Object.values(FOLDERS)) {
      fs.mkdirSync(path.join(folder, name), { recursive: true });
    }
    const volumeKey = kernelRandomness.bytes(32);
    const keys = new VolumeKeys(volumeKey);
    const context = { ...environment, folder, volumeId: kernelRandomness.bytes(16), keys };
    const geometry = makeGeometry(data, parity, 2 ** 20, 4096);
    const volume = new SealedVolume(context, volumeKey, geometry);
    await volume.changeKeys();
    await volume.publish();
    return volume;
  }

  origin(): Origin {
    const lineage = { droppedCount: 0, droppedDigest: new Uint8Array(32), entries: this.lineage };
    return { generation: this.generation, lineage };
  }

  groups(): readonly Group[] {
    return this.sealed;
  }

  /** Something to seal; `full` brings the files to the chunk size. */
  write(slots = 3, full = false): void {
    this.dirtySlots += slots;
    this.wantsFull ||= full;
  }

  async sealNow(): Promise<RootFile> {
    if (this.dirtySlots > 0) {
      this.sealed.push(await this.sealGroup(this.dirtySlots));
      this.dirtySlots = 0;
      this.wantsFull = false;
      await this.publish();
    }
    return this.newestRoot();
  }

  async sealAndPin(aboveGeneration: number): Promise<{ root: RootFile; release: () => void }> {
    if (this.generation < aboveGeneration) {
      this.generation++;
      this.enterLineage();
      this.generation = aboveGeneration;
    }
    const { root } = await this.sealNow();
    if (root.generation <= aboveGeneration) await this.publish();
    return { root: await this.newestRoot(), release: () => undefined };
  }

  async newestRoot(): Promise<RootFile> {
    const { roots } = await readRoots(this.context);
    return roots.find(({ root }) => root.closed)!;
  }

  /** A new writer session. */
  attach(): void {
    this.session = kernelRandomness.bytes(16);
  }

  /** A root of the present groups; one that is not closed is what a checkpoint leaves. */
  checkpoint(closed: boolean): Promise<string> {
    return this.publish(closed);
  }

  /** Needs the oldest group no more, as after a collection. */
  forgetGroup(): void {
    this.sealed = this.sealed.slice(1);
  }

  /** A new key file in the place of the old one. */
  async changeKeys(): Promise<void> {
    const { files, folder, volumeId, keys, random } = this.context;
    this.keyCounter++;
    const wrapped = await wrapVolumeKey(this.volumeKey, credential, random);
    const slots = [keySlot(random.bytes(8), 0, wrapped)];
    await publishKeyFile(files, folder, keys, { volumeId, counter: this.keyCounter, slots });
  }

  /** The same volume in a copy of its folder, attached there. */
  copyTo(folder: string): SealedVolume {
    fs.cpSync(this.context.folder, folder, { recursive: true });
    const copy = new SealedVolume({ ...this.context, folder }, this.volumeKey, this.geometry);
    Object.assign(copy, {
      sealed: [...this.sealed],
      lineage: [...this.lineage],
      generation: this.generation,
      keyCounter: this.keyCounter,
      lastOrdinal: this.lastOrdinal,
    });
    return copy;
  }

  private async sealGroup(slots: number): Promise<Group> {
    const ordinal = ++this.lastOrdinal;
    const none = { groupId: new Uint8Array(16), ordinal: 0, cut: 0, chain: new Uint8Array(32) };
    const writer = await createGroup(
      this.context,
      {
        ordinal,
        geometry: this.geometry,
        session: this.session,
        predecessor: none,
        firstSequence: 1,
        durableUpTo: 0,
        survived: 0,
      },
      await RowCodecs.create(this.geometry),
    );
    for (let left = slots; left > 0;) {
      const run = writer.allocate(SLOT_BYTES, left);
      run.buffer.set(kernelRandomness.bytes(run.count * SLOT_BYTES), run.offset);
      left -= run.count;
    }
    writer.endCommit();
    const plan = { end: writer.address, firstSequence: 1, endSequence: 2, chain: none.chain };
    await sealWriter(this.context, writer, { ...plan, root: null, full: this.wantsFull });
    return writer.group;
  }

  private enterLineage(): void {
    if (this.lineage.at(-1)?.session === this.session) return;
    this.lineage.push({ session: this.session, firstGeneration: this.generation });
  }

  private async publish(closed = true): Promise<string> {
    this.generation++;
    this.enterLineage();
    const root = this.root(closed);
    return publishRoot(this.context, root, sealRoot(this.context.keys, this.context.random, root));
  }

  private root(closed: boolean): Root {
    const timeMs = this.context.clock.now();
    const start = { ordinal: 0, address: 0, sequence: 1, durableUpTo: 0 };
    return {
      closed,
      volumeId: this.context.volumeId,
      session: this.session,
      generation: this.generation,
      geometry: this.geometry,
      blockBytes: 4096,
      groups: this.sealed.map(rootEntry),
      name: 'disk',
      sizeBytes: 2 ** 30,
      createdMs: timeMs,
      timeMs,
      map: { depth: 2, ordinal: 0, position: 0 },
      tail: { ...start, chain: new Uint8Array(32) },
      nextOrdinal: this.lastOrdinal + 1,
      keyCounter: this.keyCounter,
      mappedBlocks: 0,
      writtenBytes: 0,
      loggedBytes: 0,
      lineage: this.origin().lineage,
      snapshots: [],
    };
  }
}
