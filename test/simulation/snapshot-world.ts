/**
 * A simulated world for what makes a volume live for years: snapshots, rollback, clones, collections,
 * changes of size, syncs and restores, among writes, with crashes at any call.
 *
 * The oracle is a flat map of blocks for the disk and for each snapshot. One operation comes after the
 * other (a collection in the background, and a sync's copying, run beside them). After a crash the
 * volume must be as after some commit (the timeline), and after none before the last that was flushed.
 */
import { isChunkvolError } from '../../src/base/errors.js';
import { alignDown, KIB, MIB } from '../../src/base/bytes.js';
import { chooseEngine } from '../../src/crypto/engines.js';
import type { Environment } from '../../src/store/context.js';
import { RemoteMemory } from '../../src/sync/memory.js';
import { downloadVolume } from '../../src/sync/restore.js';
import { runSync } from '../../src/sync/run.js';
import { cloneSnapshot } from '../../src/volume/clone.js';
import { BlockMap, NODE_SLOT_BYTES, type ReadNode } from '../../src/volume/block-map.js';
import { gather } from '../../src/volume/gather.js';
import { makeNodeReader } from '../../src/volume/node-reader.js';
import type { Volume } from '../../src/volume/volume.js';
import { partsOf } from '../support/inside.js';
import { keyFile, makeVolume, open } from '../support/volumes.js';
import { Dice, SimulatedClock, SimulatedRandomness } from './dice.js';
import { Ledger, Timeline, WatchedEngine, type DiskState } from './engine.js';
import { SimulatedFiles } from './files.js';
import { SimulatedRemote } from './remote.js';
import { turn } from './turn.js';

const BLOCK_BYTES = 4 * KIB;
const BLOCK_SLOT_BYTES = BLOCK_BYTES + 24;
const NOTHING = new Uint8Array(BLOCK_BYTES);
const MAX_MODEL_SNAPSHOTS = 6;

export interface SnapshotShape {
  readonly data: number;
  readonly parity: number;
  readonly sizeBytes: number;
}

/** What a snapshot, or the disk, must hold. */
interface Content {
  readonly sizeBytes: number;
  readonly blocks: ReadonlyMap<number, Uint8Array>;
}

interface Synced {
  readonly disk: Content;
  readonly snapshots: Map<string, Content>;
  readonly timeline: Timeline;
}

export class SnapshotWorld {
  readonly dice: Dice;
  /** How often each operation was begun. */
  readonly done: Map<string, number> = new Map();
  /** The last operations, for whoever looks for a failure. */
  readonly history: string[] = [];
  private readonly ledger = new Ledger();
  private timeline = new Timeline();
  private clock = new SimulatedClock();
  private volume: Volume | null = null;
  private folder = '/volume-0';
  private folders = 1;
  private names = 0;
  private disk: Map<number, Uint8Array> = new Map();
  private sizeBytes: number;
  private snapshots = new Map<string, Content>();
  /** The log is durable at least up to the commit before this one. */
  private floor = 0;
  private remote = new SimulatedRemote(() => this.files);
  /** What the remote may have been brought to: by the last whole sync, and by crashed ones since. */
  private synced: Synced[] = [];
  /** Slots may stand twice for the rest of this life. */
  private mayDouble = false;
  private readonly notices: string[] = [];

  private constructor(
    seed: number,
    private readonly shape: SnapshotShape,
    private files: SimulatedFiles,
  ) {
    this.dice = new Dice(seed);
    this.sizeBytes = shape.sizeBytes;
  }

  static async create(seed: number, shape: SnapshotShape): Promise<SnapshotWorld> {
    const world = new SnapshotWorld(seed, shape, new SimulatedFiles(seed));
    const { data, parity, sizeBytes } = shape;
    const options = { data, parity, sizeBytes, blockBytes: BLOCK_BYTES };
    await makeVolume(world.folder, options, world.environment());
    await world.reopen();
    return world;
  }

  /** One operation, with a crash in it now and then. */
  async step(): Promise<void> {
    if (this.dice.chance(0.03)) this.stopSoon();
    const operation = this.draw();
    const name = operation.name.replace('bound ', '');
    this.done.set(name, (this.done.get(name) ?? 0) + 1);
    this.history.push(name);
    if (this.history.length > 20) this.history.shift();
    const ended = await this.attempt(operation);
    if (ended !== 'stopped') return;
    if (name === 'sync') this.synced.push(this.asSynced());
    this.mayDouble = true;
    this.history.push('crash');
    this.done.set('crash', (this.done.get('crash') ?? 0) + 1);
    await this.recover();
  }

