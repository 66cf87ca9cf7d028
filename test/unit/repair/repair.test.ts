import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromSystem } from '../../../src/base/errors.js';
import type { Files } from '../../../src/base/files.js';
import { nodeFiles } from '../../../src/base/node-files.js';
import type { StoreContext } from '../../../src/store/context.js';
import { repairVolume } from '../../../src/repair/repair.js';
import { repairRoots } from '../../../src/repair/roots.js';
import { describeFinding, scrubGroups, type RepairProgress } from '../../../src/repair/scrub.js';
import { memberBytes } from '../../../src/erasure/stripe.js';
import { memberName, type Group } from '../../../src/store/group.js';
import { readGroupManifest } from '../../../src/store/member-check.js';
import { readRootReplica } from '../../../src/store/root-replica.js';
import { flip, SampleVolume, SMALL } from './sample-volume.js';

let volume: SampleVolume;

beforeEach(() => {
  volume = new SampleVolume();
});

afterEach(async () => {
  await volume.slots.openFiles.closeAll();
  volume.remove();
});

function rootNames(): string[] {
  return fs.readdirSync(`${volume.folder}/roots`).sort();
}

describe('the scrub', () => {
  it('finds nothing in sound groups, and counts what it read', async () => {
    await volume.addGroup({ blocks: 100, root: true });
    await volume.addGroup({ blocks: 70, full: true });
    const steps: RepairProgress[] = [];
    const onProgress = (step: RepairProgress): void => void steps.push(step);
    const report = await scrubGroups(volume.context, volume.groups, { onProgress });
    expect(report).toMatchObject({ checkedGroups: 2, findings: [], skipped: [], unverifiable: [] });
    const bytes = volume.groups.flatMap((group) => {
      return group.paths.map((_, place) => memberBytes(SMALL, group.end, place));
    });
    // Files whose units are all empty have a header all the same.
    const total = bytes.reduce((a, b) => a + b);
    expect(steps.at(-1)).toMatchObject({ doneBytes: report.checkedBytes, totalBytes: total });
    expect(report.checkedBytes).toBe(total);
  });

  it('names file and range of all that is wrong, and writes nothing', async () => {
    const group = await volume.addGroup({ blocks: 100 });
    flip(group.paths[0]!, 5000);
    fs.rmSync(group.paths[5]!);
    const before = volume.digests(group);
    const { findings } = await scrubGroups(volume.context, volume.groups);
    expect(findings.flatMap(describeFinding)).toEqual([
      expect.stringContaining(`${group.paths[0]!}: units damaged (bytes 512 to 65536, group 1 (`),
      expect.stringContaining(`${group.paths[5]!}: missing (file 5 of group 1 (`),
    ]);
    expect(volume.digests(group)).toEqual(before);
  });

  it('leaves out groups that are not sealed, and says so', async () => {
    const writer = await volume.startGroup(SMALL);
    const report = await scrubGroups(volume.context, volume.groups);
    expect(report).toMatchObject({ checkedGroups: 0, skipped: [writer.group] });
    await writer.close();
  });

  /** The volume as seen through a disk on which opening, or reading, one file fails. */
  function failing(path: string, at: 'open' | 'read', errno: string): StoreContext {
    const error = Object.assign(new Error(errno), { code: errno });
    const files: Files = {
      ...nodeFiles,
      async open(name, mode) {
        if (name === path && at === 'open') throw fromSystem(error, 'open', name);
        const file = await nodeFiles.open(name, mode);
        if (name === path) file.read = () => Promise.reject(fromSystem(error, 'read', name));
        return file;
      },
    };
    return { ...volume.context, files };
  }

  it('takes what the disk cannot give for damage', async () => {
    const group = await volume.addGroup({ blocks: 100 });
    const unreadable = failing(group.paths[2]!, 'read', 'EIO');
    const { findings } = await scrubGroups(unreadable, volume.groups);
    expect(findings.map(({ place }) => place)).toEqual([2]);
    expect(findings[0]!.damages.map(({ part }) => part)).toEqual(['header', 'units', 'footer']);
    const gone = failing(group.paths[3]!, 'open', 'EIO');
    expect((await scrubGroups(gone, volume.groups)).findings[0]!.damages[0]!.part).toBe('file');
  });

  it('takes no shortage of its own for damage', async () => {
    const group = await volume.addGroup({ blocks: 100 });
    const short = failing(group.paths[2]!, 'open', 'EMFILE');
    await expect(scrubGroups(short, volume.groups)).rejects.toMatchObject({ code: 'io' });
  });

  it('stops when told to', async () => {
    await volume.addGroup({ blocks: 100 });
    await expect(
      scrubGroups(volume.context, volume.groups, { signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ code: 'interrupted' });
  });
});

describe('roots', () => {
  it('come back, byte for byte, from the newest two replicas', async () => {
    for (let i = 0; i < 3; i++) await volume.addGroup({ blocks: 40 * i, root: true });
    const names = rootNames();
    const files = new Map(
      names.map((name) => [name, fs.readFileSync(`${volume.folder}/roots/${name}`)]),
    );
    for (const name of names) fs.rmSync(`${volume.folder}/roots/${name}`);
    const { restored, lostGenerations } = await repairRoots(
      volume.context,
      volume.groups,
      volume.slots,
    );
    expect(restored).toHaveLength(2);
    expect(lostGenerations).toEqual([]);
    expect(rootNames()).toEqual([...restored].sort());
    for (const name of restored) {
      expect(fs.readFileSync(`${volume.folder}/roots/${name}`).equals(files.get(name)!)).toBe(true);
    }
    const third = await readGroupManifest(volume.context, volume.groups[2]!);
    const bytes = await readRootReplica(volume.slots, volume.groups[2]!, third!.manifest.root!);
    expect([...files.values()].some((file) => file.equals(bytes))).toBe(true);
  });

  it('replace a damaged one of the same name, and leave sound ones alone', async () => {
    await volume.addGroup({ blocks: 30, root: true });
    await volume.addGroup({ blocks: 30, root: true });
    const [first, second] = rootNames().map((name) => `${volume.folder}/roots/${name}`);
    const original = fs.readFileSync(first!);
    const kept = fs.statSync(second!);
    flip(first!, 1000);
    await repairRoots(volume.context, volume.groups, volume.slots);
    expect(fs.readFileSync(first!).equals(original)).toBe(true);
    expect(fs.statSync(second!).ino).toBe(kept.ino);
  });

  it('come back although the replica has lost a file, and are given up when it lost three', async () => {
    const group = await volume.addGroup({ blocks: 1, root: true });
    fs.rmSync(`${volume.folder}/roots/${rootNames()[0]!}`);
    fs.rmSync(group.paths[0]!);
    expect((await repairRoots(volume.context, [group], volume.slots)).restored).toHaveLength(1);
    fs.rmSync(`${volume.folder}/roots/${rootNames()[0]!}`);
    for (const place of [4, 5]) {
      fs.rmSync(group.paths[place]!);
      volume.slots.openFiles.forget(group.paths[place]!);
    }
    const report = await repairRoots(volume.context, [group], volume.slots);
    expect(report).toEqual({ restored: [], lostGenerations: [1] });
  });
});

describe('the whole repair', () => {
  it('mends all groups and roots in one go', async () => {
    const first = await volume.addGroup({ blocks: 100, root: true });
    const second = await volume.addGroup({ blocks: 300, full: true });
    const before = volume.groups.map((group) => volume.digests(group));
    flip(first.paths[0]!, 5000);
    fs.rmSync(second.paths[0]!);
    fs.rmSync(second.paths[4]!);
    fs.rmSync(`${volume.folder}/roots/${rootNames()[0]!}`);
    const { slots } = volume;
    const report = await repairVolume(volume.context, volume.groups, { slots });
    expect(report).toMatchObject({
      checkedGroups: 2,
      rebuilt: [second.paths[0], second.paths[4]],
      mended: [{ path: first.paths[0], units: 1 }],
      lost: [],
      unrepaired: [],
      fetched: [],
    });
    expect(report.roots.restored).toHaveLength(1);
    expect(report.findings).toHaveLength(3);
    expect(volume.groups.map((group) => volume.digests(group))).toEqual(before);
    const again = await repairVolume(volume.context, volume.groups, { slots });
    expect(again).toMatchObject({ findings: [], rebuilt: [], mended: [], roots: { restored: [] } });
  });

  /** A place that has copies of a group's files, some of them perhaps changed. */
  function remoteOf(group: Group, change: (bytes: Buffer, place: number) => Buffer | null) {
    const asked: number[] = [];
    const copies = volume.contents(group).map((bytes, place) => change(bytes!, place));
    const fetchMember = (name: string): Promise<boolean> => {
      const place = group.paths.findIndex((file) => file.endsWith(name));
      asked.push(place);
      const copy = copies[place] ?? null;
      if (copy) fs.writeFileSync(`${group.paths[place]!}.new`, copy);
      return Promise.resolve(copy !== null);
    };
    return { asked, fetchMember };
  }

  it('fetches no more than it needs to rebuild the rest', async () => {
    const group = await volume.addGroup({ blocks: 200 });
    const before = volume.digests(group);
    const remote = remoteOf(group, (bytes) => bytes);
    for (const place of [0, 2, 4, 5]) fs.rmSync(group.paths[place]!);
    const report = await repairVolume(volume.context, [group], { slots: volume.slots, ...remote });
    expect(remote.asked).toEqual([0, 2]);
    expect(report.fetched).toEqual(
      [0, 2].map((place) => memberName(volume.context, group.id, group.sealId, place)),
    );
    expect(report).toMatchObject({ lost: [], unrepaired: [] });
    expect(report.rebuilt).toHaveLength(2);
    expect(volume.digests(group)).toEqual(before);
  });

  it('takes no fetched file that is not right to the last byte', async () => {
    const group = await volume.addGroup({ blocks: 200 });
    const before = volume.digests(group);
    const remote = remoteOf(group, (bytes, place) => {
      if (place === 0)
        bytes = Buffer.concat([bytes.subarray(0, 700), Buffer.of(1), bytes.subarray(701)]);
      return place === 2 ? null : bytes;
    });
    for (const place of [0, 2, 4]) fs.rmSync(group.paths[place]!);
    const report = await repairVolume(volume.context, [group], { slots: volume.slots, ...remote });
    expect(remote.asked).toEqual([0, 2, 4]);
    expect(report).toMatchObject({ lost: [], unrepaired: [] });
    expect(report.fetched).toHaveLength(1);
    expect(volume.digests(group)).toEqual(before);
    expect(fs.readdirSync(`${volume.folder}/chunks`)).toHaveLength(6);
  });

  it('finds its feet again with one fetched footer', async () => {
    const group = await volume.addGroup({ blocks: 200 });
    const before = volume.digests(group);
    const remote = remoteOf(group, (bytes, place) => (place === 3 ? bytes : null));
    for (const file of group.paths) flip(file, fs.statSync(file).size - 1);
    const report = await repairVolume(volume.context, [group], { slots: volume.slots, ...remote });
    expect(report).toMatchObject({ lost: [], unrepaired: [], unverifiable: [] });
    expect(report.mended).toHaveLength(5);
    expect(volume.digests(group)).toEqual(before);
  });
});
