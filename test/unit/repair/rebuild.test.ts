import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Group } from '../../../src/store/group.js';
import { isRebuildable, rebuildGroup, type RebuildResult } from '../../../src/repair/rebuild.js';
import { checkGroup, findingsOf } from '../../../src/repair/scrub.js';
import { memberBytes } from '../../../src/erasure/stripe.js';
import { encodeManifest, footerBytes } from '../../../src/format/footer.js';
import { sha256 } from '../../../src/format/root.js';
import { readHeader, sealFooter } from '../../../src/store/chunk-meta.js';
import { memberDigest } from '../../../src/store/parity.js';
import { writeEnd } from '../../../src/store/seal.js';
import { sealTakenOver } from '../../../src/store/takeover.js';
import { memberName } from '../../../src/store/group.js';
import { checkMember, readGroupManifest } from '../../../src/store/member-check.js';
import { flip, KIB, SampleVolume, SMALL } from './sample-volume.js';

const UNIT = SMALL.unitBytes;
const ROW_BLOCKS = 60;
const PAIRS = [0, 1, 2, 3, 4, 5].flatMap((a) => {
  return [0, 1, 2, 3, 4, 5].filter((b) => b > a).map((b) => [a, b] as const);
});

let volume: SampleVolume;
/** Full files, fill included; a short group of 2.5 rows; one block, so that three data files are empty. */
const groups: Record<string, Group> = {};
const originals = new Map<Group, (Buffer | null)[]>();

beforeAll(async () => {
  volume = new SampleVolume();
  groups.full = await volume.addGroup({ blocks: 7 * ROW_BLOCKS, full: true });
  groups.short = await volume.addGroup({ blocks: 2.5 * ROW_BLOCKS });
  groups.tiny = await volume.addGroup({ blocks: 1 });
  for (const group of volume.groups) originals.set(group, volume.contents(group));
});

afterEach(() => {
  for (const [group, files] of originals) {
    for (const [place, bytes] of volume.contents(group).entries()) {
      if (!bytes?.equals(files[place]!)) fs.writeFileSync(group.paths[place]!, files[place]!);
    }
  }
});

afterAll(() => {
  volume.remove();
});

async function repair(group: Group): Promise<RebuildResult> {
  const check = await checkGroup(volume.context, group);
  return rebuildGroup(volume.context, check, { openFiles: volume.slots.openFiles });
}

/** Every file as it was made, and nothing else in the folder. */
function expectWhole(group: Group): void {
  const files = originals.get(group)!;
  for (const [place, bytes] of volume.contents(group).entries()) {
    expect(bytes?.equals(files[place]!), `file ${place}`).toBe(true);
  }
  expect(strays()).toEqual([]);
}

/** Seals the footers of all files anew, for their units as they are now. */
async function vouchFor(group: Group): Promise<void> {
  const { context } = volume;
  const old = (await readGroupManifest(context, group))!;
  const checks = await Promise.all(
    group.paths.map((_, place) => checkMember(context, group, place, old)),
  );
  const macs = checks.map(({ found }) => found.map((mac) => mac!));
  const bytes = encodeManifest({ ...old.manifest, digests: macs.map(memberDigest) });
  for (const [place, path] of group.paths.entries()) {
    const file = await context.files.open(path, 'update');
    await writeEnd(context, group, file, place, bytes, macs[place]!, old.manifest);
    await file.close();
  }
  group.manifestDigest = sha256(bytes);
}

function strays(): string[] {
  const known = new Set(volume.groups.flatMap((group) => group.paths));
  const folder = `${volume.folder}/chunks`;
  return fs.readdirSync(folder).filter((name) => !known.has(`${folder}/${name}`));
}

describe.each(['full', 'short', 'tiny'])('two lost files of a %s group', (kind) => {
  it.each(PAIRS)('%i and %i come back byte for byte', async (a, b) => {
    const group = groups[kind]!;
    for (const place of [a, b]) fs.rmSync(group.paths[place]!);
    const result = await repair(group);
    expect(result.rebuilt).toEqual([group.paths[a], group.paths[b]]);
    expect(result).toMatchObject({ mended: [], lost: [], unrepaired: [] });
    expectWhole(group);
  });
});