  /** Closes, opens and checks everything. */
  async finish(): Promise<void> {
    const works = (): 'works' => 'works';
    this.files.onCall = works;
    // The machine may have stopped behind the back of the last operation.
    while ((await this.attempt(() => this.checkEverything())) === 'stopped') {
      await this.recover();
      this.files.onCall = works;
    }
    await this.close();
    await this.closeOnly();
    if (this.ledger.violations.length > 0) throw new Error(this.ledger.violations[0]);
  }

  private draw(): () => Promise<void> {
    const kind = this.dice.below(1000);
    if (kind < 560) return this.write.bind(this);
    if (kind < 640) return this.zero.bind(this);
    if (kind < 740) return this.flush.bind(this);
    if (kind < 780) return this.snapshot.bind(this);
    if (kind < 815) return this.deleteSnapshot.bind(this);
    if (kind < 830) return this.rollback.bind(this);
    if (kind < 850) return this.collect.bind(this);
    if (kind < 890) return this.wait.bind(this);
    if (kind < 905) return this.seal.bind(this);
    if (kind < 920) return this.close.bind(this);
    if (kind < 935) return this.sync.bind(this);
    if (kind < 939) return this.restore.bind(this);
    if (kind < 945) return this.clone.bind(this);
    if (kind < 955) return this.resize.bind(this);
    if (kind < 960) return this.checkEverything.bind(this);
    return this.look.bind(this);
  }

  private async write(): Promise<void> {
    const { dice } = this;
    const bytes = dice.pick([1 + dice.below(300), BLOCK_BYTES, (1 + dice.below(24)) * BLOCK_BYTES]);
    const offset = this.drawOffset(bytes);
    const data = dice.bytes(bytes);
    // Half of the writes are first tried without a wait.
    const isDone = (offset / BLOCK_BYTES) % 2 === 0 && this.open.writeNow(offset, data);
    if (!isDone) await this.open.write(offset, data);
    this.change(offset, data);
  }

  private async zero(): Promise<void> {
    const { dice } = this;
    const most = dice.chance(0.1) ? this.sizeBytes : 64 * BLOCK_BYTES;
    const bytes = (1 + dice.below(Math.min(most, this.sizeBytes) / BLOCK_BYTES)) * BLOCK_BYTES;
    const offset = alignDown(this.drawOffset(bytes), BLOCK_BYTES);
    if (dice.chance(0.5)) await this.open.trim(offset, bytes);
    else await this.open.zero(offset, bytes);
    const first = offset / BLOCK_BYTES;
    for (let i = 0; i < bytes / BLOCK_BYTES; i++) this.disk.delete(first + i);
  }

  private async flush(): Promise<void> {
    await this.open.flush();
    await this.noteDurable();
  }

  private async snapshot(): Promise<void> {
    if (this.snapshots.size >= MAX_MODEL_SNAPSHOTS) return;
    const name = `s${this.names++}`;
    await this.open.createSnapshot(name);
    this.snapshots.set(name, this.content());
    await this.noteDurable();
  }

  private async deleteSnapshot(): Promise<void> {
    const names = [...this.snapshots.keys()].filter(() => this.dice.chance(0.4));
    await this.open.deleteSnapshots(names);
    for (const name of names) this.snapshots.delete(name);
  }

  private async rollback(): Promise<void> {
    if (this.snapshots.size === 0) return;
    const name = this.dice.pick([...this.snapshots.keys()]);
    const keepAs = `r${this.names++}`;
    await this.open.rollback(name, keepAs);
    this.snapshots.set(keepAs, this.content());
    const { sizeBytes, blocks } = this.snapshots.get(name)!;
    this.sizeBytes = sizeBytes;
    this.disk = new Map(blocks);
    this.mayDouble = true;
    await this.noteDurable();
  }

  private async collect(): Promise<void> {
    const aggressive = this.dice.chance(0.3);
    const { garbageBytes, liveBytes } = await this.open.collect({ aggressive });
    const { retiredBytes, groups } = await this.open.status();
    if (retiredBytes > 0) throw new Error(`a collection left ${retiredBytes} bytes of dead files`);
    await this.checkLiveness();
    // Each group has roots and padding; the collection's own work leaves maps that it wrote twice.
    const slack = groups.length * 128 * KIB + (1 + this.snapshots.size) * 512 * KIB;
    if (garbageBytes > liveBytes * 0.05 + slack) {
      throw new Error(`a collection left ${garbageBytes} bytes of garbage of ${liveBytes}`);
    }
    await this.noteDurable();
  }

