/**
 * A simulated world: one volume on simulated files, an oracle beside it, and a seed that decides
 * everything. `step` does something to the volume, `reopen` finds it again after whatever happened.
 *
 * Three things are demanded of a volume that was opened again: each block is something that it may be
 * (the oracle); all blocks together, size and snapshots are the state after some commit (the timeline),
 * and after none before the last that must be there; and what was published and encrypted met no second
 * content (the ledger). What changes the disk as a whole is in heads.ts.
 */
import { GIB, KIB, MIB } from '../../src/base/bytes.js';
import { isChunkvolError } from '../../src/base/errors.js';
import { chooseEngine } from '../../src/crypto/engines.js';
import type { Environment } from '../../src/store/context.js';
import type { OpenOptions } from '../../src/volume/open.js';
import type { Volume } from '../../src/volume/volume.js';
import { Dice, SimulatedClock, SimulatedRandomness } from './dice.js';
import { DiskOracle } from './disk-oracle.js';
import { Ledger, Timeline, WatchedEngine, type DiskState } from './engine.js';
import { SimulatedFiles } from './files.js';
import { LateWorkers } from './late-workers.js';
import type { SimulatedRemote } from './remote.js';
import { makeVolume, open } from '../support/volumes.js';

export const FOLDER = '/volume';
export const BLOCK_BYTES: number = 4 * KIB;
const ZEROS = new Uint8Array(BLOCK_BYTES);
const PUBLISHED = /^\/volume\/(?:chunks|roots|keys)\/[0-9a-f]{32}$/;

export interface Shape {
  readonly data: number;
  readonly parity: number;
  readonly sizeBytes: number;
}

/** Small groups, and maps of one, two and three levels. */
export const SHAPES: readonly Shape[] = [
  { data: 4, parity: 2, sizeBytes: 16 * MIB },
  { data: 2, parity: 1, sizeBytes: 4 * GIB },
  { data: 1, parity: 0, sizeBytes: 2 * MIB },
  { data: 3, parity: 0, sizeBytes: 64 * MIB },
];

/** What came of something that was tried: it worked, it failed, or the machine stopped meanwhile. */
export type Attempt<T> =
  | { readonly kind: 'worked'; readonly value: T }
  | { readonly kind: 'failed'; readonly error: unknown }
  | { readonly kind: 'stopped' };

/** Where volumes are read into that were just opened, one after the other: new memory costs more than to read. */
const adopted = new Uint8Array(16 * MIB);
const templates = new Map<string, Promise<SimulatedFiles>>();

export class World {
  readonly dice: Dice;
  clock: SimulatedClock = new SimulatedClock();
  volume: Volume | null = null;
  private kernel: SimulatedRandomness | null = null;
  readonly notices: string[] = [];
  /** Errors that operations may end with. */
  tolerated: readonly Parameters<typeof isChunkvolError>[1][] = [];
  /** The commit before this one, and all before it, must be found again whatever happens. */
  floor = 0;
  /** Whether other threads take work, and now and then one of them fails. */
  threads: 'none' | 'sound' | 'failing' = 'none';
  /** Where this volume is synced to; null when it is not. */
  remote: SimulatedRemote | null = null;
  /** What is on the remote is at least the state before this commit. */
  synced = 0;

  private constructor(
    readonly shape: Shape,
    seed: number,
    public files: SimulatedFiles,
    readonly ledger: Ledger,
    readonly timeline: Timeline,
    public oracle: DiskOracle,
  ) {
    this.dice = new Dice(seed);
  }

  /** An empty volume of this shape, not open. */
  static async create(seed: number, shape: Shape, ledger: Ledger = new Ledger()): Promise<World> {
    const key = JSON.stringify(shape);
    const template = templates.get(key) ?? makeTemplate(shape);
    templates.set(key, template);
    const files = (await template).copied(seed, 'machine');
    return new World(shape, seed, files, ledger, new Timeline(), new DiskOracle(BLOCK_BYTES));
  }

