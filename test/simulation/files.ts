/**
 * Files in memory, driven by a seed, that do to a volume what a kernel and a disk may do.
 *
 * - Calls take a while, in an order that the seed decides; they overlap as those of a real system do.
 * - Bytes are durable after a successful `sync` only, names after `syncFolder` only; `afterPowerCut`
 *   gives one of the states in which a disk may be found. A rename that was not made durable shows the
 *   old name or the new one. Folders themselves are always there.
 * - `onCall` makes single calls fail, or stops the machine at one: no call after it ever returns.
 * - `onEffect` is told of each call when it has had its effect and nobody knows of it yet: the moment of
 *   a crash that a sweep over all of them looks at.
 * - `capacityBytes` is the size of the disk: what goes beyond it fails with ENOSPC, half done.
 *
 * A failed call may have taken effect in part. A failed fsync loses the unsynced bytes of its file.
 */
import { fromSystem } from '../../src/base/errors.js';
import type { Files, FileStat, OpenFile, OpenMode } from '../../src/base/files.js';
import { SimulatedContent } from './content.js';
import { Dice } from './dice.js';
import { turn } from './turn.js';

export type CallKind =
  | 'open'
  | 'create'
  | 'read'
  | 'write'
  | 'sync'
  | 'truncate'
  | 'stat'
  | 'list'
  | 'rename'
  | 'link'
  | 'remove'
  | 'syncFolder'
  | 'touch'
  | 'freeBytes';

export interface Call {
  readonly kind: CallKind;
  readonly path: string;
  /** Counts from 0, over all calls of these files. */
  readonly index: number;
}

/** What becomes of a call: it works, it fails, or the machine stops here. */
export type Outcome = 'works' | 'EIO' | 'ENOSPC' | 'stop';

/** A creation (`to`), removal (`from`) or rename (both) that is not durable yet. */
interface NameChange {
  /** Those that were not synced since. */
  readonly folders: Set<string>;
  readonly content: SimulatedContent;
  readonly from: string | null;
  readonly to: string | null;
}

type Names = Map<string, SimulatedContent>;

const ACCESS_UNIT_BYTES = 4096;

export class SimulatedFiles implements Files {
  onCall: (call: Call) => Outcome = () => 'works';
  onEffect: (call: Call) => void = () => undefined;
  capacityBytes: number = Infinity;
  /** Tells a folder from its copies. */
  machine: string = 'machine';
  calls: number = 0;
  /** Resolves when the machine has stopped. */
  readonly stopped: Promise<void>;
  private stop!: () => void;
  private hasStopped = false;
  private names: Names = new Map();
  private durableNames: Names = new Map();
  private changes: NameChange[] = [];
  private readonly folders = new Set<string>();
  private readonly dice: Dice;

  constructor(seed: number) {
    this.dice = new Dice(seed);
    this.stopped = new Promise((resolve) => (this.stop = resolve));
  }

  /** Stops the machine, or the process that uses these files: no call returns any more. */
  halt(): void {
    this.hasStopped = true;
    this.stop();
  }

  /** One of the states in which the disk may be found after a power cut now. */
  afterPowerCut(seed: number): SimulatedFiles {
    const dice = new Dice(seed);
    const names = new Map(this.durableNames);
    const share = dice.pick([0, 0.5, 1]);
    for (const change of this.changes) if (dice.chance(share)) apply(change, names);
    const found = this.successor(seed);
    found.names = each(names, (content) => content.afterPowerCut(dice));
    found.durableNames = new Map(found.names);
    return found;
  }

  /** The same machine after its process was killed: what the kernel has is not lost, nor made durable. */
  afterKill(seed: number): SimulatedFiles {
    const found = this.successor(seed);
    const copies = new Map<SimulatedContent, SimulatedContent>();
    const copy = (content: SimulatedContent): SimulatedContent => {
      const known = copies.get(content) ?? content.copy();
      copies.set(content, known);
      return known;
    };
    found.names = each(this.names, copy);
    found.durableNames = each(this.durableNames, copy);
    found.changes = this.changes.map((change) => ({
      ...change,
      folders: new Set(change.folders),
      content: copy(change.content),
    }));
    return found;
  }

  /** A copy of what can be seen, all of it durable, on another machine. */
  copied(seed: number, machine: string): SimulatedFiles {
    const found = this.successor(seed);
    found.machine = machine;
    found.names = each(this.names, (content) => content.copy());
    for (const content of found.names.values()) content.sync();
    found.durableNames = new Map(found.names);
    return found;
  }