  /** Time passes: batches are cut, and a collection in the background may begin. */
  private async wait(): Promise<void> {
    this.clock.advance(this.dice.below(3000));
    for (let i = this.dice.below(30); i > 0; i--) await turn();
  }

  private async seal(): Promise<void> {
    await this.open.sealNow();
    await this.noteDurable();
  }

  private async close(): Promise<void> {
    await this.closeOnly();
    await this.reopen();
  }

  private async closeOnly(): Promise<void> {
    const { volume } = this;
    this.volume = null;
    await volume?.close();
  }

  private async sync(): Promise<void> {
    const memory = new RemoteMemory(this.files, '/memory');
    const volume = this.open;
    await runSync(volume, this.remote, { memory, acceptFork: true, acceptRollback: true });
    this.synced = [this.asSynced()];
    await this.noteDurable();
  }

  /** Goes on with what the remote has, in another folder. */
  private async restore(): Promise<void> {
    if ((await this.remote.list('roots')).length === 0) return;
    const folder = this.newFolder();
    const memory = new RemoteMemory(this.files, `/memory-of${folder}`);
    await downloadVolume(this.environment(), this.remote, folder, { credential: keyFile, memory });
    const restored = await open(folder, { readOnly: true }, this.environment());
    const { sequence } = await restored.status();
    await restored.close();
    await this.closeOnly();
    this.folder = folder;
    this.timeline = this.synced
      .findLast(({ timeline }) => timeline.knows(sequence))!
      .timeline.copy();
    this.floor = 0;
    await this.reopen();
    const found = this.synced.find((each) => this.isNow(each));
    if (!found) throw new Error('what was restored is not what was synced');
    this.synced = [found];
  }

  private asSynced(): Synced {
    const snapshots = new Map(this.snapshots);
    return { disk: this.content(), snapshots, timeline: this.timeline.copy() };
  }

  /** Whether the disk and all snapshots are what they were when that was synced. */
  private isNow({ disk, snapshots }: Synced): boolean {
    const { size } = this.snapshots;
    return (
      isSameContent(this.content(), disk) &&
      snapshots.size === size &&
      [...snapshots].every(([name, content]) => {
        const now = this.snapshots.get(name);
        return now !== undefined && isSameContent(now, content);
      })
    );
  }

  /** Goes on with the clone. */
  private async clone(): Promise<void> {
    if (this.snapshots.size === 0) return;
    const name = this.dice.pick([...this.snapshots.keys()]);
    const folder = this.newFolder();
    await cloneSnapshot(this.open, name, folder);
    const { sizeBytes, blocks } = this.snapshots.get(name)!;
    await this.closeOnly();
    this.folder = folder;
    this.timeline = new Timeline();
    this.timeline.become({ sizeBytes, blocks: new Map(blocks), snapshots: new Map() });
    this.floor = 0;
    this.remote = new SimulatedRemote(() => this.files);
    this.synced = [];
    await this.reopen();
    this.expect('the clone', this.content(), { sizeBytes, blocks });
  }

  private async resize(): Promise<void> {
    const factor = this.dice.pick([0.5, 0.75, 1.25, 2, 4]);
    const blocks = Math.floor((this.sizeBytes * factor) / BLOCK_BYTES);
    const sizeBytes = Math.max(64, Math.min(blocks, 2 ** 18)) * BLOCK_BYTES;
    const isMapped = [...this.disk.keys()].some((block) => block * BLOCK_BYTES >= sizeBytes);
    try {
      await this.open.resize(sizeBytes);
      if (isMapped) throw new Error('a disk became smaller than what is mapped on it');
      this.sizeBytes = sizeBytes;
    } catch (error) {
      if (!isMapped || !isChunkvolError(error, 'usage')) throw error;
    }
  }

  private async look(): Promise<void> {
    const blocks = [...this.disk.keys()];
    if (blocks.length === 0) return;
    const first = this.dice.pick(blocks);
    const count = Math.min(1 + this.dice.below(40), this.sizeBytes / BLOCK_BYTES - first);
    const found = new Uint8Array(count * BLOCK_BYTES);
    await this.open.read(first * BLOCK_BYTES, found);
    compare('the disk', first, found, this.disk);
  }