  /** The same state on another machine, with a past in common and a future of its own. */
  fork(
    seed: number,
    machine: string,
    files: SimulatedFiles = this.files.copied(seed, machine),
  ): World {
    const fork = new World(
      this.shape,
      seed,
      files,
      this.ledger,
      this.timeline.copy(),
      this.oracle.copy(),
    );
    fork.floor = this.floor;
    fork.remote = this.remote?.copy(() => fork.files) ?? null;
    fork.synced = this.synced;
    return fork;
  }

  /**
   * From here on this world is a clone of all others that came from the same seed: the same memory, and a
   * kernel whose generator was seeded anew.
   */
  divergeAs(seed: number): void {
    this.dice.reseed(seed);
    this.kernel?.reseed(seed + 1);
  }

  /** Opens the volume; what it finds is not checked yet. */
  open(options: Partial<OpenOptions> = {}): Promise<Attempt<Volume>> {
    const onNotice = (line: string): void => void this.notices.push(line);
    return this.attempt(() => open(FOLDER, { onNotice, ...options }, this.environment(this.files)));
  }

  /** Opens the volume, which must work, and checks all of it. */
  async reopen(options: Partial<OpenOptions> = {}): Promise<void> {
    const opened = await this.open(options);
    if (opened.kind === 'failed') throw opened.error;
    if (opened.kind === 'stopped') throw new Error('the machine stopped');
    await this.adopt(opened.value);
  }

  /**
   * Checks a volume that was just opened, and goes on with it. `mayBeOlder`: the state after any commit
   * will do, whatever was flushed since.
   */
  async adopt(volume: Volume, mayBeOlder = false): Promise<void> {
    const { sequence } = await volume.status();
    if (mayBeOlder) this.floor = 0;
    if (sequence < this.floor) {
      throw new Error(`commit ${this.floor - 1} was acknowledged, and ${sequence} is the next`);
    }
    this.timeline.rewind(sequence);
    const disk = this.timeline.diskBefore(sequence);
    const state = disk.blocks;
    if (mayBeOlder) this.oracle = DiskOracle.of(BLOCK_BYTES, state);
    const found = await readBlocks(volume, this.interestingBlocks(), adopted);
    for (const [block, bytes] of found) this.oracle.settle(block, bytes);
    checkBlocks(found, state, `after commit ${sequence - 1}`);
    await checkExtents(volume, state);
    await checkHeads(volume, disk, this.shape.sizeBytes);
    // What was found once is found again.
    this.floor = sequence;
    this.volume = volume;
    this.checkLedger();
  }

  /** Holds a copy that nobody writes to against the state before commit `sequence`. */
  async checkCopy(volume: Volume, sequence: number): Promise<void> {
    const disk = this.timeline.diskBefore(sequence);
    const found = await readBlocks(volume, this.interestingBlocks());
    checkBlocks(found, disk.blocks, `after commit ${sequence - 1}`);
    await checkHeads(volume, disk, this.shape.sizeBytes);
  }

  /** What the disk under a volume that is not open would give, read without changing anything. */
  async readWithoutTouching(): Promise<Map<number, Uint8Array>> {
    const files = this.files.afterKill(this.dice.next());
    const before = files.snapshot(FOLDER);
    const volume = await open(FOLDER, { readOnly: true }, this.environment(files));
    const found = await readBlocks(volume, this.interestingBlocks());
    await volume.close();
    if (before.join() !== files.snapshot(FOLDER).join())
      throw new Error('a read-only volume changed its folder');
    return found;
  }

  /** An error, with what the volume had to say before it. */
  explained(error: unknown): Error {
    const what = error instanceof Error ? error.message : String(error);
    return new Error([what, ...this.notices].join('\n  '), { cause: error });
  }

  /** One operation, or a few at once. False when the machine stopped. */
  async step(): Promise<boolean> {
    const { dice } = this;
    const volume = this.volume!;
    const kind = dice.below(100);
    if (kind < 55) return this.change(this.drawChange());
    if (kind < 62) return this.burst();
    if (kind < 76) return this.flush(() => volume.flush());
    if (kind < 82) {
      this.clock.advance(dice.below(1200));
      return true;
    }
    if (kind < 86) return this.seal();
    return this.look();
  }

