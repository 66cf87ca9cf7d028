/** local/serve.log: what a server in the background has to say. Bounded: a full one is begun anew. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { FOLDERS } from '../store/context.js';

const MAX_LOG_BYTES = 1024 * 1024;

export function serverLogPath(folder: string): string {
  return path.join(folder, FOLDERS.local, 'serve.log');
}

/** A function that appends a line with the time. A log that cannot be written is no reason to fail. */
export function openServerLog(folder: string): (line: string) => void {
  const file = serverLogPath(folder);
  return (line) => {
    try {
      const full = (fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0) > MAX_LOG_BYTES;
      fs.writeFileSync(file, `${new Date().toISOString()} ${line}\n`, {
        flag: full ? 'w' : 'a',
        mode: 0o600,
      });
    } catch {
      // Nobody is left to be told.
    }
  };
}
