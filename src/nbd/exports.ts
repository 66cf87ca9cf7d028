/** What a server offers, and what the handshake tells a client of it. */
import type { BlockDevice } from '../base/block-device.js';
import { MAX_PAYLOAD_BYTES, TransmissionFlag } from './protocol.js';
import type { BlockSizes } from './protocol.js';

/** What a client is told of a disk before it has chosen it. */
export type DiskFacts = Pick<BlockDevice, 'sizeBytes' | 'blockBytes' | 'readOnly'>;

/** A disk under a name; name and description have at most 4,096 bytes of UTF-8. */
export interface NbdExport {
  readonly name: string;
  readonly description: string;
  readonly facts: DiskFacts;
  /** Opens the disk for one client. Throws ChunkvolError when there is none any more. */
  readonly open: () => OpenDisk;
}

/** A disk in the hands of one client. */
export interface OpenDisk {
  readonly device: BlockDevice;
  /** Called once, when the client's last request is done and its connection closed. */
  close(): void;
}

/** May change from one call to the next; clients that have chosen an export keep it. */
export interface ExportDirectory {
  /** Looks an export up by name at handshake time ("" = default); null = unknown. */
  readonly find: (name: string) => NbdExport | null;
  readonly list: () => NbdExport[];
}

/** What a client and this server agreed on: the state in which the transmission phase begins. */
export interface Session {
  readonly device: BlockDevice;
  readonly structuredReplies: boolean;
  /** BLOCK_STATUS may be asked for base:allocation. */
  readonly allocationContext: boolean;
}

/** The disk's abilities as the protocol's transmission flags. */
export function transmissionFlags(disk: DiskFacts, structuredReplies: boolean): number {
  const always =
    TransmissionFlag.hasFlags |
    TransmissionFlag.sendFlush |
    TransmissionFlag.sendFua |
    TransmissionFlag.sendCache |
    TransmissionFlag.canMultiConn;
  const access = disk.readOnly
    ? TransmissionFlag.readOnly
    : TransmissionFlag.sendTrim | TransmissionFlag.sendWriteZeroes | TransmissionFlag.sendFastZero;
  return always | access | (structuredReplies ? TransmissionFlag.sendDontFragment : 0);
}

/** Any alignment is served; the disk's own unit (at least a page) is the fastest. */
export function blockSizes(disk: DiskFacts): BlockSizes {
  return {
    minimumBytes: 1,
    preferredBytes: Math.max(4096, disk.blockBytes),
    maximumBytes: MAX_PAYLOAD_BYTES,
  };
}