  private async sealNow(volume: Volume): Promise<void> {
    const { root } = await volume.sealNow();
    const { sequence } = await volume.status();
    const sealed = this.timeline.stateBefore(root.tail.sequence);
    const present = this.timeline.stateBefore(sequence);
    const same = [...present].every(([block, bytes]) => sealed.get(block) === bytes);
    if (!root.closed || !same || sealed.size !== present.size) {
      throw new Error('the root of a seal has not all that was written');
    }
  }

  /** Closes the volume. */
  async close(): Promise<Attempt<void>> {
    const volume = this.volume!;
    this.volume = null;
    const flushed = this.oracle.flushing();
    const closed = await this.attempt(() => volume.close());
    if (closed.kind === 'worked') flushed();
    return closed;
  }

  /** The power fails now. */
  cutPower(): void {
    this.checkLedger();
    this.files.halt();
    this.files = this.files.afterPowerCut(this.dice.next());
    this.restart();
  }

  /** The process is killed now, and the machine runs on. */
  kill(): void {
    this.checkLedger();
    this.files.halt();
    this.files = this.files.afterKill(this.dice.next());
    this.restart();
  }

  /** Throws when a key, a nonce or a name was used twice. */
  checkLedger(): void {
    for (const path of this.files.paths(FOLDER)) {
      if (PUBLISHED.test(path)) this.ledger.content(path, this.files.checksum(path));
    }
    if (this.ledger.violations.length > 0) throw new Error(this.ledger.violations[0]);
  }

  /** Reads everything that was ever written of the open volume, and its snapshots. */
  async checkAll(): Promise<void> {
    const found = await readBlocks(this.volume!, this.interestingBlocks());
    for (const [block, bytes] of found) this.oracle.checkPresent(block, bytes);
    await checkHeads(this.volume!, this.timeline.diskBefore(Infinity), this.shape.sizeBytes);
  }

  async flush(work: () => Promise<unknown> = () => this.volume!.flush()): Promise<boolean> {
    const flushed = this.oracle.flushing();
    const done = await this.attempt(work);
    if (done.kind === 'failed') this.tolerate(done.error);
    if (done.kind === 'worked') flushed();
    return done.kind !== 'stopped';
  }

  /** Seals what there is, and checks that the root has all of it. */
  seal(): Promise<boolean> {
    return this.flush(() => this.sealNow(this.volume!));
  }

  /** One write, zero or trim. */
  async change(change: Change): Promise<boolean> {
    const { offset, bytes, data, durable } = change;
    const volume = this.volume!;
    const blocks = this.oracle.announce(offset, bytes, data);
    const done = await this.attempt(() => {
      // Half of the writes are first tried without a wait.
      const isNow = data && !durable && (offset / BLOCK_BYTES) % 2 === 0;
      if (isNow && volume.writeNow(offset, data)) return Promise.resolve();
      if (data) return volume.write(offset, data, { durable });
      return change.trim
        ? volume.trim(offset, bytes, { durable })
        : volume.zero(offset, bytes, { durable });
    });
    if (done.kind === 'stopped') return false;
    if (done.kind === 'failed') {
      this.tolerate(done.error);
      return this.lookAgain(blocks);
    }
    this.oracle.acknowledge(blocks);
    if (durable) this.oracle.flushing(blocks)();
    return true;
  }

  tolerate(error: unknown): void {
    if (!isChunkvolError(error) || !this.tolerated.includes(error.code)) throw error;
  }

  async attempt<T>(work: () => Promise<T>): Promise<Attempt<T>> {
    const settled = work().then(
      (value): Attempt<T> => ({ kind: 'worked', value }),
      (error: unknown): Attempt<T> => ({ kind: 'failed', error }),
    );
    const stopped = this.files.stopped.then((): Attempt<T> => ({ kind: 'stopped' }));
    return this.clock.during(Promise.race([settled, stopped]));
  }

