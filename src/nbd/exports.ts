/** What a server offers, and what the handshake tells a client of it. */
import type { BlockDevice } from '../base/block-device.js';
import { MAX_PAYLOAD_BYTES, TransmissionFlag } from './protocol.js';
import type { BlockSizes } from './protocol.js';

/** A disk under a name; name and description have at most 4,096 bytes of UTF-8. */
export interface NbdExport {
  readonly name: string;
  readonly description: string;
  readonly device: BlockDevice;
}

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

/** The device's abilities as the protocol's transmission flags. */
export function transmissionFlags(device: BlockDevice, structuredReplies: boolean): number {
  const always =
    TransmissionFlag.hasFlags |
    TransmissionFlag.sendFlush |
    TransmissionFlag.sendFua |
    TransmissionFlag.sendCache |
    TransmissionFlag.canMultiConn;
  const access = device.readOnly
    ? TransmissionFlag.readOnly
    : TransmissionFlag.sendTrim | TransmissionFlag.sendWriteZeroes | TransmissionFlag.sendFastZero;
  return always | access | (structuredReplies ? TransmissionFlag.sendDontFragment : 0);
}

/** Any alignment is served; the device's own unit (at least a page) is the fastest. */
export function blockSizes(device: BlockDevice): BlockSizes {
  return {
    minimumBytes: 1,
    preferredBytes: Math.max(4096, device.blockBytes),
    maximumBytes: MAX_PAYLOAD_BYTES,
  };
}
