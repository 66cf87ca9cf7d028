/**
 * What went wrong with a remote, told by what the tool said: one line for the user with what
 * failed, where, the tool's own words, and what to do next.
 *
 * The tools have few exit statuses and many texts. Errno numbers and the words of OpenSSH, rsync
 * and rclone are stable; where none is recognised, the tool's own words still stand in the message.
 */
import { ChunkvolError } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';
import { missingTool } from './process.js';
import type { ToolResult } from './process.js';

export interface Failure {
  readonly tool: string;
  /** "list chunks on", "copy to", "copy from", "remove files from": what the URL completes. */
  readonly action: string;
  readonly url: string;
  readonly result: ToolResult;
  /** The tool's own words: the one line of its complaints that says most. */
  readonly reason: string;
  /** The local folder when it is the receiving side: then a full disk is the local one. */
  readonly localTarget?: string | undefined;
}

interface Kind {
  readonly pattern: RegExp;
  readonly what: string;
  readonly next: string;
}

/** Matches what any of `patterns` matches, in capital or small letters. */
function anyOf(...patterns: RegExp[]): RegExp {
  return new RegExp(patterns.map(({ source }) => source).join('|'), 'i');
}

const FULL: Kind = {
  pattern: anyOf(
    /no space left/,
    /quota ?exceeded/,
    /file too big for remaining disk space/,
    /insufficient storage/,
    /storage (limit|full)/,
  ),
  what: 'the remote is full',
  next: 'free space there, then run the command again',
};

/** Rsync's own words, and those of the shells that a host may have. */
const NOT_FOUND_THERE = anyOf(
  /remote command not found/,
  /rsync: (command )?not found/,
  /command not found: rsync/,
  /unknown command:? .?rsync/,
);

/** The first that matches counts, so the more exact ones stand first. */
const KINDS: readonly Kind[] = [
  FULL,
  {
    pattern: /host key verification failed|knownhosts: /i,
    what: 'the host is not known, or not the one it was',
    next: 'connect once with ssh and check its key',
  },
  {
    pattern: /module is read.?only|read.?only file ?system|read only=|is read-only/i,
    what: 'the remote is read-only',
    next: 'make it writable, or name another folder',
  },
  {
    pattern: anyOf(
      /permission denied \([a-z]/,
      /unable to authenticate/,
      /@ERROR: auth/,
      /InvalidAccessKeyId/,
      /SignatureDoesNotMatch/,
      /status code: 401/,
      /unauthorized/,
      /too many authentication failures/,
      /password mismatch/,
      /no key found/,
    ),
    what: 'the login was refused',
    next: 'check user name and key (it must work without a question asked)',
  },
  {
    pattern: /permission denied|operation not permitted|access ?denied|status code: 403|forbidden/i,
    what: 'permission denied',
    next: 'give this login the right to read and write there',
  },
  {
    pattern: anyOf(
      /connection refused/,
      /no route to host/,
      /could not resolve/,
      /no such host/,
      /name or service not known/,
      /temporary failure in name resolution/,
      /timed out/,
      /i\/o timeout/,
      /unreachable/,
      /host is down/,
      /timeout waiting/,
    ),
    what: 'the host cannot be reached',
    next: 'check its name and that it is up, then run the command again',
  },
  {
    pattern: /unknown module|didn't find section|didn't find backend/i,
    what: 'there is no such remote',
    next: 'check the name ("rclone listremotes", "rsync HOST::")',
  },
  {
    pattern: /SSH_FX_FAILURE/,
    what: 'the sftp server gave no reason (a full disk is the usual one)',
    next: 'look at the space left there, then run the command again',
  },
  {
    pattern: /mkdir .* failed: no such file or directory/i,
    what: 'the folder above it does not exist, and the rsync there is too old to create it',
    next: 'create it there, then run the command again',
  },
  {
    pattern: /no such file or directory|object not found|is not on the remote/i,
    what: 'a file is missing',
    next: 'run the command again; if it stays so, scrub the volume',
  },
  {
    pattern: /connection (unexpectedly closed|reset|lost)|broken pipe|unexpected EOF/i,
    what: 'the connection broke',
    next: 'run the command again; what was copied stays',
  },
];

/** The one error for a run of a tool that did not succeed. */
export function remoteFailure(failure: Failure): ChunkvolError {
  const { tool, result, reason } = failure;
  const everything = result.errorLines.join('\n');
  const program = /failed to exec ([^\s:]+):/i.exec(everything)?.[1];
  if (program !== undefined) return missingTool(program);
  if (NOT_FOUND_THERE.test(everything)) {
    const what = `${tool} is not installed on the host of ${failure.url}`;
    return new ChunkvolError('missing-tool', `${what}; install it there with: apt install ${tool}`);
  }
  const next = 'run the command again; what was copied stays';
  if (result.killedBy !== null) {
    return told(failure, 'remote', { what: `${tool} was killed (${result.killedBy})`, next });
  }
  const kind = kindOf(reason) ?? kindOf(everything);
  if (kind === FULL && failure.localTarget !== undefined) {
    const what = `the disk under ${failure.localTarget} is full`;
    return told(failure, 'no-space', { what, next: 'free some space, then run the command again' });
  }
  const status = result.status ?? 0;
  return told(failure, 'remote', kind ?? { what: `${tool} failed with status ${status}`, next });
}

function kindOf(text: string): Kind | undefined {
  return KINDS.find(({ pattern }) => pattern.test(text));
}

function told(
  { action, url, tool, reason }: Failure,
  code: ErrorCode,
  { what, next }: Pick<Kind, 'what' | 'next'>,
): ChunkvolError {
  const words = reason === '' ? '' : ` (${quoted(tool, reason)})`;
  return new ChunkvolError(code, `cannot ${action} ${url}: ${what}${words}; ${next}`);
}

/** A tool's words as part of our line: no control characters, of bounded length, named once. */
function quoted(tool: string, reason: string): string {
  const plain = reason.replace(/\p{Cc}+/gu, ' ').trim();
  const short = plain.length <= 300 ? plain : `${plain.slice(0, 299)}…`;
  return /^(rsync|ssh|rclone|@ERROR)\b/i.test(short) ? short : `${tool}: ${short}`;
}