  drawChange(start = 0, end: number = this.volume!.sizeBytes): Change {
    const { dice } = this;
    const kind = dice.below(10);
    let bytes = dice.pick([
      1 + dice.below(100),
      BLOCK_BYTES,
      1 + dice.below(20_000),
      dice.below(8) * BLOCK_BYTES,
      dice.below(400_000),
    ]);
    bytes = Math.max(1, Math.min(bytes, end - start));
    // Most of it comes down on little ground, so that there is something to overwrite.
    const ground = dice.chance(0.7) ? Math.min(end - start, 768 * KIB) : end - start;
    let offset = start + dice.below(Math.max(1, ground - bytes + 1));
    if (dice.chance(0.5)) offset -= offset % BLOCK_BYTES;
    offset = Math.max(start, offset);
    const durable = dice.chance(0.08);
    if (kind < 7) return { offset, bytes, data: this.drawData(bytes), trim: false, durable };
    if (dice.chance(0.3)) bytes = Math.min(end - offset, bytes * 20);
    const trim = dice.chance(0.5);
    if (!trim) return { offset, bytes, data: null, trim, durable };
    offset -= offset % BLOCK_BYTES;
    bytes = Math.max(BLOCK_BYTES, bytes - (bytes % BLOCK_BYTES));
    return { offset, bytes, data: null, trim, durable };
  }

  private drawData(bytes: number): Uint8Array {
    const data = this.dice.bytes(bytes);
    if (this.dice.chance(0.1)) data.fill(0);
    const zerosFrom = this.dice.below(bytes * 10);
    if (zerosFrom < bytes) data.fill(0, zerosFrom);
    return data;
  }

  /** Several operations at once, each on ground of its own, with a flush among them. */
  private async burst(): Promise<boolean> {
    const count = 2 + this.dice.below(4);
    const ground = Math.floor(this.volume!.sizeBytes / BLOCK_BYTES / count) * BLOCK_BYTES;
    const work: Promise<boolean>[] = [];
    for (let i = 0; i < count; i++) {
      work.push(this.change(this.drawChange(i * ground, (i + 1) * ground)));
      if (this.dice.chance(0.3)) work.push(this.flush());
    }
    return (await Promise.all(work)).every(Boolean);
  }

  /** Reads some of the blocks that were ever written. False when the machine stopped. */
  async look(): Promise<boolean> {
    const blocks = this.oracle.blocks;
    if (blocks.length === 0) return true;
    const from = this.dice.below(blocks.length);
    const some = blocks.slice(from, from + 1 + this.dice.below(40));
    const found = await this.attempt(() => readBlocks(this.volume!, some));
    if (found.kind === 'failed') this.tolerate(found.error);
    if (found.kind !== 'worked') return found.kind === 'failed';
    for (const [block, bytes] of found.value) this.oracle.checkPresent(block, bytes);
    return true;
  }

  /** After an operation failed: each of its blocks is as before or as after. */
  async lookAgain(blocks: readonly number[]): Promise<boolean> {
    const found = await this.attempt(() => readBlocks(this.volume!, blocks));
    if (found.kind !== 'worked') {
      if (found.kind === 'failed') this.tolerate(found.error);
      return found.kind === 'failed';
    }
    for (const [block, bytes] of found.value) this.oracle.observe(block, bytes);
    this.oracle.acknowledge(blocks);
    return true;
  }

  interestingBlocks(): number[] {
    const limit = this.shape.sizeBytes / BLOCK_BYTES;
    const some = Array.from({ length: 4 }, () => this.dice.below(limit));
    return [...new Set([...this.oracle.blocks, ...some])].sort((a, b) => a - b);
  }

  private restart(): void {
    this.volume = null;
    const now = this.clock.now();
    this.clock = new SimulatedClock();
    this.clock.advance(now - this.clock.now() + 1000);
  }

  environment(files: SimulatedFiles = this.files): Environment {
    this.kernel = new SimulatedRandomness(this.dice.fork());
    const engine = new WatchedEngine(chooseEngine(), this.ledger, this.timeline);
    const world = { files, clock: this.clock, random: this.kernel, engine };
    if (this.threads === 'none') return world;
    const failureChance = this.threads === 'failing' ? 0.02 : 0;
    return { ...world, workers: new LateWorkers(engine, this.dice.fork(), failureChance) };
  }
}

export interface Change {
  readonly offset: number;
  readonly bytes: number;
  /** null: zeros, or a trim. */
  readonly data: Uint8Array | null;
  readonly trim: boolean;
  readonly durable: boolean;
}

