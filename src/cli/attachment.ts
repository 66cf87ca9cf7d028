/** Where the kernel or nbdfuse shows a served volume. The serving process remembers it for `detach`. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ChunkvolError, fromSystem } from '../base/errors.js';

export interface Attachment {
  /** `nbd`: a device of the kernel; `fuse`: a file shown by nbdfuse. */
  readonly kind: 'nbd' | 'fuse';
  /** /dev/nbd0, or the absolute path of the file. */
  readonly target: string;
  /** The snapshot that is shown; null is the disk itself. */
  readonly snapshot: string | null;
  /** The file was made for this, and goes with it. */
  readonly createdFile: boolean;
}

/** A place, whatever is to be shown there. */
export type Target = Pick<Attachment, 'kind' | 'target'>;

const NBD_DEVICE = /^\/dev\/nbd\d+$/;

/**
 * From what the user typed: a device of the kernel, or else the path of a file, through no symbolic
 * link, as the kernel lists its mounts. Throws ChunkvolError: 'usage', 'io'.
 */
export function parseTarget(text: string): Target {
  const target = path.resolve(text);
  if (NBD_DEVICE.test(target)) return { kind: 'nbd', target };
  if (path.dirname(target) === '/dev') {
    throw new ChunkvolError(
      'usage',
      `${target} is no /dev/nbdN; name one, or a file outside of /dev`,
    );
  }
  try {
    const folder = fs.realpathSync(path.dirname(target));
    return { kind: 'fuse', target: path.join(folder, path.basename(target)) };
  } catch (error) {
    throw fromSystem(error, 'find', target);
  }
}
