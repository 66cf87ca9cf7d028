/**
 * What a disk may hold after anything that can befall it: an oracle over units of 1 KiB, and a load of
 * random requests on several connections that keeps the oracle informed.
 *
 * Each unit has a history: the versions that were written to it, the oldest first. A version is a
 * positive number for contents that derive from it and from the unit's place, and a number that is not
 * positive for zeros. The entry at `durable` and those after it are what the disk may show after a
 * crash; before it, nothing may be shown again. Requests in flight never overlap, so that their order
 * is known; they do share blocks of 4 KiB.
 */
import type { NbdClient } from '../../src/nbd/client.js';
import { NbdError } from '../../src/nbd/errno.js';

export const UNIT_BYTES = 1024;
const BLOCK_UNITS = 4;
const READ_UNITS = 4096;
const MAX_NAMED_FAULTS = 5;

export interface Operation {
  readonly kind: 'data' | 'zero';
  readonly version: number;
  readonly firstUnit: number;
  readonly units: number;
}

/** For each unit an index into its history. */
export type Marks = Int32Array;

export class VersionedDisk {
  readonly #histories: number[][];
  readonly #durable: Marks;
  readonly #busy: Uint8Array;
  #lastVersion = 0;
  /** Acknowledged and not known to be flushed. */
  #unflushed: Operation[] = [];
  /** The last versions begun before flushes that were answered. */
  readonly #flushes: number[] = [];

  constructor(readonly units: number) {
    this.#histories = Array.from({ length: units }, () => [0]);
    this.#durable = new Int32Array(units);
    this.#busy = new Uint8Array(units);
  }

  get version(): number {
    return this.#lastVersion;
  }

  isFree(firstUnit: number, units: number): boolean {
    return !this.#busy.subarray(firstUnit, firstUnit + units).includes(1);
  }

  /** A request is about to be sent: from now on the disk may show it. */
  begin(kind: Operation['kind'], firstUnit: number, units: number): Operation {
    const operation = { kind, version: ++this.#lastVersion, firstUnit, units };
    for (let unit = firstUnit; unit < firstUnit + units; unit++) {
      this.#busy[unit] = 1;
      this.#histories[unit]!.push(kind === 'data' ? operation.version : -operation.version);
    }
    return operation;
  }

  /** The request was answered; `durable` if that promised that it will stay. */
  acknowledge(operation: Operation, durable: boolean): void {
    const { firstUnit, units } = operation;
    this.#busy.fill(0, firstUnit, firstUnit + units);
    if (durable) this.#settle(operation);
    else this.#unflushed.push(operation);
  }

  /** A flush is about to be sent: returns what must be called when it is answered. */
  beginFlush(): () => void {
    const covered = new Set(this.#unflushed);
    const version = this.#lastVersion;
    return () => {
      this.#flushes.push(version);
      for (const operation of covered) this.#settle(operation);
      this.#unflushed = this.#unflushed.filter((operation) => !covered.has(operation));
    };
  }

  /** The last acknowledged version of each unit, now. */
  acknowledged(): Marks {
    return Int32Array.from(this.#histories, (history, unit) => {
      return Math.max(this.#durable[unit]!, history.length - 1 - this.#busy[unit]!);
    });
  }

  /** The versions that must be there at least. */
  durable(): Marks {
    return this.#durable.slice();
  }

  /** Throws unless each unit shows its version at `floor` or a later one; returns what they show. */
  async check(
    read: (offset: number, bytes: number) => Promise<Uint8Array>,
    floor: Marks = this.#durable,
  ): Promise<Marks> {
    const shown = new Int32Array(this.units);
    const faults: string[] = [];
    for (let from = 0; from < this.units; from += READ_UNITS) {
      const count = Math.min(READ_UNITS, this.units - from);
      const bytes = await read(from * UNIT_BYTES, count * UNIT_BYTES);
      for (let i = 0; i < count; i++) {
        const unit = from + i;
        const contents = bytes.subarray(i * UNIT_BYTES, (i + 1) * UNIT_BYTES);
        shown[unit] = this.#indexOf(unit, contents, floor[unit]!);
        if (shown[unit] < 0) faults.push(this.#fault(unit, contents, floor[unit]!));
      }
    }
    if (faults.length > 0) {
      const named = faults.slice(0, MAX_NAMED_FAULTS).join('\n');
      throw new Error(`${faults.length} units show what they must not:\n${named}`);
    }
    return shown;
  }

  /**
   * Whether nothing is shown from after a flush unless all from before it is, for a load that sent its
   * requests one after the other.
   */
  isInOrder(shown: Marks): boolean {
    const newest = this.#histories.reduce((version, history, unit) => {
      return Math.max(version, history[shown[unit]!]!);
    }, 0);
    const flushed = this.#flushes.findLast((version) => version < newest) ?? 0;
    return this.#histories.every((history, unit) => {
      const next = history[shown[unit]! + 1];
      return next === undefined || Math.abs(next) > flushed;
    });
  }

  /** After a crash: what the disk shows now is what it will go on from, and keeps. */
  settleOn(shown: Marks): void {
    this.#unflushed = [];
    this.#busy.fill(0);
    this.#durable.set(shown);
    for (const [unit, history] of this.#histories.entries()) history.length = shown[unit]! + 1;
  }

  #settle({ kind, version, firstUnit, units }: Operation): void {
    const entry = kind === 'data' ? version : -version;
    for (let unit = firstUnit; unit < firstUnit + units; unit++) {
      const index = this.#histories[unit]!.lastIndexOf(entry);
      this.#durable[unit] = Math.max(this.#durable[unit]!, index);
    }
  }

  #indexOf(unit: number, contents: Uint8Array, floor: number): number {
    const version = versionOf(unit, contents);
    const history = this.#histories[unit]!;
    for (let index = history.length - 1; index >= floor; index--) {
      const entry = history[index]!;
      if (entry === version || (entry <= 0 && version === 0)) return index;
    }
    return -1;
  }

  #fault(unit: number, contents: Uint8Array, floor: number): string {
    const version = versionOf(unit, contents);
    const shown = version === null ? 'bytes of no version' : `version ${version}`;
    const allowed = this.#histories[unit]!.slice(floor).join(', ');
    return `unit ${unit} at ${unit * UNIT_BYTES} shows ${shown} instead of one of ${allowed}`;
  }
}