describe('damage inside of one file', () => {
  const footerAt = SMALL.chunkBytes - footerBytes(SMALL, 7);
  it.each([
    ['the header id', 0, 3],
    ['the header record', 0, 300],
    ['a data unit, right behind the header', 0, 512],
    ['a data unit of a later row', 3, 4 * UNIT + 17],
    ['a parity unit', 5, 2 * UNIT],
    ['the fill', 2, 7 * UNIT + 6000],
    ['the footer body', 1, footerAt + 200],
    ['the trailer', 4, SMALL.chunkBytes - 1],
  ])('%s is mended in place', async (_, place, at) => {
    const group = groups.full!;
    const file = group.paths[place]!;
    flip(file, at);
    fs.utimesSync(file, 1000, 1000);
    const before = fs.statSync(file);
    const check = await checkGroup(volume.context, group);
    const [finding, ...others] = findingsOf(check);
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ place, path: file });
    expect(finding!.damages).toHaveLength(1);
    const { from, to } = finding!.damages[0]!;
    expect(at >= from && at < to).toBe(true);

    const result = await repair(group);
    expect(result).toMatchObject({ rebuilt: [], lost: [], unrepaired: [] });
    expect(result.mended.map((entry) => entry.path)).toEqual([file]);
    expectWhole(group);
    expect(fs.statSync(file)).toMatchObject({ ino: before.ino, mtimeMs: before.mtimeMs });
  });

  it('tells the very part and range', async () => {
    const group = groups.short!;
    flip(group.paths[1]!, 100);
    flip(group.paths[1]!, UNIT + 1);
    flip(group.paths[1]!, 2 * UNIT + 1);
    const { members } = await checkGroup(volume.context, group);
    expect(members[1]!.damages).toEqual([
      { part: 'header', from: 0, to: 512 },
      { part: 'units', from: UNIT, to: memberBytes(SMALL, group.end, 1) },
    ]);
    expect(members.filter(({ damages }) => damages.length > 0)).toHaveLength(1);
  });

  it('header, units and footer of one file at once', async () => {
    const group = groups.full!;
    for (const at of [9, 600, 3 * UNIT, SMALL.chunkBytes - 60]) flip(group.paths[0]!, at);
    const result = await repair(group);
    expect(result.rebuilt).toEqual([group.paths[0]]);
    expectWhole(group);
  });
});

