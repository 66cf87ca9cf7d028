/**
 * The interface to the file system. Everything that reads or writes a volume does it through a
 * `Files`, so that a simulated disk, with its power cuts and its failures, can stand in for the real
 * one (see node-files.ts for that).
 *
 * Guarantees that callers rely on, and no others:
 * - bytes are durable only after `sync()` of their file has succeeded;
 * - a name is durable only after `syncFolder()` of its folder has succeeded;
 * - `rename` replaces its target atomically.
 *
 * Every method throws ChunkvolError ('io' or 'no-space', its `cause` the system's error).
 */

export interface OpenFile {
  readonly path: string;
  /** Reads into the whole of `into` from byte `position`; returns the bytes read, fewer only at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
  /**
   * Fills `into` from byte `position` where that takes no wait, as when the bytes are in memory. False
   * tells nothing, and leaves `into` undefined: `read` has the answer. Absent where nobody can know.
   */
  readNow?(into: Uint8Array, position: number): boolean;
  /**
   * Writes all of `bytes` at byte `position`, extending the file as needed. `bypass`: nobody will read
   * them soon, so they need no place in the system's page cache.
   */
  write(bytes: Uint8Array, position: number, cache?: 'bypass'): Promise<void>;
  /** fdatasync: contents and size are durable when it returns. Never retried by a caller that saw it fail. */
  sync(): Promise<void>;
  /** Cuts or extends (with zeros) the file to `bytes`. */
  truncate(bytes: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

/** `read`: must exist. `update`: must exist, read and write. `create`: must not exist, read and write. */
export type OpenMode = 'read' | 'update' | 'create';

export interface FileStat {
  readonly kind: 'file' | 'folder' | 'other';
  readonly bytes: number;
  readonly modifiedMs: number;
  /** Number of the device that the file is on, as text; another one after a boot, or when it is mounted again. */
  readonly device: string;
  /** Inode number, as text: with the device it tells the file from all others of its machine. */
  readonly inode: string;
}

export interface Files {
  open(path: string, mode: OpenMode): Promise<OpenFile>;
  /** null where nothing is. */
  stat(path: string): Promise<FileStat | null>;
  /** Names in a folder, sorted; [] where there is no such folder. */
  list(folder: string): Promise<string[]>;
  /** Creates a folder and its missing parents; no error when it exists. */
  makeFolder(path: string, mode?: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /**
   * Gives a file one more name, which must be free. False where the file system cannot, or not between
   * these two folders.
   */
  link(from: string, to: string): Promise<boolean>;
  /** Removes a file; no error when it is gone already. */
  remove(path: string): Promise<void>;
  /** fsync of a folder: creations, renames and removals in it are durable when it returns. */
  syncFolder(path: string): Promise<void>;
  /** Sets a file's modification time. */
  touch(path: string, modifiedMs: number): Promise<void>;
  /** Bytes that an unprivileged writer may still use on the file system of `path`. */
  freeBytes(path: string): Promise<number>;
}
