/** Which chunk files make a group: only who has the key can tell, as a test must that harms them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { memberCount } from '../../src/base/geometry.js';
import { nodeFiles } from '../../src/base/node-files.js';
import { FOLDERS } from '../../src/store/context.js';
import { memberName } from '../../src/store/group.js';
import { unlock } from '../../src/store/key-files.js';
import { readRoots } from '../../src/store/root-files.js';
import { environment } from './sealed-volume.js';

/**
 * Paths of the chunk files of each sealed group that the newest root names, data members first; they
 * need not be there. The volume may be in use.
 */
export async function groupFiles(folder: string, keyFilePath: string): Promise<string[][]> {
  const credential = { kind: 'key-file', secret: readFileSync(keyFilePath) } as const;
  const { keys, keyFile } = await unlock(nodeFiles, folder, credential);
  const context = { ...environment, folder, volumeId: keyFile.volumeId, keys };
  const newest = (await readRoots(context)).roots[0]!.root;
  return newest.groups
    .filter(({ state }) => state === 'sealed')
    .map(({ groupId, sealId, geometry }) =>
      Array.from({ length: memberCount(geometry) }, (_, place) =>
        join(folder, FOLDERS.chunks, memberName(context, groupId, sealId, place)),
      ),
    );
}
