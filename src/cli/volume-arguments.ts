/** What users say of a volume, checked: its name and the size of its disk. */
import { ChunkvolError } from '../base/errors.js';
import { MAX_SIZE_BYTES } from '../volume/create.js';
import { parseSize } from './size.js';

/** What a root can hold of a name. */
const MAX_NAME_BYTES = 255;

/** Bytes, not rounded to blocks yet. Throws ChunkvolError('usage'), naming `option`. */
export function parseDiskSize(text: string, option: string): number {
  const bytes = parseSize(text, option);
  if (bytes >= 1 && bytes <= MAX_SIZE_BYTES) return bytes;
  throw new ChunkvolError('usage', `${option} must be from one block to 1P`);
}

/** The name itself, from the option --name. Throws ChunkvolError('usage'). */
export function checkVolumeName(name: string): string {
  const bytes = Buffer.byteLength(name);
  // eslint-disable-next-line no-control-regex
  if (bytes >= 1 && bytes <= MAX_NAME_BYTES && !/[\0-\x1f\x7f]/.test(name)) return name;
  throw new ChunkvolError(
    'usage',
    `--name must have 1 to ${MAX_NAME_BYTES} bytes and no control characters`,
  );
}
