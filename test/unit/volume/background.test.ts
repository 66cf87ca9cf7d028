/**
 * Collections in the background, beside writers that overwrite blocks evenly: they go by maps of some time
 * ago, and what they know of the groups must be true all the same.
 */
import { expect, it, onTestFinished, vi } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import { SLOT_OVERHEAD_BYTES } from '../../../src/crypto/engine.js';
import { NODE_FANOUT } from '../../../src/format/map-node.js';
import type { Group } from '../../../src/store/group.js';
import type { Frozen } from '../../../src/volume/frozen.js';
import type { Effort } from '../../../src/volume/garbage.js';
import { gather } from '../../../src/volume/gather.js';
import { makeNodeReader } from '../../../src/volume/node-reader.js';
import type { Excess } from '../../../src/volume/pace.js';
import type { Volume } from '../../../src/volume/volume.js';
import { collectorParts, partsOf } from '../../support/inside.js';
import { seededRandom } from '../../support/versioned-disk.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

vi.mock('../../../src/volume/limits.js', async (original) => ({
  ...(await original<object>()),
  STAGING_BYTES: 2 * 1024 * 1024,
  COLLECT_INTERVAL_MS: 20,
  // Groups are sealed without a root, so that maps come to the log for the collector alone.
  ROOT_SHARE: 1 / 4096,
  MIN_GARBAGE_BYTES: 128 * 1024,
  MIN_ROUND_BYTES: 1024 * 1024,
}));

const BLOCK = 4 * KIB;
const DISK = 24 * MIB;
const BLOCKS = DISK / BLOCK;
const AT_ONCE = 16;

/** Steps of a collection. */
interface Inside {
  victims(effort: Effort, newest: number): Group[];
  isTailBad(): boolean;
  excess(): Excess;
  freeze(): Promise<Frozen>;
  walk(frozen: Frozen, victims: ReadonlySet<number>, signal: AbortSignal): Promise<unknown>;
}

function collectorOf(volume: Volume): Inside {
  return partsOf(volume).collector as unknown as Inside;
}

/** By ordinal of the group what is known to be alive in it, and what is. */
async function liveBytes(volume: Volume): Promise<[known: unknown, found: unknown]> {
  await volume.sealNow();
  const { end, slots } = partsOf(volume);
  const { map, groups } = end.parts;
  const read = makeNodeReader(slots, groups);
  const { liveness } = await gather([map.root], new Set(), BLOCK + SLOT_OVERHEAD_BYTES, read);
  const live = groups.all().filter((group) => group.liveBytes > 0);
  return [new Map(live.map((group) => [group.ordinal, group.liveBytes])), liveness.live];
}

async function filled(sizeBytes: number): Promise<Volume> {
  const folder = temporaryFolder();
  await makeVolume(folder, { data: 2, parity: 1, sizeBytes });
  const volume = await open(folder);
  for (let at = 0; at < sizeBytes; at += MIB) await volume.write(at, patterned(MIB, at + 1));
  await volume.flush();
  return volume;
}

it('moves and retires what it should, by maps that stand in the log already', async () => {
  const volume = await filled(DISK);
  onTestFinished(() => volume.close());
  const walks = vi.spyOn(collectorOf(volume), 'walk');
  const freezes = vi.spyOn(collectorOf(volume), 'freeze');
  const random = seededRandom(1);
  const turns = new Float64Array(BLOCKS);
  const contents = (block: number): Uint8Array => patterned(BLOCK, block + turns[block]! * BLOCKS);
  for (let written = 0; written < 2 * BLOCKS; written += AT_ONCE) {
    const blocks = new Set(Array.from({ length: AT_ONCE }, () => Math.floor(random() * BLOCKS)));
    for (const block of blocks) turns[block]!++;
    await Promise.all([...blocks].map((block) => volume.write(block * BLOCK, contents(block))));
  }
  const rounds = walks.mock.calls.length;
  expect(rounds).toBeGreaterThan(20);
  expect(freezes.mock.calls.length).toBeLessThan(rounds * 0.8);

  const [known, found] = await liveBytes(volume);
  expect(known).toEqual(found);
  for (let block = 0; block < BLOCKS; block++) {
    if (turns[block] === 0) continue;
    const bytes = new Uint8Array(BLOCK);
    await volume.read(block * BLOCK, bytes);
    expect(Buffer.compare(bytes, contents(block)), `block ${block}`).toBe(0);
  }
}, 60_000);

