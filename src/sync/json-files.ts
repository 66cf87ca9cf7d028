/** Small JSON files that are replaced as a whole: what a sync remembers between two runs. */
import { toHex } from '../base/bytes.js';
import type { Files } from '../base/files.js';
import { sha256 } from '../format/root.js';
import { publishFile, readWhole } from '../store/publish.js';

const MAX_JSON_BYTES = 64 * 1024 * 1024;

export type JsonObject = Readonly<Record<string, unknown>>;

/** null where there is no such file; SyntaxError when it is no JSON. */
export async function readJson(files: Files, path: string): Promise<unknown> {
  const bytes = await readWhole(files, path, MAX_JSON_BYTES);
  return bytes === null ? null : JSON.parse(Buffer.from(bytes).toString('utf8'));
}

/** Replaces the file atomically and durably; creates its folder. */
export async function writeJson(
  files: Files,
  folder: string,
  name: string,
  value: unknown,
): Promise<void> {
  await files.makeFolder(folder);
  await publishFile(files, folder, name, Buffer.from(`${JSON.stringify(value, null, 1)}\n`));
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

export function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

/** A short name for a remote that can be part of a file's name. */
export function remoteId(url: string): string {
  return toHex(sha256(Buffer.from(url))).slice(0, 16);
}
