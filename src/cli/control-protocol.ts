/**
 * What client and server say on the control socket: JSON, one value a line, one request a connection.
 *
 *   client  {"protocol": 1, "operation": "sync", "arguments": {…}}
 *   server  {"progress": {…}}                   any number of times
 *           {"part": …}                         any number of times: pieces of a result of any length
 *           {"result": …}  or  {"error": {"code": "…", "message": "…"}}, then the end
 *
 * A client that goes away before the end has its operation aborted.
 */
import type { Socket } from 'node:net';
import { ChunkvolError, errorMessage, exitStatus, isChunkvolError } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';

export const CONTROL_PROTOCOL = 1;

/** How far long work is. */
export interface Progress {
  /** What is being done, as a word: "verify", "upload". */
  readonly phase: string;
  readonly doneBytes: number;
  /** null while unknown. */
  readonly totalBytes: number | null;
}

export interface ControlRequest {
  readonly protocol: number;
  readonly operation: string;
  readonly arguments: unknown;
}

export type ControlReply =
  | { readonly progress: Progress }
  | { readonly part: unknown }
  | { readonly result: unknown }
  | { readonly error: { readonly code: ErrorCode; readonly message: string } };

/** A status of tens of thousands of groups fits. */
const MAX_LINE_CHARS = 64 * 2 ** 20;
export const MAX_REQUEST_CHARS: number = 2 ** 20;

export function encodeLine(value: ControlRequest | ControlReply): string {
  return `${JSON.stringify(value)}\n`;
}

/** null for what is no request of any version. */
export function decodeRequest(line: string): ControlRequest | null {
  const value = parse(line);
  if (value === null || typeof value['operation'] !== 'string') return null;
  if (typeof value['protocol'] !== 'number') return null;
  return {
    protocol: value['protocol'],
    operation: value['operation'],
    arguments: value['arguments'] ?? {},
  };
}

/** null for what is no reply. */
export function decodeReply(line: string): ControlReply | null {
  const value = parse(line);
  if (value === null) return null;
  const known = ['progress', 'part', 'result', 'error'].some((key) => key in value);
  return known ? (value as unknown as ControlReply) : null;
}

function parse(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** What the server reports of an error; everything that is not ours is 'internal'. */
export function encodeError(error: unknown): ControlReply {
  const code = isChunkvolError(error) ? error.code : 'internal';
  return { error: { code, message: errorMessage(error) } };
}

/** The error as it was on the server; a code of a newer server becomes 'internal'. */
export function decodeError({
  code,
  message,
}: {
  code: ErrorCode;
  message: string;
}): ChunkvolError {
  const error = new ChunkvolError(code, message);
  return Number.isInteger(exitStatus(error)) ? error : new ChunkvolError('internal', message);
}

/** Calls `onLine` for each whole line that arrives; a line beyond the bound ends the connection. */
export function readLines(
  socket: Socket,
  onLine: (line: string) => void,
  maxChars: number = MAX_LINE_CHARS,
): void {
  let rest: string[] = [];
  let restChars = 0;
  socket.setEncoding('utf8').on('data', (text: string) => {
    const pieces = text.split('\n');
    for (const piece of pieces.slice(0, -1)) {
      const line = [...rest, piece].join('');
      rest = [];
      restChars = 0;
      onLine(line);
    }
    rest.push(pieces.at(-1)!);
    restChars += pieces.at(-1)!.length;
    if (restChars > maxChars) socket.destroy();
  });
}
