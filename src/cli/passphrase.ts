/**
 * Where a passphrase or key comes from: --key-file, else --passphrase-file, else
 * $CHUNKVOL_PASSPHRASE, else the terminal.
 *
 * A passphrase is NFC-normalised UTF-8, so that it opens the volume from every keyboard.
 */
import * as fs from 'node:fs';
import { type Command, Option } from 'commander';
import { ChunkvolError, fromSystem } from '../base/errors.js';
import { KEY_FILE_MAX_BYTES, type Credential } from '../crypto/key-slot.js';
import { askSecretly } from './terminal.js';

const PASSPHRASE_VARIABLE = 'CHUNKVOL_PASSPHRASE';
const STANDARD_INPUT = '-';
const MAX_PASSPHRASE_BYTES = 4096;
const WAYS = '--passphrase-file F, --key-file F or $CHUNKVOL_PASSPHRASE';

export interface CredentialSources {
  readonly passphraseFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

/** Adds the options that every command has which opens a volume. */
export function addCredentialOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--passphrase-file <file>',
        'read the passphrase from a file, - is standard input',
      ),
    )
    .addOption(new Option('--key-file <file>', 'open with a key file').conflicts('passphraseFile'));
}

/** The credential that opens a volume. Asks once. Throws ChunkvolError: 'usage', 'io', 'interrupted'. */
export async function readCredential(sources: CredentialSources): Promise<Credential> {
  const variable = fromEnvironment();
  const given = (await fromFile(sources)) ?? variable;
  return given ?? passphrase(await askSecretly('Passphrase: ', WAYS));
}

/** A credential to be set. Asks twice, as a typing error would lock its owner out. */
export async function readNewCredential(
  sources: CredentialSources,
  options: {
    readonly question: string;
    readonly useEnvironment: boolean;
    /** Where else it can come from, for whoever has no terminal. */
    readonly ways?: string;
  },
): Promise<Credential> {
  const variable = options.useEnvironment ? fromEnvironment() : null;
  const given = (await fromFile(sources)) ?? variable;
  if (given) return given;
  const { question, ways = WAYS } = options;
  const typed = await askSecretly(`${question}: `, ways);
  if (typed === '') throw emptyPassphrase();
  const again = await askSecretly(`${question} again: `, ways);
  if (typed === again) return passphrase(typed);
  throw new ChunkvolError('usage', 'the two passphrases are not the same; try again');
}

async function fromFile({
  passphraseFile,
  keyFile,
}: CredentialSources): Promise<Credential | null> {
  if (keyFile !== undefined) {
    // One byte more than allowed is enough to have the size refused.
    return { kind: 'key-file', secret: await readSome(keyFile, KEY_FILE_MAX_BYTES + 1) };
  }
  if (passphraseFile === undefined) return null;
  const bytes = await readSome(passphraseFile, MAX_PASSPHRASE_BYTES + 3);
  return passphrase(decodeText(bytes, passphraseFile).replace(/\r?\n$/, ''));
}

/** What the environment held, until it is asked for. */
let taken: string | undefined;

/** Takes the passphrase out of the environment: no program that is started after this inherits it. */
export function takePassphrase(): void {
  taken = process.env[PASSPHRASE_VARIABLE] ?? taken;
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete
  delete process.env[PASSPHRASE_VARIABLE];
}

/** Once. */
function fromEnvironment(): Credential | null {
  takePassphrase();
  const value = taken;
  taken = undefined;
  return value === undefined ? null : passphrase(value);
}

function passphrase(text: string): Credential {
  if (text === '') throw emptyPassphrase();
  const bytes = new TextEncoder().encode(text.normalize('NFC'));
  if (bytes.length > MAX_PASSPHRASE_BYTES) {
    throw new ChunkvolError('usage', `the passphrase is longer than ${MAX_PASSPHRASE_BYTES} bytes`);
  }
  return { kind: 'passphrase', passphrase: bytes };
}

function emptyPassphrase(): ChunkvolError {
  return new ChunkvolError('usage', 'the passphrase is empty');
}

function decodeText(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    const message = `${path} is not UTF-8 text; use --key-file for a key of arbitrary bytes`;
    throw new ChunkvolError('usage', message, { cause: error });
  }
}

/** Up to `maxBytes` from a file, a pipe or standard input. */
async function readSome(path: string, maxBytes: number): Promise<Uint8Array> {
  const name = path === STANDARD_INPUT ? 'standard input' : path;
  try {
    const stream =
      path === STANDARD_INPUT ? process.stdin : fs.createReadStream(path, { end: maxBytes - 1 });
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of stream as AsyncIterable<Uint8Array>) {
      pieces.push(piece);
      bytes += piece.length;
      if (bytes >= maxBytes) break;
    }
    return new Uint8Array(Buffer.concat(pieces).subarray(0, maxBytes));
  } catch (error) {
    throw fromSystem(error, 'read', name);
  }
}
