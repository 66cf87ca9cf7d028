/**
 * Starts a tool as a child process and waits for its end. No shell is ever involved: arguments go
 * as an array, lists of files through standard input.
 *
 * What a child says is bounded: its output by a named limit (beyond it the child is ended), its
 * complaints by the last few lines.
 */
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { ChunkvolError, errnoOf } from '../base/errors.js';

/** A listing of a million files fits. */
const MAX_OUTPUT_CHARS = 256 * 2 ** 20;
const MAX_ERROR_LINES = 40;
const MAX_LINE_CHARS = 64 * 1024;

/** How long a tool may tidy up after it was asked to end. */
const KILL_GRACE_MS = 5000;

/** How long to wait for the end of the error stream: a shared ssh connection may keep it open. */
const STREAM_GRACE_MS = 1000;

const PACKAGES: Record<string, string> = {
  rsync: 'rsync',
  rclone: 'rclone',
  ssh: 'openssh-client',
};

export interface ToolCall {
  readonly tool: string;
  readonly args: readonly string[];
  /** The whole environment of the child; that of this process when absent. */
  readonly environment?: NodeJS.ProcessEnv;
  /** What the child reads from its standard input. */
  readonly input?: string;
  readonly signal?: AbortSignal | undefined;
  /** Takes the child's output piece by piece instead of having it collected. */
  readonly onOutput?: (text: string) => void;
  /** What to keep of a line of the error stream; null for nothing. All of it when absent. */
  readonly keepErrorLine?: (line: string) => string | null;
}

export interface ToolResult {
  /** null when a signal ended the tool. */
  readonly status: number | null;
  readonly killedBy: string | null;
  readonly output: string;
  /** The last lines kept of the error stream, oldest first. */
  readonly errorLines: readonly string[];
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

/** Throws ChunkvolError 'missing-tool' or 'interrupted'; any exit status is a result. */
export async function runTool(call: ToolCall): Promise<ToolResult> {
  if (isAborted(call.signal)) throw interrupted(call.tool);
  const child = spawn(call.tool, call.args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: call.environment ?? process.env,
  });
  const stop = endChildOnAbort(child, call.signal);
  try {
    const result = await collect(child, call);
    if (isAborted(call.signal)) throw interrupted(call.tool);
    return result;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'EACCES') throw missingTool(call.tool);
    throw error;
  } finally {
    stop();
  }
}

/** The error for a program that is not installed. */
export function missingTool(tool: string): ChunkvolError {
  const name = PACKAGES[tool];
  const advice =
    name === undefined ? 'install it, or name another' : `install it with: apt install ${name}`;
  return new ChunkvolError('missing-tool', `${tool} is not installed; ${advice}`);
}

function interrupted(tool: string): ChunkvolError {
  return new ChunkvolError(
    'interrupted',
    `${tool} was interrupted; run the command again to go on`,
  );
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

/** Returns the function that forgets the child. */
function endChildOnAbort(child: Child, signal: AbortSignal | undefined): () => void {
  let force: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    child.kill('SIGTERM');
    force = setTimeout(() => child.kill('SIGKILL'), KILL_GRACE_MS);
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  return () => {
    signal?.removeEventListener('abort', onAbort);
    clearTimeout(force);
  };
}

function collect(child: Child, call: ToolCall): Promise<ToolResult> {
  const output: string[] = [];
  let outputChars = 0;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (call.onOutput !== undefined) {
      call.onOutput(text);
      return;
    }
    outputChars += text.length;
    if (outputChars > MAX_OUTPUT_CHARS) child.kill('SIGKILL');
    else output.push(text);
  });
  const errorLines: string[] = [];
  readLines(child.stderr, (line) => {
    const kept = call.keepErrorLine === undefined ? line : call.keepErrorLine(line);
    if (kept === null || kept.trim() === '') return;
    errorLines.push(kept.trim());
    if (errorLines.length > MAX_ERROR_LINES) errorLines.shift();
  });
  // A tool that fails early does not read its input; its exit status says why.
  child.stdin.on('error', () => undefined).end(call.input ?? '');
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => {
      setTimeout(() => child.stderr.destroy(), STREAM_GRACE_MS).unref();
    });
    child.once('close', (status, killedBy) => {
      resolve({ status, killedBy, output: output.join(''), errorLines });
    });
  });
}

function readLines(stream: Readable, onLine: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop()!.slice(0, MAX_LINE_CHARS);
    lines.forEach(onLine);
  });
  stream.once('close', () => {
    onLine(rest);
  });
}
