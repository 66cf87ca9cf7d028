/**
 * Which key is for what. Everything comes from the volume key, along two branches that know nothing
 * of each other:
 *
 *     volume key
 *       'maintenance'   names, headers, footers, outer roots, parity: lists, verifies and rebuilds
 *         'name'  'header id'  'header'  'footer'  'trailer'  'outer root'
 *         'pad' (group)  'root replica' (group)
 *         'parity' (group, seal)  'mac' (group, seal)  'fill' (group, seal)
 *       'data'          contents: inner roots, slots, records, the key file
 *         'inner root'  'key file'
 *         'slot' (group)  'record' (group)
 *
 * The maintenance key can be exported: whoever has it reads no slot and no inner root.
 */
import { createHmac } from 'node:crypto';
import { derive, labelled } from './derive.js';
import { KEY_BYTES } from './engine.js';
import { requireLength } from './sizes.js';

/** Hexadecimal digits of a file name: 16 bytes. */
const NAME_DIGITS = 32;

export type NameKind = 'chunk' | 'root' | 'key';

export interface MaintenanceGroupKeys {
  readonly pad: Uint8Array;
  readonly rootReplica: Uint8Array;
}

export interface SealKeys {
  readonly parity: Uint8Array;
  readonly mac: Uint8Array;
  readonly fill: Uint8Array;
}

export interface DataGroupKeys {
  readonly slot: Uint8Array;
  readonly record: Uint8Array;
}

export class MaintenanceKeys {
  /** The 32 bytes that can be exported. */
  readonly raw: Uint8Array;
  readonly name: Uint8Array;
  readonly headerId: Uint8Array;
  readonly header: Uint8Array;
  readonly footer: Uint8Array;
  readonly trailer: Uint8Array;
  readonly outerRoot: Uint8Array;

  static derive(volumeKey: Uint8Array): MaintenanceKeys {
    requireLength('volumeKey', volumeKey, KEY_BYTES);
    return new MaintenanceKeys(derive(volumeKey, 'maintenance'));
  }

  constructor(maintenanceKey: Uint8Array) {
    requireLength('maintenanceKey', maintenanceKey, KEY_BYTES);
    this.raw = Uint8Array.from(maintenanceKey);
    this.name = derive(this.raw, 'name');
    this.headerId = derive(this.raw, 'header id');
    this.header = derive(this.raw, 'header');
    this.footer = derive(this.raw, 'footer');
    this.trailer = derive(this.raw, 'trailer');
    this.outerRoot = derive(this.raw, 'outer root');
  }

  group(groupId: Uint8Array): MaintenanceGroupKeys {
    return {
      pad: derive(this.raw, 'pad', groupId),
      rootReplica: derive(this.raw, 'root replica', groupId),
    };
  }

  seal(groupId: Uint8Array, sealId: Uint8Array): SealKeys {
    return {
      parity: derive(this.raw, 'parity', groupId, sealId),
      mac: derive(this.raw, 'mac', groupId, sealId),
      fill: derive(this.raw, 'fill', groupId, sealId),
    };
  }

  /** 32 hexadecimal digits: HMAC-SHA256 under `name` of the labelled parts, cut to 16 bytes. */
  fileName(kind: NameKind, ...parts: Uint8Array[]): string {
    const digest = createHmac('sha256', this.name).update(labelled(kind, parts)).digest('hex');
    return digest.slice(0, NAME_DIGITS);
  }
}

export class DataKeys {
  readonly innerRoot: Uint8Array;
  /** Authenticates the key file as a whole. */
  readonly keyFile: Uint8Array;
  private readonly raw: Uint8Array;

  static derive(volumeKey: Uint8Array): DataKeys {
    requireLength('volumeKey', volumeKey, KEY_BYTES);
    return new DataKeys(derive(volumeKey, 'data'));
  }

  private constructor(dataKey: Uint8Array) {
    this.raw = dataKey;
    this.innerRoot = derive(dataKey, 'inner root');
    this.keyFile = derive(dataKey, 'key file');
  }

  group(groupId: Uint8Array): DataGroupKeys {
    return {
      slot: derive(this.raw, 'slot', groupId),
      record: derive(this.raw, 'record', groupId),
    };
  }
}

export class VolumeKeys {
  readonly maintenance: MaintenanceKeys;
  readonly data: DataKeys;

  constructor(volumeKey: Uint8Array) {
    this.maintenance = MaintenanceKeys.derive(volumeKey);
    this.data = DataKeys.derive(volumeKey);
  }
}