  /** Reads the disk and all snapshots to the last byte. */
  private async checkEverything(): Promise<void> {
    const volume = this.open;
    await readWhole('the disk', volume, this.content());
    const names = volume.snapshots().map(({ name }) => name);
    if (names.toSorted().join() !== [...this.snapshots.keys()].toSorted().join()) {
      throw new Error(`there are the snapshots ${names.join()}`);
    }
    for (const [name, content] of this.snapshots) {
      const device = volume.openSnapshot(name);
      try {
        await readWhole(`snapshot ${name}`, device, content);
      } finally {
        device.close();
      }
    }
  }

  /**
   * What a walk of all maps together says is alive is what each map by itself names, and it holds every
   * version of a block once; more often only where a crash or a rollback came into a collection.
   */
  private async checkLiveness(): Promise<void> {
    await this.open.sealNow();
    const { end, slots } = partsOf(this.open);
    const { map, heads, groups } = end.parts;
    const trees = [map.root, ...heads.snapshots.map((snapshot) => snapshot.map)];
    const read = makeNodeReader(slots, groups);
    const { liveness } = await gather(trees, new Set(), BLOCK_SLOT_BYTES, read);
    const live = [...liveness.live.values()].reduce((sum, bytes) => sum + bytes, 0);
    const named = new Set<string>();
    const nodes = new Set<string>();
    const noLoss = (block: number): void => {
      throw new Error(`a node of the map cannot be read, at block ${block}`);
    };
    const readNode: ReadNode = (ordinal, position, level, index) => {
      nodes.add(`${ordinal} ${position}`);
      return read(ordinal, position, level, index);
    };
    for (const pointer of trees) {
      const tree = new BlockMap(pointer, 0, BLOCK_SLOT_BYTES, readNode, () => undefined);
      for await (const { ordinal, position } of tree.entries(noLoss))
        named.add(`${ordinal} ${position}`);
    }
    if (live !== named.size * BLOCK_SLOT_BYTES + nodes.size * NODE_SLOT_BYTES) {
      throw new Error(
        `${live} bytes are said to be alive: ${named.size} slots, ${nodes.size} nodes`,
      );
    }
    const wanted = this.distinctBlocks();
    if (named.size < wanted || (named.size > wanted && !this.mayDouble)) {
      throw new Error(`${wanted} versions of blocks stand in ${named.size} slots`);
    }
  }

  /** Versions of blocks that the disk and its snapshots hold, each counted once. */
  private distinctBlocks(): number {
    const versions = new Set<Uint8Array>();
    for (const { blocks } of [this.content(), ...this.snapshots.values()]) {
      for (const bytes of blocks.values()) versions.add(bytes);
    }
    return versions.size;
  }

  private async recover(): Promise<void> {
    this.volume = null;
    this.files.halt();
    const seed = this.dice.next();
    const powerFails = this.dice.chance(0.7);
    this.files = powerFails ? this.files.afterPowerCut(seed) : this.files.afterKill(seed);
    const now = this.clock.now();
    this.clock = new SimulatedClock();
    this.clock.advance(Math.max(0, now - this.clock.now()) + 1000);
    if (this.dice.chance(0.2)) this.stopSoon();
    if ((await this.attempt(() => this.reopen())) === 'stopped') await this.recover();
  }

  /** Opens the volume, and takes over, from the timeline, what it must hold. */
  private async reopen(): Promise<void> {
    const onNotice = (line: string): void => void this.notices.push(line);
    const volume = await open(this.folder, { onNotice }, this.environment());
    const { sequence } = await volume.status();
    if (sequence < this.floor) {
      throw new Error(`commit ${this.floor - 1} was flushed, and ${sequence} is the next`);
    }
    this.timeline.rewind(sequence);
    this.timeline.settle(sequence);
    this.take(this.timeline.diskBefore(sequence));
    this.volume = volume;
    if (volume.sizeBytes !== this.sizeBytes) throw new Error(`a disk of ${volume.sizeBytes} bytes`);
    await this.checkEverything();
  }

  private take(state: DiskState): void {
    this.sizeBytes = state.sizeBytes ?? this.shape.sizeBytes;
    this.disk = state.blocks;
    const snapshots = [...state.snapshots.values()].map((each) => [each.name, each] as const);
    this.snapshots = new Map<string, Content>(snapshots);
  }

