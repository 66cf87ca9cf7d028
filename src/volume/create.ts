/** Making a volume: its folders, its key file, and the root of an empty disk. */
import { ChunkvolError } from '../base/errors.js';
import type { Geometry } from '../base/geometry.js';
import type { Argon2Parameters } from '../crypto/kdf.js';
import { wrapVolumeKey, type Credential } from '../crypto/key-slot.js';
import { VolumeKeys } from '../crypto/key-schedule.js';
import { mapDepth } from '../format/map-node.js';
import { sha256, type Root } from '../format/root.js';
import { FOLDERS, type Environment, type StoreContext } from '../store/context.js';
import { keySlot, publishKeyFile } from '../store/key-files.js';
import { publishRoot, sealRoot } from '../store/root-files.js';
import { writeIdentity } from './identity.js';

/** Largest disk, in bytes: block numbers and byte offsets stay exact in a double. */
export const MAX_SIZE_BYTES: number = 2 ** 50;

export interface CreateOptions {
  readonly name: string;
  /** A multiple of the block size. */
  readonly sizeBytes: number;
  readonly geometry: Geometry;
  readonly blockBytes: number;
  readonly credential: Credential;
  readonly argon2?: Argon2Parameters;
}

/** Makes a volume in `folder`, which must be empty or absent. */
export async function createVolume(
  environment: Environment,
  folder: string,
  options: CreateOptions,
): Promise<void> {
  checkSize(options.sizeBytes, options.blockBytes);
  const { files, random } = environment;
  if ((await files.list(folder)).length > 0) {
    throw new ChunkvolError(
      'exists',
      `${folder} is not empty; give a folder that is, or a new one`,
    );
  }
  for (const name of ['', ...Object.values(FOLDERS)]) await files.makeFolder(`${folder}/${name}`);
  const volumeId = random.bytes(16);
  const volumeKey = random.bytes(32);
  const keys = new VolumeKeys(volumeKey);
  const context: StoreContext = { ...environment, folder, volumeId, keys };
  const wrapped = await wrapVolumeKey(volumeKey, options.credential, random, options.argon2);
  const slot = keySlot(random.bytes(8), environment.clock.now(), wrapped);
  const root = firstRoot(context, options);
  await publishRoot(context, root, sealRoot(keys, random, root));
  await writeIdentity(environment, folder);
  // The key file comes last: a folder with one is a volume.
  await publishKeyFile(files, folder, keys, { volumeId, counter: 1, slots: [slot] });
  await files.syncFolder(folder);
}

/** Throws 'usage' for a size that no disk can have. */
export function checkSize(sizeBytes: number, blockBytes: number): void {
  if (!(sizeBytes >= blockBytes && sizeBytes <= MAX_SIZE_BYTES)) {
    throw new ChunkvolError('usage', 'the size must be at least one block and at most 1P');
  }
  if (sizeBytes % blockBytes !== 0) {
    throw new ChunkvolError(
      'usage',
      `the size must be a multiple of the block size, ${blockBytes}`,
    );
  }
}

/** Where the chain of commits starts. */
function firstChain(volumeId: Uint8Array): Uint8Array {
  return sha256(Buffer.from('chunkvol log'), volumeId);
}

function firstRoot(context: StoreContext, options: CreateOptions): Root {
  const { name, sizeBytes, geometry, blockBytes } = options;
  const session = context.random.bytes(16);
  const timeMs = context.clock.now();
  return {
    closed: true,
    volumeId: context.volumeId,
    session,
    generation: 1,
    geometry,
    blockBytes,
    groups: [],
    name,
    sizeBytes,
    createdMs: timeMs,
    timeMs,
    map: { depth: mapDepth(sizeBytes / blockBytes), ordinal: 0, position: 0 },
    tail: {
      ordinal: 0,
      address: 0,
      sequence: 1,
      chain: firstChain(context.volumeId),
      durableUpTo: 0,
    },
    nextOrdinal: 1,
    keyCounter: 1,
    mappedBlocks: 0,
    writtenBytes: 0,
    loggedBytes: 0,
    lineage: {
      droppedCount: 0,
      droppedDigest: new Uint8Array(32),
      entries: [{ session, firstGeneration: 1 }],
    },
    snapshots: [],
  };
}
