/** Records that are genuine each and do not belong together: somebody who holds the files has swapped them. */
import { describe, expect, it } from 'vitest';
import { sealRecord, sealLong, openLong } from '../../../src/crypto/sealing.js';
import { encodeChunkHeader, type ChunkHeader } from '../../../src/format/chunk-header.js';
import { ROOT_ENVELOPE_BYTES, ROOT_NONCE_BYTES } from '../../../src/format/root.js';
import { openHeader, sealHeader } from '../../../src/store/chunk-meta.js';
import type { StoreContext } from '../../../src/store/context.js';
import { openRoot, readRoots } from '../../../src/store/root-files.js';
import { FOLDER, SHAPES, World } from '../../simulation/world.js';

const TAG_BYTES = 16;
const INNER = Buffer.from('root inner');

/** A volume with two closed roots, and what the store needs to read it. */
async function twoRoots(): Promise<{ world: World; context: StoreContext }> {
  const world = await World.create(3, SHAPES[0]!);
  await world.reopen();
  for (let i = 0; i < 2; i++) {
    const data = world.dice.bytes(5000);
    await world.change({ offset: 0, bytes: 5000, data, trim: false, durable: false });
    await world.seal();
  }
  return { world, context: world.volume!.context };
}

/** The inner part of a root as plaintext, and where it begins. */
function innerOf(context: StoreContext, bytes: Uint8Array): { plain: Uint8Array; at: number } {
  const outerAt = ROOT_NONCE_BYTES + ROOT_ENVELOPE_BYTES + TAG_BYTES;
  const { innerRoot } = context.keys.data;
  for (let at = outerAt; at < bytes.length; at++) {
    const plain = openLong(innerRoot, innerNonce(bytes), bytes.subarray(at), INNER);
    if (plain) return { plain, at };
  }
  throw new Error('no inner part');
}

function innerNonce(bytes: Uint8Array): Uint8Array {
  const nonce = bytes.slice(0, ROOT_NONCE_BYTES);
  nonce[ROOT_NONCE_BYTES - 1] = 2;
  return nonce;
}

describe('a root', () => {
  it('whose inner part is that of another root is no root', async () => {
    const { context } = await twoRoots();
    const { roots } = await readRoots(context);
    const [one, two] = [roots[0]!.bytes, roots[1]!.bytes];
    const { at } = innerOf(context, one);
    const foreign = innerOf(context, two).plain;
    const sealed = sealLong(context.keys.data.innerRoot, innerNonce(one), foreign, INNER);
    expect(openRoot(context.keys, one)).not.toBeNull();
    expect(openRoot(context.keys, Buffer.concat([one.subarray(0, at), sealed]))).toBeNull();
  });

  it('counts under its own name alone', async () => {
    const { world, context } = await twoRoots();
    const [newest, older] = world.files.paths(`${FOLDER}/roots`);
    world.files.poke(newest!, world.files.peek(older!));
    const { roots, foreign } = await readRoots(context);
    expect(roots.map(({ name }) => name)).not.toContain(newest!.split('/').at(-1));
    expect(foreign).toEqual([newest!.split('/').at(-1)]);
  });
});

describe('a chunk header', () => {
  it('whose id is that of another place is no header', async () => {
    const { world, context } = await twoRoots();
    const path = world.files.paths(`${FOLDER}/chunks`)[0]!;
    const keys = context.keys.maintenance;
    const header: ChunkHeader = openHeader(keys, world.files.peek(path)!)!;
    const other = sealHeader(keys, { ...header, place: (header.place + 1) % 6 });
    const id = other.subarray(0, 16);
    const plain = encodeChunkHeader(header);
    const record = sealRecord(keys.header, id.subarray(0, 12), plain, Buffer.from('chunk header'));
    expect(openHeader(keys, other)).not.toBeNull();
    expect(openHeader(keys, Buffer.concat([id, record]))).toBeNull();
  });
});