  private async noteDurable(): Promise<void> {
    const { durableUpTo } = await this.open.status();
    this.floor = Math.max(this.floor, durableUpTo + 1);
  }

  private async attempt(work: () => Promise<void>): Promise<'ended' | 'stopped'> {
    const { files, clock } = this;
    const ended = work().then(() => 'ended' as const);
    return clock.during(Promise.race([ended, files.stopped.then(() => 'stopped' as const)]));
  }

  /** The machine stops at one of the next calls. */
  private stopSoon(): void {
    const at = this.files.calls + this.dice.below(this.dice.pick([10, 60, 400]));
    this.files.onCall = ({ index }) => (index >= at ? 'stop' : 'works');
  }

  private expect(what: string, found: Content, wanted: Content): void {
    if (!isSameContent(found, wanted)) throw new Error(`${what} is not what it was`);
  }

  private content(): Content {
    return { sizeBytes: this.sizeBytes, blocks: new Map(this.disk) };
  }

  private change(offset: number, data: Uint8Array): void {
    const last = Math.floor((offset + data.length - 1) / BLOCK_BYTES);
    for (let block = Math.floor(offset / BLOCK_BYTES); block <= last; block++) {
      const start = block * BLOCK_BYTES;
      const bytes = (this.disk.get(block) ?? NOTHING).slice();
      const from = Math.max(start, offset);
      const part = data.subarray(
        from - offset,
        Math.min(start + BLOCK_BYTES, offset + data.length) - offset,
      );
      bytes.set(part, from - start);
      this.disk.set(block, bytes);
    }
  }

  private drawOffset(bytes: number): number {
    const { dice } = this;
    const room = Math.max(1, this.sizeBytes - bytes + 1);
    // Most of it comes down on little ground, so that there is something to overwrite.
    const ground = dice.chance(0.8) ? Math.min(room, MIB) : room;
    const offset = dice.below(ground);
    return dice.chance(0.6) ? offset - (offset % BLOCK_BYTES) : offset;
  }

  private newFolder(): string {
    return `/volume-${this.folders++}`;
  }

  private get open(): Volume {
    return this.volume!;
  }

  private environment(): Environment {
    return {
      files: this.files,
      clock: this.clock,
      random: new SimulatedRandomness(this.dice.fork()),
      engine: new WatchedEngine(chooseEngine(), this.ledger, this.timeline),
    };
  }
}

async function readWhole(
  what: string,
  device: { sizeBytes: number; read(offset: number, into: Uint8Array): Promise<void> },
  { sizeBytes, blocks }: Content,
): Promise<void> {
  if (device.sizeBytes !== sizeBytes) throw new Error(`${what} has ${device.sizeBytes} bytes`);
  const some = [...blocks.keys()].sort((a, b) => a - b);
  // Where nothing is said to be there are zeros; a look at the first megabytes will do.
  const wanted = new Set([...some, ...Array.from({ length: 300 }, (_, block) => block)]);
  const order = [...wanted].filter((block) => block * BLOCK_BYTES < sizeBytes);
  order.sort((a, b) => a - b);
  for (let start = 0; start < order.length;) {
    let end = start + 1;
    while (end < order.length && order[end] === order[end - 1]! + 1) end++;
    const found = new Uint8Array((end - start) * BLOCK_BYTES).fill(0xee);
    await device.read(order[start]! * BLOCK_BYTES, found);
    compare(what, order[start]!, found, blocks);
    start = end;
  }
}

function compare(
  what: string,
  first: number,
  found: Uint8Array,
  blocks: ReadonlyMap<number, Uint8Array>,
): void {
  for (let i = 0; i < found.length / BLOCK_BYTES; i++) {
    const bytes = found.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
    if (!isSame(blocks.get(first + i), bytes)) {
      throw new Error(`block ${first + i} of ${what} is not what it must be`);
    }
  }
}

function isSameContent(one: Content, other: Content): boolean {
  return (
    one.sizeBytes === other.sizeBytes &&
    one.blocks.size === other.blocks.size &&
    [...one.blocks].every(([block, bytes]) => isSame(other.blocks.get(block), bytes))
  );
}

function isSame(wanted: Uint8Array | undefined, found: Uint8Array): boolean {
  return Buffer.compare(wanted ?? NOTHING, found) === 0;
}
