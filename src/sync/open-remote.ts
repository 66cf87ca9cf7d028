/** From what the user typed to something that copies. */
import { RcloneRemote } from './rclone.js';
import type { Remote } from './remote.js';
import { RsyncRemote } from './rsync.js';
import { parseRemoteUrl } from './url.js';

/** Throws ChunkvolError 'usage'; nothing is started or reached yet. */
export function openRemote(url: string): Remote {
  const parsed = parseRemoteUrl(url);
  return parsed.kind === 'rclone' ? new RcloneRemote(parsed) : new RsyncRemote(parsed);
}
