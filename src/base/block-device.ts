/**
 * What an NBD export needs of a disk: the border between the protocol server and the volume.
 *
 * Offsets and lengths are in bytes, of any alignment, and inside the disk: whoever calls has checked.
 * Failures are ChunkvolErrors. Operations may overlap in time; each takes effect at one moment between
 * its call and its resolution.
 */

/** A run of bytes of the disk that is either all hole (reads as zeros, takes no space) or all data. */
export interface Extent {
  readonly bytes: number;
  readonly hole: boolean;
}

export interface WriteOptions {
  /** Resolve only when the effect is durable (NBD's FUA). */
  readonly durable?: boolean;
}

export interface BlockDevice {
  /** May grow while the device is in use. */
  readonly sizeBytes: number;
  /** The unit that is written without reading first; a power of two. */
  readonly blockBytes: number;
  readonly readOnly: boolean;
  /** Fills all of `into` from byte `offset`. */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** Takes `bytes` over before it resolves; the caller may reuse the buffer after that. */
  write(offset: number, bytes: Uint8Array, options?: WriteOptions): Promise<void>;
  /** Does what `read` does if that takes no wait; false when it does, and `into` may hold anything. */
  readNow?(offset: number, into: Uint8Array): boolean;
  /** Does what `write` does if that takes no wait; false when it does, and nothing was done. */
  writeNow?(offset: number, bytes: Uint8Array): boolean;
  /** Makes the range read as zeros, taking no space. O(1) in the length. */
  zero(offset: number, bytes: number, options?: WriteOptions): Promise<void>;
  /** Tells that the contents of the range are no longer needed; it reads as zeros after. */
  trim(offset: number, bytes: number, options?: WriteOptions): Promise<void>;
  /** Resolves when everything acknowledged before the call is durable. */
  flush(): Promise<void>;
  /** Consecutive extents that cover the range from its start; may stop early after `maxExtents`. */
  extents(offset: number, bytes: number, maxExtents: number): Promise<Extent[]>;
}