describe('files that are not what they should be', () => {
  const harms: [string, (group: Group) => void][] = [
    [
      'cut in the footer',
      (group) => {
        fs.truncateSync(group.paths[2]!, fs.statSync(group.paths[2]!).size - 10);
      },
    ],
    [
      'cut in the middle',
      (group) => {
        fs.truncateSync(group.paths[4]!, 90 * KIB);
      },
    ],
    [
      'cut in the header',
      (group) => {
        fs.truncateSync(group.paths[1]!, 100);
      },
    ],
    [
      'extended',
      (group) => {
        fs.appendFileSync(group.paths[2]!, Buffer.alloc(5000, 1));
      },
    ],
    [
      'extended and damaged',
      (group) => {
        fs.appendFileSync(group.paths[2]!, Buffer.alloc(5000, 1));
        flip(group.paths[2]!, UNIT);
      },
    ],
    [
      'of no length',
      (group) => {
        fs.truncateSync(group.paths[0]!, 0);
      },
    ],
    [
      'zeros throughout',
      (group) => {
        fs.writeFileSync(group.paths[3]!, Buffer.alloc(fs.statSync(group.paths[3]!).size));
      },
    ],
    [
      'swapped',
      (group) => {
        fs.renameSync(group.paths[0]!, `${group.paths[0]!}.x`);
        fs.renameSync(group.paths[5]!, group.paths[0]!);
        fs.renameSync(`${group.paths[0]!}.x`, group.paths[5]!);
      },
    ],
    [
      'of another group',
      (group) => {
        const other = group === groups.full ? groups.short! : groups.full!;
        fs.copyFileSync(other.paths[1]!, group.paths[1]!);
      },
    ],
  ];
  describe.each(harms)('%s', (_, harm) => {
    it.each(['full', 'short'])('in a %s group', async (kind) => {
      const group = groups[kind]!;
      harm(group);
      expect(findingsOf(await checkGroup(volume.context, group))).not.toEqual([]);
      expect(await repair(group)).toMatchObject({ lost: [], unrepaired: [] });
      expectWhole(group);
    });
  });

  it('a footer with MACs that the manifest does not vouch for is damaged', async () => {
    const group = groups.short!;
    const { keys } = volume.context;
    const manifest = (await readGroupManifest(volume.context, group))!;
    const { macs } = await checkMember(volume.context, group, 0, manifest);
    const name = memberName(volume.context, group.id, group.sealId, 0);
    const forged = [...macs!.slice(0, -1), new Uint8Array(16)];
    const { size } = fs.statSync(group.paths[0]!);
    const footer = sealFooter(keys.maintenance, name, manifest.bytes, forged, size);
    const fd = fs.openSync(group.paths[0]!, 'r+');
    fs.writeSync(fd, footer, 0, footer.length, size - footer.length);
    fs.closeSync(fd);
    const check = await checkMember(volume.context, group, 0, manifest);
    expect(check.damages.map(({ part }) => part)).toEqual(['footer']);
    await repair(group);
    expectWhole(group);
  });

  it('a group that does not know its manifest goes by the majority of its files', async () => {
    const group = { ...groups.short!, manifestDigest: null };
    const { manifest } = (await readGroupManifest(volume.context, group))!;
    const other = { ...manifest, chain: new Uint8Array(32) };
    const file = await volume.context.files.open(group.paths[0]!, 'update');
    const macs = (await checkGroup(volume.context, group)).members[0]!.macs!;
    await writeEnd(volume.context, group, file, 0, encodeManifest(other), macs, manifest);
    await file.close();
    fs.rmSync(group.paths[4]!);
    const result = await repair(group);
    expect(result.mended).toEqual([{ path: group.paths[0], units: 0 }]);
    expect(result.rebuilt).toEqual([group.paths[4]]);
    expectWhole(groups.short!);
  });
});

