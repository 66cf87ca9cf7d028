/**
 * The newest state that this machine has seen of each remote, kept outside of the volume's folder: a
 * folder that goes back in time, or is restored from a remote that did, does not take it along.
 *
 *   $XDG_STATE_HOME/chunkvol/seen/<volume id>/<remote>.json      (or ~/.local/state/chunkvol/...)
 *
 * A machine that has never seen a remote knows nothing, and says so.
 */
import * as os from 'node:os';
import * as path from 'node:path';
import { toHex } from '../base/bytes.js';
import type { Files } from '../base/files.js';
import { isCount, isObject, readJson, remoteId, writeJson } from './json-files.js';

const VERSION = 1;

export interface SeenState {
  /** The highest generation of any root there. */
  readonly generation: number;
  readonly seenMs: number;
}

export class RemoteMemory {
  constructor(
    private readonly files: Files,
    private readonly folder: string = stateFolder(process.env),
  ) {}

  /** null when nothing is known, or what was known cannot be read any more. */
  async recall(volumeId: Uint8Array, url: string): Promise<SeenState | null> {
    const file = `${this.folderOf(volumeId)}/${fileName(url)}`;
    const value = await readJson(this.files, file).catch(() => null);
    if (!isObject(value) || value['version'] !== VERSION || value['url'] !== url) return null;
    const { generation, seenMs } = value;
    return isCount(generation) && typeof seenMs === 'number' ? { generation, seenMs } : null;
  }

  /** Throws ChunkvolError 'io' or 'no-space'. */
  async record(volumeId: Uint8Array, url: string, state: SeenState): Promise<void> {
    const value = { version: VERSION, url, ...state };
    await writeJson(this.files, this.folderOf(volumeId), fileName(url), value);
  }

  private folderOf(volumeId: Uint8Array): string {
    return path.join(this.folder, 'seen', toHex(volumeId));
  }
}

function fileName(url: string): string {
  return `${remoteId(url)}.json`;
}

/** Where this user's programs keep what is neither configuration nor cache. */
export function stateFolder(environment: NodeJS.ProcessEnv): string {
  const chosen = environment['XDG_STATE_HOME'];
  // The XDG specification: a relative path is to be ignored.
  const base =
    chosen !== undefined && path.isAbsolute(chosen)
      ? chosen
      : path.join(os.homedir(), '.local', 'state');
  return path.join(base, 'chunkvol');
}
