/** Records that are genuine each and do not belong together: somebody who holds the files has swapped them. */
import { describe, expect, it } from 'vitest';
import { sealRecord, sealLong, openLong } from '../../../src/crypto/sealing.js';
import { encodeChunkHeader, type ChunkHeader } from '../../../src/format/chunk-header.js';
import { encodeOuter, ROOT_ENVELOPE_BYTES, ROOT_NONCE_BYTES } from '../../../src/format/root.js';
import { openHeader, sealHeader } from '../../../src/store/chunk-meta.js';
import type { StoreContext } from '../../../src/store/context.js';
import { openRoot, readRoots } from '../../../src/store/root-files.js';
import { outerRecords } from '../../simulation/forge.js';
import { readGroupManifest } from '../../../src/store/member-check.js';
import { FOLDER, SHAPES, World } from '../../simulation/world.js';

const TAG_BYTES = 16;
/** In a manifest: see format/footer.ts. */
const CHAIN_AT = 8 + 48 + 4 + 4 + 8 + 24;
const OUTER_AT = ROOT_NONCE_BYTES + ROOT_ENVELOPE_BYTES + TAG_BYTES;
const OUTER = Buffer.from('root outer');
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
  const { innerRoot } = context.keys.data;
  for (let at = OUTER_AT; at < bytes.length; at++) {
    const plain = openLong(innerRoot, nonceOf(bytes, 2), bytes.subarray(at), INNER);
    if (plain) return { plain, at };
  }
  throw new Error('no inner part');
}

function nonceOf(bytes: Uint8Array, part: number): Uint8Array {
  const nonce = bytes.slice(0, ROOT_NONCE_BYTES);
  nonce[ROOT_NONCE_BYTES - 1] = part;
  return nonce;
}

describe('a root', () => {
  it('whose outer part has been changed, by somebody with the maintenance key, is no root', async () => {
    const { context } = await twoRoots();
    const { bytes, root } = (await readRoots(context)).roots[0]!;
    const { plain, at } = innerOf(context, bytes);
    const parts = (outer: Uint8Array): Uint8Array => {
      const sealed = sealLong(context.keys.maintenance.outerRoot, nonceOf(bytes, 1), outer, OUTER);
      const inner = sealLong(context.keys.data.innerRoot, nonceOf(bytes, 2), plain, INNER);
      return Buffer.concat([bytes.subarray(0, OUTER_AT), sealed, inner]);
    };
    expect(at).toBeGreaterThan(OUTER_AT);
    expect(openRoot(context.keys, parts(encodeOuter(root)))).not.toBeNull();
    const older = encodeOuter({ ...root, generation: root.generation - 1 });
    expect(openRoot(context.keys, parts(older))).toBeNull();
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

describe('a manifest', () => {
  it('that is not the one that the root names counts for nothing, however genuine', async () => {
    const { world, context } = await twoRoots();
    const [group] = world.volume!.groups();
    const before = await readGroupManifest(context, group!);
    const [first] = group!.paths;
    const footer = outerRecords(context, world.files).find(({ what }) => {
      return what === `footer of ${first!}`;
    })!;
    // Its last byte of the chain hash, which no other check looks at.
    const forged = footer.plain.slice();
    forged[CHAIN_AT]! ^= 1;
    footer.put(forged);
    const after = await readGroupManifest(context, group!);
    expect(Buffer.compare(after!.bytes, before!.bytes)).toBe(0);
  });
});
