/** What is read back of the log: a commit counts with every byte that it takes up, or not at all. */
import * as fs from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { GIB, KIB, MIB } from '../../../src/base/bytes.js';
import { HEADER_BYTES, SECTOR_BYTES } from '../../../src/base/geometry.js';
import { locate, rowBytes } from '../../../src/erasure/stripe.js';
import { maxRows } from '../../../src/format/footer.js';
import type { LogPoint } from '../../../src/format/root.js';
import { makeGroup, type Group } from '../../../src/store/group.js';
import { CommitReader } from '../../../src/volume/commit-reader.js';
import type { Volume } from '../../../src/volume/volume.js';
import { partsOf } from '../../support/inside.js';
import { makeVolume, open, patterned, temporaryFolder } from '../../support/volumes.js';

const BLOCK = 4 * KIB;
/** Every so many bytes one is changed: a prime, so that all parts of a sector come to it. */
const STEP = 1021;

interface Written {
  readonly volume: Volume;
  /** The group that the log ends in, as recovery sees it. */
  readonly group: Group;
  readonly start: LogPoint;
  readonly reader: CommitReader;
}

/** A log with commits of every form: blocks, holes, long bodies at the end of a unit, roots in pieces. */
async function makeWritten(): Promise<Written> {
  const folder = temporaryFolder();
  await makeVolume(folder, { data: 2, parity: 1, sizeBytes: GIB });
  const volume = await open(folder);
  onTestFinished(() => volume.close().catch(() => undefined));
  const { context, slots, end, writePath } = partsOf(volume);
  const { sequence, chain, durableUpTo } = end.point;
  for (let i = 1; i < 6; i++) {
    await volume.write(i * MIB, patterned(i * 3 * BLOCK, i));
    await volume.flush();
  }
  const { unitBytes } = end.writer!.group.geometry;
  while (end.point.address % unitBytes !== unitBytes - SECTOR_BYTES) {
    await volume.trim(0, BLOCK);
    await volume.flush();
  }
  for (let i = 0; i < 300; i++) await volume.trim(i * 2 * BLOCK, BLOCK);
  await volume.flush();
  await writePath.exclusively(async () => {
    for (let i = 0; i < 4; i++) {
      const root = patterned(40 * KIB, i);
      end.parts.log.appendNodes(
        end.writer!,
        [],
        () => undefined,
        root.length,
        () => root,
      );
    }
    await end.makeDurable();
  });
  const { ordinal, id, geometry, sealId } = end.writer!.group;
  const group = makeGroup(context, {
    ...{ ordinal, id, geometry, sealId },
    survived: 0,
    state: 'open',
    end: 0,
  });
  const reader = new CommitReader(context, slots, BLOCK);
  return { volume, group, start: { ordinal, address: 0, sequence, chain, durableUpTo }, reader };
}

/** Runs work while one byte of the group is another one. */
async function withFlip(group: Group, address: number, work: () => Promise<void>): Promise<void> {
  const { member, offset } = locate(group.geometry, address);
  const file = fs.openSync(group.paths[member]!, 'r+');
  const byte = Buffer.alloc(1);
  const flip = (): void => {
    fs.readSync(file, byte, 0, 1, offset);
    byte[0]! ^= 0x40;
    fs.writeSync(file, byte, 0, 1, offset);
  };
  flip();
  await work();
  flip();
  fs.closeSync(file);
}

describe('a commit of a group that is not sealed', () => {
  it('is read when all of it is there, and ends the log when any byte of it is another', async () => {
    const { volume, group, start, reader } = await makeWritten();
    const { unitBytes } = group.geometry;
    let point = start;
    let commits = 0;
    for (;;) {
      const commit = await reader.read(group, point);
      if (!commit) break;
      commits++;
      for (let at = point.address; at < commit.end.address; at += STEP) {
        if (at < rowBytes(group.geometry) && at % unitBytes < HEADER_BYTES) continue;
        await withFlip(group, at, async () => {
          expect(await reader.read(group, point), `byte ${at}`).toBeNull();
        });
      }
      point = commit.end;
    }
    expect(commits).toBeGreaterThan(10);
    expect(point.sequence).toBe((await volume.status()).sequence);
  });

  it('does not begin where its group has no room for a header', async () => {
    const { group, start, reader } = await makeWritten();
    const capacity = maxRows(group.geometry) * rowBytes(group.geometry);
    expect(await reader.read(group, { ...start, address: capacity })).toBeNull();
  });
});