describe('damage in more files than there is parity', () => {
  it('is repaired where every row has enough sound units', async () => {
    const group = groups.full!;
    for (const [place, row] of [0, 1, 2, 3, 4, 5].entries())
      flip(group.paths[place]!, row * UNIT + 700);
    flip(group.paths[3]!, 5 * UNIT + 1);
    const result = await repair(group);
    expect(result).toMatchObject({ rebuilt: [], lost: [], unrepaired: [] });
    expect(result.mended.map(({ units }) => units)).toEqual([1, 1, 1, 2, 1, 1]);
    expectWhole(group);
  });

  it('is repaired with the units of a file whose footer is damaged too', async () => {
    const group = groups.full!;
    flip(group.paths[0]!, SMALL.chunkBytes - 100);
    flip(group.paths[0]!, 3 * UNIT);
    flip(group.paths[1]!, 5 * UNIT);
    flip(group.paths[2]!, 5 * UNIT);
    expect(await repair(group)).toMatchObject({ lost: [], unrepaired: [] });
    expectWhole(group);
  });

  it('leaves everything as it is where three files are lost', async () => {
    const group = groups.full!;
    for (const place of [1, 3, 4]) fs.rmSync(group.paths[place]!);
    const check = await checkGroup(volume.context, group);
    expect(isRebuildable(check)).toBe(false);
    const result = await repair(group);
    expect(result).toMatchObject({ rebuilt: [], mended: [] });
    expect(result.unrepaired.map(({ path }) => path)).toEqual([1, 3, 4].map((i) => group.paths[i]));
    expect(volume.contents(group).map((file) => file === null)).toEqual([
      false,
      true,
      false,
      true,
      true,
      false,
    ]);
    expect(strays()).toEqual([]);
    const lost = result.lost.map(({ from, to }) => [from, to]);
    expect(lost).toContainEqual([UNIT, 2 * UNIT]);
    expect(lost).toContainEqual([7 * UNIT, 8 * UNIT]);
    expect(lost).toHaveLength(14);
    expect(result.lost.every(({ unverifiable }) => !unverifiable)).toBe(true);
  });

  it('needs no file for units that hold nothing', async () => {
    const group = groups.tiny!;
    for (const place of [1, 2, 3]) fs.rmSync(group.paths[place]!);
    expect(await repair(group)).toMatchObject({ lost: [], unrepaired: [] });
    expectWhole(group);
  });

  it('mends the rows that can be had and names the others', async () => {
    const group = groups.full!;
    for (const place of [0, 1, 4]) flip(group.paths[place]!, 2 * UNIT + 5);
    flip(group.paths[0]!, 4 * UNIT + 5);
    const result = await repair(group);
    expect(result.lost).toEqual([{ group, from: 8 * UNIT, to: 10 * UNIT, unverifiable: false }]);
    expect(result.unrepaired).toHaveLength(3);
    const { members } = await checkGroup(volume.context, group);
    expect(members[0]!.damages).toEqual([{ part: 'units', from: 2 * UNIT, to: 3 * UNIT }]);
    // The bytes of the lost row are those that were found.
    const found = fs.readFileSync(group.paths[0]!);
    const original = Buffer.from(originals.get(group)![0]!);
    original[2 * UNIT + 5] = original[2 * UNIT + 5]! ^ 0xff;
    expect(found.equals(original)).toBe(true);
  });

  it('says where bytes are there that nothing vouches for', async () => {
    const group = groups.full!;
    for (const place of [0, 1, 2]) fs.truncateSync(group.paths[place]!, 3 * UNIT);
    const { lost, rebuilt, mended } = await repair(group);
    expect({ rebuilt, mended }).toEqual({ rebuilt: [], mended: [] });
    expect(lost[0]).toEqual({ group, from: 0, to: 3 * UNIT, unverifiable: true });
    expect(lost[3]).toEqual({ group, from: 12 * UNIT, to: 15 * UNIT, unverifiable: false });
  });

  it('gives a group up of which no footer is left', async () => {
    const group = groups.short!;
    for (const file of group.paths) flip(file, fs.statSync(file).size - 1);
    const before = volume.digests(group);
    const result = await repair(group);
    expect(result.lost).toEqual([{ group, from: 0, to: group.end, unverifiable: true }]);
    expect(result.unrepaired).toHaveLength(6);
    expect(volume.digests(group)).toEqual(before);
  });
});

describe('a group whose parity is wrong although every MAC is right', () => {
  let group: Group;

  beforeEach(async () => {
    group = await volume.addGroup({ blocks: 100 });
    for (const row of [0, 1]) flip(group.paths[4]!, row * UNIT + 600);
    await vouchFor(group);
  });

  afterEach(() => {
    for (const file of group.paths) fs.rmSync(file, { force: true });
    volume.groups.pop();
  });

  it('gives no file that the manifest does not vouch for', async () => {
    fs.rmSync(group.paths[0]!);
    const result = await repair(group);
    expect(result.rebuilt).toEqual([]);
    expect(result.unrepaired).toHaveLength(1);
    expect(fs.existsSync(group.paths[0]!)).toBe(false);
    expect(strays()).toEqual([]);
  });

  it('gives no unit that its MAC does not vouch for', async () => {
    flip(group.paths[0]!, 1000);
    const before = volume.digests(group);
    const result = await repair(group);
    expect(result.unrepaired).toHaveLength(1);
    expect(result.mended).toEqual([{ path: group.paths[0], units: 0 }]);
    expect(volume.digests(group)).toEqual(before);
  });
});

