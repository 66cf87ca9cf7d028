import { describe, expect, it } from 'vitest';
import { makeGeometry } from '../../../src/base/geometry.js';
import { planRestore, planSync, type NeededGroup } from '../../../src/sync/plan.js';

const geometry = makeGeometry(2, 1, 2 ** 20, 4096);
const CHUNK_BYTES = geometry.chunkBytes;

/** Members of a group have short sizes of their own: data files need not be equally long. */
function group(ordinal: number): NeededGroup {
  const members = [0, 1, 2].map((place) => ({
    path: `chunks/${ordinal}${place}`,
    shortBytes: 5000 + 10 * place,
  }));
  return { label: `group ${ordinal}`, ordinal, geometry, members };
}

const groups = [group(1), group(2)];
const short = new Map(
  groups.flatMap(({ members }) => members.map((file) => [file.path, file.shortBytes])),
);
const full = new Map([...short.keys()].map((path) => [path, CHUNK_BYTES]));

function without(sizes: ReadonlyMap<string, number>, ...paths: string[]): Map<string, number> {
  return new Map([...sizes].filter(([path]) => !paths.includes(path)));
}

describe('planSync', () => {
  it('copies everything to an empty remote', () => {
    const plan = planSync(groups, short, new Map());
    expect(plan.uploads.map((file) => [file.path, file.bytes])).toEqual([...short]);
    expect([plan.present, plan.replaced, plan.missing, plan.lost]).toEqual([[], [], [], []]);
  });

  it('copies what is lacking, and leaves alone what nobody asked for', () => {
    const remote = new Map([...without(short, 'chunks/11'), ['chunks/foreign', 17]]);
    const plan = planSync(groups, short, remote);
    expect(plan.uploads).toEqual([{ path: 'chunks/11', bytes: 5010 }]);
    expect(plan.present).toHaveLength(5);
  });

  it('has nothing to do when all is there', () => {
    expect(planSync(groups, full, full).uploads).toEqual([]);
  });

  it.each([0, 4999, 5001, CHUNK_BYTES])('replaces a file of %i bytes', (bytes) => {
    const plan = planSync(groups, short, new Map([...short, ['chunks/10', bytes]]));
    expect(plan.uploads).toEqual([{ path: 'chunks/10', bytes: 5000 }]);
    expect(plan.replaced).toEqual(['chunks/10']);
  });

  it('takes the size of a full group from its files', () => {
    const local = new Map([...full, ['chunks/10', 5000]]);
    const plan = planSync(groups, local, new Map([['chunks/11', 5010]]));
    expect(plan.localFaults.map((member) => member.path)).toEqual(['chunks/10']);
    expect(plan.replaced).toEqual(['chunks/11']);
    expect(plan.uploads.every((file) => file.bytes === CHUNK_BYTES)).toBe(true);
  });

  it('takes it from the remote when nothing is here', () => {
    const local = new Map([...full].filter(([path]) => path.startsWith('chunks/2')));
    const plan = planSync(groups, local, full);
    expect(plan.uploads).toEqual([]);
    expect(plan.localFaults).toHaveLength(3);
    expect(plan.missing).toEqual([]);
  });

  it('uploads nothing that is damaged here, and makes up for it by parity', () => {
    const local = new Map([...without(short, 'chunks/20'), ['chunks/11', 4000]]);
    const plan = planSync(groups, local, without(short, 'chunks/11', 'chunks/12'));
    expect(plan.uploads.map((file) => file.path)).toEqual(['chunks/12']);
    expect(plan.localFaults.map((member) => member.path)).toEqual(['chunks/11', 'chunks/20']);
    expect(plan.missing).toEqual([{ path: 'chunks/11', group: 'group 1', ordinal: 1, place: 1 }]);
    expect(plan.lost).toEqual([]);
  });

  it('leaves a damaged file there alone when ours is damaged too', () => {
    const bad = new Map([...short, ['chunks/11', 4000]]);
    const plan = planSync(groups, bad, bad);
    expect([plan.uploads, plan.replaced]).toEqual([[], []]);
    expect(plan.missing).toHaveLength(1);
  });

  it('names the group that has lost more than parity replaces', () => {
    const local = without(short, 'chunks/20', 'chunks/22');
    expect(planSync(groups, local, without(short, 'chunks/22')).lost).toEqual([]);
    const plan = planSync(groups, local, new Map());
    expect(plan.lost.map(({ group: lost }) => lost.label)).toEqual(['group 2']);
    expect(plan.lost[0]!.missing.map((member) => member.place)).toEqual([0, 2]);
  });
});

describe('planRestore', () => {
  it('takes what has the right size', () => {
    const remote = new Map([...full, ['chunks/10', 100], ['chunks/foreign', 1]]);
    const plan = planRestore(groups, without(remote, 'chunks/22'));
    expect(plan.downloads).toHaveLength(4);
    expect(plan.missing.map((member) => member.path)).toEqual(['chunks/10', 'chunks/22']);
    expect(plan.lost).toEqual([]);
  });

  it('says when too little is there', () => {
    expect(planRestore(groups, without(short, 'chunks/10', 'chunks/11')).lost).toHaveLength(1);
    expect(planRestore(groups, new Map()).lost).toHaveLength(2);
  });
});
