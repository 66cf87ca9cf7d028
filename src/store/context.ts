/** What every part of the store works with: the folder, its keys, and the outside world. */
import type { Clock } from '../base/clock.js';
import type { Files } from '../base/files.js';
import type { Randomness } from '../base/randomness.js';
import type { CryptoEngine } from '../crypto/engine.js';
import type { VolumeKeys } from '../crypto/key-schedule.js';
import type { Workers } from './work.js';

/** The outside world: files, time, randomness, and the machine's crypto engine. */
export interface Environment {
  readonly files: Files;
  readonly clock: Clock;
  readonly random: Randomness;
  readonly engine: CryptoEngine;
  /** Other threads for what takes long; absent where there are none. */
  readonly workers?: Workers;
}

export interface StoreContext extends Environment {
  readonly folder: string;
  readonly volumeId: Uint8Array;
  readonly keys: VolumeKeys;
}

export const FOLDERS = { keys: 'keys', chunks: 'chunks', roots: 'roots', local: 'local' } as const;

export function chunkFolder(context: { readonly folder: string }): string {
  return `${context.folder}/${FOLDERS.chunks}`;
}

export function rootFolder(context: { readonly folder: string }): string {
  return `${context.folder}/${FOLDERS.roots}`;
}

export function keyFolder(context: { readonly folder: string }): string {
  return `${context.folder}/${FOLDERS.keys}`;
}

/** Published names: 32 hexadecimal digits. */
export const NAME_PATTERN: RegExp = /^[0-9a-f]{32}$/;