describe("a group that was sealed in another's stead", () => {
  it('has its files rebuilt byte for byte', async () => {
    const writer = await volume.startGroup(SMALL);
    volume.writeBlocks(writer, 150);
    writer.endCommit();
    await writer.write();
    await writer.close();
    const { group } = writer;
    const file = await volume.context.files.open(group.paths[0]!, 'read');
    const header = (await readHeader(volume.context.keys.maintenance, file))!;
    await file.close();
    const chain = new Uint8Array(32);
    const plan = { end: writer.address, firstSequence: 1, endSequence: 2, chain };
    await sealTakenOver(volume.context, group, header, plan);
    const before = volume.digests(group);
    for (const place of [1, 4]) fs.rmSync(group.paths[place]!);
    flip(group.paths[0]!, 10);
    expect(await repair(group)).toMatchObject({ lost: [], unrepaired: [] });
    expect(volume.digests(group)).toEqual(before);
  });
});

describe('while it is at work', () => {
  it('trusts no unit that changed after the check', async () => {
    const group = groups.full!;
    fs.rmSync(group.paths[0]!);
    const check = await checkGroup(volume.context, group);
    flip(group.paths[1]!, 3 * UNIT + 9);
    const options = { openFiles: volume.slots.openFiles };
    expect((await rebuildGroup(volume.context, check, options)).rebuilt).toEqual([group.paths[0]]);
    await repair(group);
    expectWhole(group);
  });

  it('publishes nothing when too much is damaged after the check', async () => {
    const group = groups.full!;
    fs.rmSync(group.paths[0]!);
    const check = await checkGroup(volume.context, group);
    for (const place of [1, 2]) flip(group.paths[place]!, 3 * UNIT + 9);
    const result = await rebuildGroup(volume.context, check, { openFiles: volume.slots.openFiles });
    expect(result.rebuilt).toEqual([]);
    expect(result.unrepaired).toHaveLength(1);
    expect(result.lost.map(({ from }) => from)).toEqual([12 * UNIT]);
    expect(fs.existsSync(group.paths[0]!)).toBe(false);
    expect(strays()).toEqual([]);
  });

  it('stops when told to and leaves nothing half done', async () => {
    const group = groups.full!;
    fs.rmSync(group.paths[0]!);
    const check = await checkGroup(volume.context, group);
    const stop = new AbortController();
    const options = {
      openFiles: volume.slots.openFiles,
      signal: stop.signal,
      onProgress: (): void => {
        stop.abort();
      },
    };
    await expect(rebuildGroup(volume.context, check, options)).rejects.toMatchObject({
      code: 'interrupted',
    });
    expect(fs.existsSync(group.paths[0]!)).toBe(false);
    expect(strays()).toEqual([]);
  });

  it('makes readers open the new file', async () => {
    const group = groups.full!;
    const { openFiles } = volume.slots;
    fs.writeFileSync(group.paths[0]!, 'of another kind');
    await openFiles.use(group.paths[0]!, (file) => file.size());
    await repair(group);
    expect(await openFiles.use(group.paths[0]!, (file) => file.size())).toBe(SMALL.chunkBytes);
  });
});

describe('a geometry without parity', () => {
  let plain: Group;

  beforeAll(async () => {
    plain = await volume.addGroup({ geometry: { ...SMALL, parity: 0 }, blocks: 100 });
    originals.set(plain, volume.contents(plain));
  });

  it('reports damage as lost', async () => {
    flip(plain.paths[2]!, 600);
    const result = await repair(plain);
    expect(result.lost).toEqual([
      { group: plain, from: 2 * UNIT, to: 3 * UNIT, unverifiable: false },
    ]);
    expect(result.unrepaired).toHaveLength(1);
  });

  it('reports a missing file as lost', async () => {
    fs.rmSync(plain.paths[0]!);
    const result = await repair(plain);
    expect(result.lost.map(({ from }) => from)).toEqual([0, 4 * UNIT]);
    expect(fs.existsSync(plain.paths[0]!)).toBe(false);
  });

  it('mends header and footer, which need no parity', async () => {
    flip(plain.paths[1]!, 30);
    flip(plain.paths[3]!, fs.statSync(plain.paths[3]!).size - 80);
    expect(await repair(plain)).toMatchObject({ lost: [], unrepaired: [] });
    expectWhole(plain);
  });
});
