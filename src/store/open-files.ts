/**
 * A bounded cache of open chunk files for reading. A file in use is not closed; of the others the one
 * unused for longest goes first.
 */
import { errnoOf } from '../base/errors.js';
import type { Files, OpenFile } from '../base/files.js';

const MAX_OPEN_FILES = 256;

interface Entry {
  readonly opening: Promise<OpenFile>;
  /** Once it is open. */
  file: OpenFile | null;
  users: number;
  /** No longer in the cache: closed when its last user leaves. */
  forgotten: boolean;
}

export class OpenFiles {
  /** In order of use: a Map keeps the order of insertion. */
  private readonly entries = new Map<string, Entry>();

  constructor(private readonly files: Files) {}

  /** Runs `work` with the file open for reading; null, without running it, where there is none. */
  async use<T>(path: string, work: (file: OpenFile) => Promise<T>): Promise<T | null> {
    const entry = this.enter(path);
    try {
      const file = await entry.opening;
      return await work(file);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      return null;
    } finally {
      entry.users--;
      if (entry.forgotten && entry.users === 0) void close(entry);
    }
  }

  /** The file, if it is open already: to be used at once, and not after. */
  opened(path: string): OpenFile | null {
    const entry = this.entries.get(path);
    if (!entry?.file) return null;
    this.entries.delete(path);
    this.entries.set(path, entry);
    return entry.file;
  }

  /** Drops a path whose file has been renamed, replaced or removed. */
  forget(path: string): void {
    const entry = this.entries.get(path);
    if (!entry) return;
    this.entries.delete(path);
    entry.forgotten = true;
    if (entry.users === 0) void close(entry);
  }

  async closeAll(): Promise<void> {
    const all = [...this.entries.values()];
    this.entries.clear();
    await Promise.all(all.map(close));
  }

  private enter(path: string): Entry {
    let entry = this.entries.get(path);
    if (entry) {
      this.entries.delete(path);
    } else {
      entry = this.start(path);
    }
    this.entries.set(path, entry);
    entry.users++;
    this.trim();
    return entry;
  }

  private start(path: string): Entry {
    const opening = this.files.open(path, 'read');
    const entry: Entry = { opening, file: null, users: 0, forgotten: false };
    opening.then(
      (file) => (entry.file = file),
      () => {
        this.forget(path);
      },
    );
    return entry;
  }

  private trim(): void {
    for (const [path, entry] of this.entries) {
      if (this.entries.size <= MAX_OPEN_FILES) return;
      if (entry.users === 0) this.forget(path);
    }
  }
}

async function close(entry: Entry): Promise<void> {
  const file = await entry.opening.catch(() => null);
  await file?.close().catch(() => undefined);
}