  /** Of a file that is there, and of its length. */
  checksum(path: string): number {
    return this.names.get(path)!.checksum;
  }

  /** The bytes of a file as they are seen now; null where there is none. */
  peek(path: string): Uint8Array | null {
    const content = this.names.get(path);
    if (!content) return null;
    const bytes = new Uint8Array(content.size);
    content.read(bytes, 0);
    return bytes;
  }

  /** Puts a file there, durable at once: what a test does to a disk behind the volume's back. */
  poke(path: string, bytes: Uint8Array | null): void {
    this.names.delete(path);
    if (bytes) {
      const content = new SimulatedContent();
      content.write(bytes, 0);
      content.sync();
      this.names.set(path, content);
    }
    const content = this.names.get(path);
    if (content) this.durableNames.set(path, content);
    else this.durableNames.delete(path);
  }

  /** Everything that can be seen in a folder, to be compared. */
  snapshot(folder: string): string[] {
    return this.paths(folder).map((path) => `${path} ${this.checksum(path)}`);
  }

  /** Paths of all files in a folder and below it, sorted. */
  paths(folder: string): string[] {
    return [...this.names.keys()].filter((path) => path.startsWith(`${folder}/`)).sort();
  }

  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    const kind = mode === 'create' ? 'create' : 'open';
    return this.call(kind, path, (failed) => {
      const known = this.names.get(path);
      if (mode === 'create' ? known : !known) throw systemError(known ? 'EEXIST' : 'ENOENT');
      if (failed && !(mode === 'create' && this.dice.chance(0.5))) return null!;
      const content = known ?? new SimulatedContent();
      if (!known) this.change(content, null, path);
      return new SimulatedFile(this, path, content);
    });
  }

  async stat(path: string): Promise<FileStat | null> {
    return this.call('stat', path, () => {
      const content = this.names.get(path);
      const isFolder = this.folders.has(path);
      if (!content && !isFolder) return null;
      return {
        kind: content ? 'file' : 'folder',
        bytes: content?.size ?? 0,
        modifiedMs: content?.modifiedMs ?? 0,
        device: this.machine,
        inode: `${this.machine}:${path}`,
      };
    });
  }

  async list(folder: string): Promise<string[]> {
    return this.call('list', folder, () => {
      const all = [...this.names.keys(), ...this.folders].filter((path) => parent(path) === folder);
      return all.map((path) => path.slice(folder.length + 1)).sort();
    });
  }

  makeFolder(path: string): Promise<void> {
    for (let folder = path; folder !== ''; folder = parent(folder)) this.folders.add(folder);
    return Promise.resolve();
  }

  async rename(from: string, to: string): Promise<void> {
    await this.call('rename', from, (failed) => {
      const content = this.names.get(from);
      if (!content) throw systemError('ENOENT');
      if (failed) return;
      this.change(content, from, to);
    });
  }

  async link(from: string, to: string): Promise<boolean> {
    return this.call('link', from, (failed) => {
      const content = this.names.get(from);
      if (!content) throw systemError('ENOENT');
      if (!failed) this.change(content, null, to);
      return true;
    });
  }

  async remove(path: string): Promise<void> {
    await this.call('remove', path, (failed) => {
      const content = this.names.get(path);
      if (content && !failed) this.change(content, path, null);
    });
  }

  async syncFolder(path: string): Promise<void> {
    await this.call('syncFolder', path, (failed) => {
      if (failed) return;
      for (const change of this.changes) change.folders.delete(path);
      for (const change of this.changes) {
        if (change.folders.size === 0) apply(change, this.durableNames);
      }
      this.changes = this.changes.filter(({ folders }) => folders.size > 0);
    });
  }

  async touch(path: string, modifiedMs: number): Promise<void> {
    await this.call('touch', path, (failed) => {
      const content = this.names.get(path);
      if (content && !failed) content.modifiedMs = modifiedMs;
    });
  }

  async freeBytes(path: string): Promise<number> {
    return this.call('freeBytes', path, () => Math.max(0, this.capacityBytes - this.usedBytes));
  }

  get usedBytes(): number {
    let used = 0;
    for (const { size } of this.names.values()) used += Math.ceil(size / ACCESS_UNIT_BYTES);
    return used * ACCESS_UNIT_BYTES;
  }

  /**
   * A call of the system: decides what becomes of it, lets others go first, and has its effect at one
   * moment. `work` is told whether the call fails; then it has an effect in part, or none.
   */
  async call<T>(kind: CallKind, path: string, work: (failed: boolean) => T): Promise<T> {
    if (this.isStopped()) return never();
    const call: Call = { kind, path, index: this.calls++ };
    const outcome = this.onCall(call);
    await this.delay(kind);
    if (this.isStopped()) return never();
    if (outcome === 'stop') {
      this.hasStopped = true;
      if (this.dice.chance(0.5)) attempt(() => work(this.dice.chance(0.5)));
      this.stop();
      return never();
    }
    let result: T;
    try {
      result = work(outcome !== 'works');
      this.onEffect(call);
      if (outcome !== 'works') throw systemError(outcome);
    } catch (error) {
      await this.delay(kind);
      throw fromSystem(error, kind, path);
    }
    await this.delay(kind);
    return this.isStopped() ? never() : result;
  }

  /** Bytes of a write that fit on the disk. */
  fitting(content: SimulatedContent, position: number, bytes: number): number {
    const allocated = Math.ceil(content.size / ACCESS_UNIT_BYTES) * ACCESS_UNIT_BYTES;
    const growth = position + bytes - allocated;
    const missing = this.usedBytes + growth - this.capacityBytes;
    return growth <= 0 || missing <= 0 ? bytes : Math.max(0, bytes - missing);
  }

  drawPart(bytes: number): number {
    return this.dice.below(bytes + 1);
  }

  drawEviction(): boolean {
    return this.dice.chance(0.5);
  }

  /** A method, as it changes while one waits. */
  private isStopped(): boolean {
    return this.hasStopped;
  }

  private change(content: SimulatedContent, from: string | null, to: string | null): void {
    const folders = [from, to].flatMap((path) => (path === null ? [] : [parent(path)]));
    const change: NameChange = { folders: new Set(folders), content, from, to };
    apply(change, this.names);
    this.changes.push(change);
  }

  private successor(seed: number): SimulatedFiles {
    const next = new SimulatedFiles(seed);
    next.machine = this.machine;
    next.capacityBytes = this.capacityBytes;
    for (const folder of this.folders) next.folders.add(folder);
    return next;
  }

  /** Most calls return soon; a few, and those that wait for the disk, let the event loop turn. */
  private async delay(kind: CallKind): Promise<void> {
    const waits = kind === 'sync' ? 0.3 : 0.12;
    const turns = this.dice.chance(waits) ? 1 + this.dice.below(kind === 'sync' ? 6 : 2) : 0;
    for (let i = 0; i < turns; i++) await turn();
    const steps = this.dice.below(6);
    for (let i = 0; i < steps; i++) await Promise.resolve();
  }
}

