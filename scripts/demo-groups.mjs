// Which chunk files make a group. Their names do not tell: it takes the key to work them out.
import { join } from 'node:path';
import { memberCount } from '../dist/base/geometry.js';
import { nodeFiles } from '../dist/base/node-files.js';
import { FOLDERS } from '../dist/store/context.js';
import { memberName } from '../dist/store/group.js';
import { unlock } from '../dist/store/key-files.js';
import { readRoots } from '../dist/store/root-files.js';

/** For each group of a volume that is not in use: the paths of its chunk files, relative to its folder. */
export async function groupFiles(folder, passphrase) {
  const credential = { kind: 'passphrase', passphrase: Buffer.from(passphrase) };
  const { keys } = await unlock(nodeFiles, folder, credential);
  const { roots } = await readRoots({ files: nodeFiles, folder, keys });
  return roots[0].root.groups.map(({ groupId, sealId, geometry }) =>
    Array.from({ length: memberCount(geometry) }, (_, place) =>
      join(FOLDERS.chunks, memberName({ keys }, groupId, sealId, place)),
    ),
  );
}
