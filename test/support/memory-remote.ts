/**
 * A remote in memory that keeps the promises of the Remote interface, and breaks at any operation on
 * demand: before it, after it, or in the middle, with some files whole, one cut short and others not
 * there. It takes files in an order of its own.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ChunkvolError } from '../../src/base/errors.js';
import type { Remote, RemoteFile, TransferOptions } from '../../src/sync/remote.js';

export type Fault = 'before' | 'midway' | 'after';

export class MemoryRemote implements Remote {
  readonly files: Map<string, Uint8Array> = new Map();
  /** Every operation, in order: its name, and a folder or the number of files and their first folder. */
  readonly log: string[] = [];
  /** The operation to break, counted from 0 in `log`, and how. Broken once. */
  fault: { operation: number; kind: Fault } | null = null;
  /** Refuses to remove anything. */
  writeOnce = false;
  /** Files that cannot be read, for as long as they are named here. */
  readonly unreadable: Set<string> = new Set();

  constructor(readonly url: string = 'memory:there') {}

  list(folder: string): Promise<RemoteFile[]> {
    return this.operate(`list ${folder}`, () => {
      const names = [...this.files].filter(([name]) => name.startsWith(`${folder}/`));
      return names.map(([name, bytes]) => ({ path: name, bytes: bytes.length })).reverse();
    });
  }

  async upload(
    localFolder: string,
    paths: readonly string[],
    options: TransferOptions = {},
  ): Promise<void> {
    if (paths.length === 0) return;
    let moved = 0;
    await this.transfer('upload', paths, (name, part) => {
      const bytes = new Uint8Array(fs.readFileSync(path.join(localFolder, name)));
      if (this.files.get(name)?.length === bytes.length) return;
      this.files.set(name, bytes.slice(0, Math.floor(bytes.length * part)));
      moved += bytes.length;
      options.onProgress?.(moved);
    });
  }

  async download(
    localFolder: string,
    paths: readonly string[],
    options: TransferOptions = {},
  ): Promise<void> {
    if (paths.length === 0) return;
    let moved = 0;
    await this.transfer('download', paths, (name, part) => {
      const bytes = this.files.get(name);
      if (!bytes || this.unreadable.has(name)) throw failure(`cannot read ${name}`);
      const target = path.join(localFolder, name);
      fs.mkdirSync(path.dirname(target), { recursive: true });
      if (fs.existsSync(target) && fs.statSync(target).size === bytes.length) return;
      fs.writeFileSync(target, bytes.subarray(0, Math.floor(bytes.length * part)));
      moved += bytes.length;
      options.onProgress?.(moved);
    });
  }

  async remove(paths: readonly string[]): Promise<void> {
    if (paths.length === 0) return;
    if (this.writeOnce) throw failure('this storage is write-once');
    await this.transfer('remove', paths, (name) => void this.files.delete(name));
  }

  /** The files of `folder`, as full paths, sorted. */
  names(folder: string): string[] {
    return [...this.files.keys()].filter((name) => name.startsWith(`${folder}/`)).sort();
  }

  /** Of all names and contents. */
  digest(): string {
    const hash = createHash('sha256');
    for (const [name, bytes] of [...this.files].sort())
      hash.update(`${name} ${bytes.length} `).update(bytes);
    return hash.digest('hex');
  }

  /** Cuts a file to a part of its length. */
  cut(name: string, part = 0.5): void {
    const bytes = this.files.get(name)!;
    this.files.set(name, bytes.slice(0, Math.floor(bytes.length * part)));
  }

  /** Midway: the first half of the files is done, the next one in half, and the rest not at all. */
  private async transfer(
    what: string,
    paths: readonly string[],
    each: (name: string, part: number) => void,
  ): Promise<void> {
    const order = [...paths].reverse();
    const half = Math.floor(order.length / 2);
    const entry = `${what} ${paths.length} ${paths[0]!.split('/')[0]!}`;
    let failed: unknown = null;
    const doOne = (name: string): void => {
      try {
        each(name, 1);
      } catch (error) {
        failed = error;
      }
    };
    await this.operate(
      entry,
      () => {
        order.forEach(doOne);
        if (failed instanceof Error) throw failed;
      },
      () => {
        order.slice(0, half).forEach(doOne);
        each(order[half]!, 0.5);
      },
    );
  }

  private async operate<T>(entry: string, whole: () => T, part?: () => void): Promise<T> {
    await Promise.resolve();
    const kind = this.fault?.operation === this.log.length ? this.fault.kind : null;
    this.log.push(entry);
    if (kind !== null) this.fault = null;
    if (kind === 'before') throw failure('the connection broke');
    if (kind === 'midway') part?.();
    const result = kind === 'midway' ? null : whole();
    if (kind !== null) throw failure('the connection broke');
    return result!;
  }
}

function failure(reason: string): ChunkvolError {
  return new ChunkvolError('remote', `memory:there: ${reason}`);
}