class SimulatedFile implements OpenFile {
  private isOpen = true;

  constructor(
    private readonly files: SimulatedFiles,
    readonly path: string,
    private readonly content: SimulatedContent,
  ) {}

  read(into: Uint8Array, position: number): Promise<number> {
    return this.files.call('read', this.path, () => {
      this.requireOpen();
      return this.content.read(into, position);
    });
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    return this.files.call('write', this.path, (failed) => {
      this.requireOpen();
      const fitting = this.files.fitting(this.content, position, bytes.length);
      const part = failed ? this.files.drawPart(fitting) : fitting;
      if (part > 0) this.content.write(bytes.subarray(0, part), position);
      if (part < bytes.length && !failed) throw systemError('ENOSPC');
    });
  }

  sync(): Promise<void> {
    return this.files.call('sync', this.path, (failed) => {
      this.requireOpen();
      if (failed) this.content.forget(this.files.drawEviction());
      else this.content.sync();
    });
  }

  truncate(bytes: number): Promise<void> {
    return this.files.call('truncate', this.path, (failed) => {
      this.requireOpen();
      if (!failed) this.content.truncate(bytes);
    });
  }

  size(): Promise<number> {
    return this.files.call('stat', this.path, () => {
      this.requireOpen();
      return this.content.size;
    });
  }

  close(): Promise<void> {
    this.isOpen = false;
    return Promise.resolve();
  }

  private requireOpen(): void {
    if (!this.isOpen) throw systemError('EBADF');
  }
}

function parent(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

function never(): Promise<never> {
  return new Promise(() => undefined);
}

function attempt(work: () => unknown): void {
  try {
    work();
  } catch {
    // The machine stops: nobody is there to be told.
  }
}

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: simulated`), { code });
}

function each(
  names: ReadonlyMap<string, SimulatedContent>,
  convert: (content: SimulatedContent) => SimulatedContent,
): Names {
  return new Map([...names].map(([path, content]) => [path, convert(content)]));
}

function apply({ content, from, to }: NameChange, names: Names): void {
  if (from !== null && names.get(from) === content) names.delete(from);
  if (to !== null) names.set(to, content);
}