/** Whether what a unit shows is its last version up to `point`; zeros of any version look the same. */
/** The contents of consecutive units in one version. */
export function contentsOf({ version, firstUnit, units }: Operation): Uint8Array {
  const bytes = new Uint8Array(units * UNIT_BYTES);
  for (let i = 0; i < units; i++) {
    fill(bytes.subarray(i * UNIT_BYTES, (i + 1) * UNIT_BYTES), firstUnit + i, version);
  }
  return bytes;
}

/** Words that derive from place and version, both of which the first two are. */
function fill(bytes: Uint8Array, unit: number, version: number): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, UNIT_BYTES / 4);
  words[0] = version;
  words[1] = unit;
  let state = (Math.imul(unit + 1, 2654435761) ^ Math.imul(version, 40503)) | 1;
  for (let i = 2; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
}

/** 0 for zeros, null for anything that was never written to this unit. */
function versionOf(unit: number, contents: Uint8Array): number | null {
  const version =
    contents[0]! + contents[1]! * 2 ** 8 + contents[2]! * 2 ** 16 + contents[3]! * 2 ** 24;
  const expected = new Uint8Array(UNIT_BYTES);
  if (version !== 0) fill(expected, unit, version);
  return Buffer.compare(contents, expected) === 0 ? version : null;
}

export interface LoadOptions {
  readonly random: () => number;
  /** Requests in flight on each connection. */
  readonly depth?: number;
  /** How long to wait after an answer before the next request. */
  readonly pauseMs?: number;
}

/** Random requests on all of `clients` until `stop`, or until the connections are lost. */
export class Load {
  /** Requests that were answered. */
  answered = 0;
  /** Refusals of the server; a lost connection is none. */
  readonly refusals: NbdError[] = [];
  readonly #workers: Promise<void>[];
  #stopping = false;

  constructor(
    private readonly disk: VersionedDisk,
    clients: readonly NbdClient[],
    private readonly options: LoadOptions,
  ) {
    const { depth = 4 } = options;
    this.#workers = clients.flatMap((client) =>
      Array.from({ length: depth }, () => this.#work(client)),
    );
  }

  /** Sends no more and waits for the answers, or for the loss of the connections. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#workers);
  }

  async #work(client: NbdClient): Promise<void> {
    const { pauseMs = 0 } = this.options;
    while (!this.#stopping) {
      try {
        await this.#request(client);
        this.answered++;
        if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
      } catch (error) {
        if (!(error instanceof NbdError)) return;
        this.refusals.push(error);
        return;
      }
    }
  }

  async #request(client: NbdClient): Promise<void> {
    const { disk } = this;
    const dice = this.options.random();
    if (dice < 0.06) {
      const onFlushed = disk.beginFlush();
      await client.flush();
      onFlushed();
    } else if (dice < 0.16) {
      // Whole blocks, as what is not whole may stay as it was.
      const [block, blocks] = this.#range(disk.units / BLOCK_UNITS, 32, BLOCK_UNITS);
      const operation = disk.begin('zero', block * BLOCK_UNITS, blocks * BLOCK_UNITS);
      const range = [operation.firstUnit * UNIT_BYTES, operation.units * UNIT_BYTES] as const;
      const durable = dice < 0.08;
      if (dice < 0.12) await client.trim(...range, { durable });
      else await client.writeZeroes(...range, { durable });
      disk.acknowledge(operation, durable);
    } else {
      const [unit, units] = this.#range(disk.units, dice < 0.2 ? 512 : 48, 1);
      const operation = disk.begin('data', unit, units);
      const durable = dice > 0.92;
      await client.write(unit * UNIT_BYTES, contentsOf(operation), { durable });
      disk.acknowledge(operation, durable);
    }
  }

  /** A start and a length, in parts of `unitsEach`, that no request in flight touches. */
  #range(parts: number, maxParts: number, unitsEach: number): [number, number] {
    const { random } = this.options;
    for (;;) {
      const length = 1 + Math.floor(random() * maxParts);
      const start = Math.floor(random() * (parts - length));
      if (this.disk.isFree(start * unitsEach, length * unitsEach)) return [start, length];
    }
  }
}

/** Numbers from 0 to 1 that a seed determines. */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
