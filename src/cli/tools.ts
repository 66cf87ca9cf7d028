/** Programs of others that attaching needs: whether they are there, how to get them, running them. */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ChunkvolError, errnoOf, errorMessage } from '../base/errors.js';

/** The Debian package of each. */
const PACKAGES = {
  'nbd-client': 'nbd-client',
  nbdfuse: 'libnbd-bin',
  fusermount3: 'fuse3',
} as const;
export type Tool = keyof typeof PACKAGES;

/** Where system programs are that a user's $PATH leaves out. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];
const TIMEOUT_MS = 60_000;

/** Throws ChunkvolError('missing-tool') naming the first that is not installed and how to install it. */
export function requireTools(...tools: readonly Tool[]): void {
  for (const tool of tools) findTool(tool);
}

/** The path of a program. Throws ChunkvolError('missing-tool'). */
export function findTool(tool: Tool): string {
  const found = searchFolders()
    .map((folder) => path.join(folder, tool))
    .find(isExecutable);
  if (found !== undefined) return found;
  throw new ChunkvolError(
    'missing-tool',
    `${tool} is not installed; install it with: apt install ${PACKAGES[tool]}`,
  );
}

/** An empty $PATH is taken at its word: then nothing is found. */
function searchFolders(): string[] {
  const listed = (process.env['PATH'] ?? '').split(':').filter(Boolean);
  return listed.length === 0 ? [] : [...listed, ...SYSTEM_FOLDERS];
}

function isExecutable(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

/** What it says on its standard output. Throws ChunkvolError: 'missing-tool', 'io' with its last words. */
export function runTool(tool: Tool, words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout: TIMEOUT_MS, env: { ...process.env, LC_ALL: 'C' } };
    execFile(findTool(tool), words, options, (error, stdout, stderr) => {
      if (!error) {
        resolve(stdout);
        return;
      }
      const said = lastLine(stderr) || lastLine(stdout) || errorMessage(error).split('\n', 1)[0]!;
      const slow = error.killed ? ` (no answer within ${TIMEOUT_MS / 1000} s)` : '';
      reject(
        new ChunkvolError('io', `${tool} failed: ${said}${slow} ${errnoOf(error)}`.trim(), {
          cause: error,
        }),
      );
    });
  });
}

export function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