it('does not go by maps from the middle of a move, when groups hold what no map names yet', async () => {
  const volume = await filled(DISK);
  onTestFinished(() => volume.close());
  const { checkpointer, writePath } = collectorParts(partsOf(volume).collector);
  for (let at = 0; at < DISK; at += 2 * BLOCK) await volume.write(at, patterned(BLOCK, at + 9));
  await volume.sealNow();
  // With nothing else to be written, it is moves that find no room, and so close the group.
  const writerFor = checkpointer.writerFor.bind(checkpointer);
  let closed = 0;
  vi.spyOn(checkpointer, 'writerFor').mockImplementation(async (...wanted) => {
    await checkpointer.closeGroup(false);
    expect(checkpointer.frozen).not.toBeNull();
    closed++;
    return writerFor(...wanted);
  });
  const exclusively = writePath.exclusively.bind(writePath);
  vi.spyOn(writePath, 'exclusively').mockImplementation(async (work) => {
    const before = closed;
    const result = await exclusively(work);
    if (closed > before) expect(checkpointer.frozen).toBeNull();
    return result;
  });
  await volume.collect({ aggressive: true });
  expect(closed).toBeGreaterThan(2);
  const [known, found] = await liveBytes(volume);
  expect(known).toEqual(found);
});

it('counts once what was dropped unseen, however often it walks', async () => {
  // So large that what is dropped makes no collection due.
  const sizeBytes = 2 * DISK;
  const trimmedBytes = 3 * NODE_FANOUT * BLOCK;
  const before = await filled(sizeBytes);
  await before.close();
  const volume = await open(before.context.folder);
  onTestFinished(() => volume.close());
  const collector = collectorOf(volume);
  const check = async (): Promise<void> => {
    const [known, found] = await liveBytes(volume);
    expect(known).toEqual(found);
    expect((await volume.status()).mappedBytes).toBe(sizeBytes - trimmedBytes);
  };
  const walk = (frozen: Frozen): Promise<unknown> =>
    collector.walk(frozen, new Set(), new AbortController().signal);

  await volume.trim(0, trimmedBytes);
  await volume.flush();
  expect(partsOf(volume).end.parts.map.hasDropped).toBe(true);
  const frozen = await collector.freeze();
  // The maps come to the log once more before that has been counted.
  await volume.write(sizeBytes - BLOCK, patterned(BLOCK, 9));
  await volume.sealNow();
  const { checkpointer } = collectorParts(partsOf(volume).collector);
  expect(checkpointer.frozen).not.toBe(frozen);
  await walk(frozen);
  expect(checkpointer.frozen, 'what was noted before the walk').toBeNull();
  await check();
  for (let i = 0; i < 2; i++) {
    await walk(frozen);
    await check();
  }
});

it('empties a group of which nothing but map nodes is alive, while nobody writes', async () => {
  const leafBytes = NODE_FANOUT * BLOCK;
  const leaves = 64;
  const folder = temporaryFolder();
  await makeVolume(folder, { data: 2, parity: 1, sizeBytes: 2 * leaves * leafBytes });
  const volume = await open(folder);
  onTestFinished(() => volume.close());
  const { end } = partsOf(volume);
  let victims: Group[] = [];
  vi.spyOn(collectorOf(volume), 'victims').mockImplementation(() => victims);
  for (let i = 0; i < leaves; i++) await volume.write(i * leafBytes, patterned(BLOCK, i));
  // With so many nodes changed the group is sealed without them.
  await volume.write((leaves + 1) * leafBytes, patterned(MIB + MIB / 4, 1));
  await volume.flush();
  // They come to the next one, beside blocks that are dead soon.
  await volume.write(leaves * leafBytes, patterned(MIB, 1));
  await collectorOf(volume).freeze();
  const { group } = end.writer!;
  await volume.sealNow();
  await volume.write(leaves * leafBytes, patterned(MIB, 2));
  await volume.flush();
  expect(group.liveBytes).toBeGreaterThan(leaves * BLOCK);

  victims = [group];
  await vi.waitFor(
    () => {
      expect(end.parts.groups.all()).not.toContain(group);
    },
    { timeout: 5000 },
  );
  victims = [];
  const [known, found] = await liveBytes(volume);
  expect(known).toEqual(found);
});

it('does not keep writers waiting when what is dead is out of its reach', async () => {
  const volume = await filled(MIB);
  onTestFinished(() => volume.close());
  // All of it is in the group that they write to, which stays, and nothing is left of a burst.
  vi.spyOn(collectorOf(volume), 'isTailBad').mockReturnValue(false);
  const pace = partsOf(volume).collector.pace as unknown as { burst: number };
  const start = performance.now();
  for (let turn = 1; turn <= 1000; turn++) {
    pace.burst = 1;
    await volume.write(0, patterned(BLOCK, turn));
    if (turn % 8 === 0) await volume.flush();
  }
  expect(performance.now() - start).toBeLessThan(15_000);
});

