/**
 * The names of remotes as users type them:
 *
 *   FOLDER                              a local folder (through rsync)
 *   rsync:[USER@]HOST:PATH              a folder on a host reached by ssh
 *   rsync://[USER@]HOST[:PORT]/MODULE/PATH   a folder of an rsync daemon
 *   rclone:REMOTE:PATH                  anything in the user's rclone configuration; also /PATH,
 *                                       :BACKEND:PATH and REMOTE,OPTION=VALUE:PATH after the colon
 *
 * A URL ends up in the command line of a tool, which every user of the machine can read, and in
 * messages and files: so one that carries a password is refused. So is what a tool would take for
 * an option, for a pattern, or for something else than the user meant.
 */
import * as path from 'node:path';
import { ChunkvolError } from '../base/errors.js';

export type RemoteUrl = RsyncUrl | RcloneUrl;

export interface RsyncUrl {
  /** Who carries the bytes: nobody, ssh, or the rsync daemon itself. */
  readonly kind: 'local' | 'ssh' | 'daemon';
  /** Canonical form, as the user would type it. */
  readonly text: string;
  /** What rsync is given, without a slash at its end. */
  readonly location: string;
}

export interface RcloneUrl {
  readonly kind: 'rclone';
  /** Canonical form, as the user would type it. */
  readonly text: string;
  /** What rclone is given: 'REMOTE:PATH' or '/PATH', without a slash at its end. */
  readonly location: string;
}

/** [USER@]HOST, the host a name, an address, or an IPv6 address in brackets. */
const HOST = String.raw`(?:[^@:/\[\]\s]+@)?(?:\[[0-9A-Fa-f:.%]+\]|[^@:/\[\]\s]+)`;
const SSH_URL = new RegExp(`^rsync:(${HOST}):(.*)$`);
const DAEMON_URL = new RegExp(`^rsync://(${HOST}(?::\\d{1,5})?)/([^/]+)((?:/.*)?)$`);

/** Options of rclone's backends that hold secrets (file names and key ids are none). */
const SECRET_OPTIONS: ReadonlySet<string> = new Set(
  `access_grant api_key api_password bearer_token client_secret connection_string key key_file_pass
   key_pem pass passphrase password password2 sas_url secret secret_access_key
   service_account_credentials session_token sse_customer_key token`.split(/\s+/),
);

/** Parses what a user types. Throws ChunkvolError 'usage'. */
export function parseRemoteUrl(text: string): RemoteUrl {
  // eslint-disable-next-line no-control-regex
  if (text === '' || /[\0-\x1f\x7f]/.test(text))
    throw usage(text, 'it is empty or holds control characters');
  if (text.startsWith('rclone:')) return parseRclone(text);
  if (text.startsWith('rsync://')) return parseDaemon(text);
  if (text.startsWith('rsync:')) return parseSsh(text);
  return parseLocal(text);
}

function parseLocal(text: string): RsyncUrl {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    throw usage(
      text,
      'write rclone:REMOTE:PATH for what rclone can reach ("rclone config" sets it up)',
    );
  }
  if (/^[^/]*:/.test(text)) {
    throw usage(
      text,
      `write rsync:${text} for a host reached by ssh, ./${text} for a local folder`,
    );
  }
  const folder = path.resolve(text);
  return { kind: 'local', text: folder, location: folder };
}

function parseSsh(text: string): RsyncUrl {
  if (/^rsync:[^/@]*:[^/]*@[^/]*:/.test(text)) {
    throw usage(
      text.replace(/^(rsync:[^:]*):[^/]*@/, '$1:…@'),
      'ssh takes no password here; use a key',
    );
  }
  const [, host, typed] = SSH_URL.exec(text) ?? [];
  if (host === undefined || typed === undefined) throw usage(text, 'write rsync:[USER@]HOST:PATH');
  if (host.startsWith('-')) throw usage(text, 'a host cannot begin with "-"');
  const folder = withoutEndSlashes(typed.replace(/^~\/+/, ''));
  if (folder === '' || folder.startsWith('~')) {
    throw usage(text, 'name a folder: an absolute path, or one relative to the home folder');
  }
  refusePatterns(text, folder);
  return { kind: 'ssh', text: `rsync:${host}:${folder}`, location: `${host}:${folder}` };
}

function parseDaemon(text: string): RsyncUrl {
  if (/^rsync:\/\/[^/]*:[^/]*@/.test(text)) {
    throw usage(text.replace(/:[^/:]*@/, ':…@'), 'set the password in $RSYNC_PASSWORD instead');
  }
  const [, host, module, folder] = DAEMON_URL.exec(text) ?? [];
  if (host === undefined || module === undefined || folder === undefined || host.startsWith('-')) {
    throw usage(text, 'write rsync://[USER@]HOST[:PORT]/MODULE/PATH');
  }
  refusePatterns(text, module + folder);
  const location = withoutEndSlashes(`rsync://${host}/${module}${folder}`);
  return { kind: 'daemon', text: location, location };
}

/** A far rsync expands patterns in the name of a folder to read from, not in one to write to. */
function refusePatterns(text: string, folder: string): void {
  if (/[*?[\\]/.test(folder))
    throw usage(text, 'rsync would take *, ?, [ and \\ in it for a pattern');
}

function parseRclone(text: string): RcloneUrl {
  const location = withoutEndSlashes(text.slice('rclone:'.length));
  if (!location.startsWith('/') && !/^:?[^:/]+[,:]/.test(location)) {
    throw usage(text, 'write rclone:REMOTE:PATH ("rclone listremotes" lists the remotes)');
  }
  const options = /^:?[^:,/]+,(.*)$/.exec(location)?.[1] ?? '';
  const secret = Array.from(options.matchAll(/(?:^|,)([a-z0-9_]+)=/gi), ([, name]) => name!).find(
    (name) => SECRET_OPTIONS.has(name.toLowerCase()),
  );
  if (secret !== undefined) {
    throw usage(
      `rclone:${location.split(',')[0]!},…`,
      `set ${secret} with "rclone config" instead`,
    );
  }
  return { kind: 'rclone', text: `rclone:${location}`, location };
}

function withoutEndSlashes(location: string): string {
  return location.replace(/(?<=[^/:])\/+$/, '');
}

function usage(text: string, advice: string): ChunkvolError {
  return new ChunkvolError('usage', `${JSON.stringify(text)} does not name a remote: ${advice}`);
}