async function makeTemplate({ data, parity, sizeBytes }: Shape): Promise<SimulatedFiles> {
  const files = new SimulatedFiles(1);
  const dice = new Dice(1);
  const environment = {
    files,
    clock: new SimulatedClock(),
    random: new SimulatedRandomness(dice),
    engine: chooseEngine(),
  };
  await makeVolume(FOLDER, { data, parity, sizeBytes, blockBytes: BLOCK_BYTES }, environment);
  return files;
}

/**
 * The blocks, ascending, each read with its neighbours where they are asked for too. Zeros are found beyond
 * the end of the disk. What was found is a part of `memory`, if that is long enough.
 */
export async function readBlocks(
  volume: Pick<Volume, 'sizeBytes' | 'read'>,
  blocks: readonly number[],
  memory: Uint8Array = new Uint8Array(0),
): Promise<Map<number, Uint8Array>> {
  const bytes = blocks.length * BLOCK_BYTES;
  const all = memory.length < bytes ? new Uint8Array(bytes) : memory.subarray(0, bytes);
  const limit = volume.sizeBytes / BLOCK_BYTES;
  for (let start = 0; start < blocks.length;) {
    let end = start + 1;
    while (end < blocks.length && blocks[end] === blocks[end - 1]! + 1) end++;
    const into = all.subarray(start * BLOCK_BYTES, end * BLOCK_BYTES).fill(0xee);
    const inside = Math.max(0, Math.min(blocks[start]! + (end - start), limit) - blocks[start]!);
    into.fill(0, inside * BLOCK_BYTES);
    if (inside > 0) {
      await volume.read(blocks[start]! * BLOCK_BYTES, into.subarray(0, inside * BLOCK_BYTES));
    }
    start = end;
  }
  return new Map(
    blocks.map((block, i) => [block, all.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES)]),
  );
}

/** `when`: of what moment `wanted` is. */
function checkBlocks(
  found: ReadonlyMap<number, Uint8Array>,
  wanted: ReadonlyMap<number, Uint8Array>,
  when: string,
): void {
  for (const [block, bytes] of found) {
    if (Buffer.compare(bytes, wanted.get(block) ?? ZEROS) === 0) continue;
    throw new Error(`block ${block} is not as ${when}`);
  }
}

/** Size and snapshots, each of them read wherever it or its neighbours hold anything. */
async function checkHeads(volume: Volume, disk: DiskState, sizeBytes: number): Promise<void> {
  const wanted = disk.sizeBytes ?? sizeBytes;
  if (volume.sizeBytes !== wanted) throw new Error(`a disk of ${volume.sizeBytes}, not ${wanted}`);
  const snapshots = [...disk.snapshots.values()];
  const names = volume.snapshots().map(({ name }) => name);
  if (
    names.toSorted().join() !==
    snapshots
      .map(({ name }) => name)
      .toSorted()
      .join()
  ) {
    throw new Error(`there are the snapshots ${names.join()}`);
  }
  const written = [disk, ...snapshots].flatMap(({ blocks }) => [...blocks.keys()]);
  const blocks = [...new Set(written)].sort((a, b) => a - b);
  for (const snapshot of snapshots) {
    const device = volume.openSnapshot(snapshot.name);
    try {
      if (device.sizeBytes !== snapshot.sizeBytes) {
        throw new Error(`snapshot ${snapshot.name} has ${device.sizeBytes} bytes`);
      }
      checkBlocks(await readBlocks(device, blocks), snapshot.blocks, `in ${snapshot.name}`);
    } finally {
      device.close();
    }
  }
}

/** No block that holds anything may be in what is said to be a hole. */
async function checkExtents(volume: Volume, state: ReadonlyMap<number, Uint8Array>): Promise<void> {
  const blocks = [...state.keys()].sort((a, b) => a - b);
  let at = 0;
  let next = 0;
  while (at < volume.sizeBytes) {
    const extents = await volume.extents(at, volume.sizeBytes - at, 100);
    for (const { bytes, hole } of extents) {
      at += bytes;
      while (next < blocks.length && blocks[next]! * BLOCK_BYTES < at) {
        const block = blocks[next++]!;
        if (hole && state.get(block)!.some((byte) => byte !== 0)) {
          throw new Error(`block ${block} is said to be a hole`);
        }
      }
    }
  }
}