it('begins, and keeps writers waiting, when what is staged will leave too much dead', async () => {
  const volume = await filled(DISK);
  onTestFinished(() => volume.close());
  const collector = collectorOf(volume);
  const walks = vi.spyOn(collector, 'walk');
  // Of what is alive a quarter may be dead, and four fifths of that make a collection due.
  for (let at = 0; at < 0.12 * DISK; at += BLOCK) await volume.write(at, patterned(BLOCK, at + 9));
  await volume.sealNow();
  expect(collector.excess().bytes).toBeLessThanOrEqual(0);
  expect(walks).not.toHaveBeenCalled();
  // As if commits did not get on.
  const { end } = partsOf(volume);
  const staged = vi.spyOn(end.parts.staging, 'stagedBytes', 'get').mockReturnValue(0.4 * DISK);
  expect(collector.excess().bytes).toBeGreaterThan(0);
  await vi.waitFor(
    () => {
      expect(walks).toHaveBeenCalled();
    },
    { timeout: 10_000 },
  );
  staged.mockRestore();
});

it('makes up for what is dead where it does not come to yet', async () => {
  const volume = await filled(DISK);
  onTestFinished(() => volume.close());
  for (let at = 0; at < 0.13 * DISK; at += BLOCK) await volume.write(at, patterned(BLOCK, at + 9));
  await volume.sealNow();
  const { end } = partsOf(volume);
  const newest = end.durable.ordinal;
  expect(collectorOf(volume).victims('background', newest)).toEqual([]);
  const all = end.parts.groups.all();
  const dead = Object.create(all[0]!, {
    ordinal: { value: newest + 9 },
    end: { value: 0.1 * DISK },
    liveBytes: { value: 0 },
  }) as Group;
  expect(dead.state).toBe('sealed');
  const groups = vi.spyOn(end.parts.groups, 'all').mockReturnValue([...all, dead]);
  expect(collectorOf(volume).victims('background', newest)).not.toEqual([]);
  groups.mockRestore();
});

it('seals groups that failed by itself: nothing that is retired can go before', async () => {
  const volume = await filled(MIB);
  onTestFinished(() => volume.close());
  const { end } = partsOf(volume);
  const sync = vi.spyOn(end.writer!.files[0]!, 'sync').mockRejectedValueOnce(new Error('EIO'));
  await volume.write(0, patterned(BLOCK, 7));
  await volume.flush();
  expect(sync).toHaveBeenCalled();
  const states = (): string[] => volume.groups().map(({ state }) => state);
  await vi.waitFor(
    () => {
      expect(states()).toEqual(['sealed', 'open']);
    },
    { timeout: 10_000 },
  );
});

it('gives up moves whose commits fail again and again, and loses nothing', async () => {
  const volume = await filled(DISK);
  onTestFinished(() => volume.close());
  for (let at = 0; at < DISK; at += 2 * BLOCK) await volume.write(at, patterned(BLOCK, at + 9));
  await volume.flush();
  const { end, survivors } = collectorParts(partsOf(volume).collector);
  const makeDurable = end.makeDurable.bind(end);
  // Moves place their slots, then they are told: the commits that tell it are those that fail.
  let failures = 0;
  const place = survivors.place.bind(survivors);
  vi.spyOn(survivors, 'place').mockImplementation(async (...moves) => {
    failures = 3;
    return place(...moves);
  });
  const failing = vi.spyOn(end, 'makeDurable').mockImplementation(async () => {
    const isDurable = await makeDurable();
    return failures-- > 0 ? false : isDurable;
  });
  const failure = await volume.collect({ aggressive: true }).catch((error: unknown) => error);
  failing.mockRestore();
  expect(failure).toMatchObject({ code: 'io' });
  expect(String(failure)).toMatch(/while blocks were moved/);

  await volume.collect({ aggressive: true });
  const [known, found] = await liveBytes(volume);
  expect(known).toEqual(found);
  const bytes = new Uint8Array(BLOCK);
  for (let at = 0; at < DISK; at += 2 * BLOCK) {
    await volume.read(at, bytes);
    expect(Buffer.compare(bytes, patterned(BLOCK, at + 9)), `byte ${at}`).toBe(0);
  }
});

it('goes by new maps when older ones cannot be walked', async () => {
  const volume = await filled(DISK);
  onTestFinished(() => volume.close());
  const collector = collectorOf(volume);
  const parts = collectorParts(partsOf(volume).collector);
  const frozen = await collector.freeze();
  expect(parts.checkpointer.frozen).toBe(frozen);
  const reading = vi.spyOn(parts, 'readNode').mockRejectedValueOnce(new Error('lost'));
  const walk = (): Promise<unknown> =>
    collector.walk(frozen, new Set(), new AbortController().signal);
  await expect(walk().then(() => null)).rejects.toThrow('lost');
  expect(reading).toHaveBeenCalledOnce();
  expect(parts.checkpointer.frozen).toBeNull();
});
