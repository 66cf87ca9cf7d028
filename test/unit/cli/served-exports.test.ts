/** What is served of a volume, and what cannot be taken away from those who use it. */
import { beforeEach, describe, expect, it } from 'vitest';
import { isChunkvolError, ChunkvolError } from '../../../src/base/errors.js';
import type { Attachment } from '../../../src/cli/attachment.js';
import { Attachments } from '../../../src/cli/attachments.js';
import { exportName, ServedExports, type ServedSnapshot } from '../../../src/cli/served-exports.js';
import { MemoryDevice } from '../../support/memory-device.js';

const MIB = 2 ** 20;

/** A volume with snapshots that remember how they are used. */
class FakeVolume extends MemoryDevice {
  name = 'disk';
  names = ['monday', 'tuesday'];
  readonly open: string[] = [];

  snapshots() {
    return this.names.map((name, at) => ({
      id: `${at}`,
      name,
      timeMs: 1_000_000_000_000,
      sizeBytes: (at + 1) * MIB,
      mappedBytes: 0,
    }));
  }

  openSnapshot(name: string): ServedSnapshot {
    if (!this.names.includes(name)) throw new ChunkvolError('not-found', 'no such snapshot');
    this.open.push(name);
    const { sizeBytes } = this.snapshots().find((one) => one.name === name)!;
    const device = new MemoryDevice(sizeBytes, { readOnly: true }) as MemoryDevice & ServedSnapshot;
    device.close = () => this.open.splice(this.open.indexOf(name), 1);
    return device;
  }
}

let volume: FakeVolume;
let attachments: Attachments;
let served: ServedExports;

beforeEach(() => {
  volume = new FakeVolume(8 * MIB);
  attachments = new Attachments(volume, () => served.users(null));
  served = new ServedExports(volume, attachments.all);
});

function place(target: string, snapshot: string | null): Attachment {
  return { kind: 'fuse', target, snapshot, createdFile: true };
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error: unknown) => (isChunkvolError(error) ? error.code : String(error)),
  );
}

describe('the exports', () => {
  it('are the disk under two names, and each snapshot', () => {
    expect(served.list().map(({ name }) => name)).toEqual(['disk', '@monday', '@tuesday']);
    expect(served.find('')?.name).toBe('disk');
    expect(served.find('disk')?.facts).toMatchObject({ sizeBytes: 8 * MIB, readOnly: false });
    expect(served.find('@tuesday')).toMatchObject({
      description: 'snapshot of 2001-09-09T01:46:40.000Z of chunkvol volume disk',
      facts: { sizeBytes: 2 * MIB, blockBytes: 4096, readOnly: true },
    });
    for (const name of ['@', 'monday', '@Monday', '@wednesday', 'disk@monday']) {
      expect(served.find(name), name).toBeNull();
    }
  });

  it('come and go with the snapshots', () => {
    volume.names = ['tuesday', 'wednesday'];
    expect(served.list().map(({ name }) => name)).toEqual(['disk', '@tuesday', '@wednesday']);
    expect(served.find('@monday')).toBeNull();
  });

  it('give a snapshot its name even in a volume that is called like it', () => {
    volume.name = '@monday';
    expect(served.find('@monday')?.facts.readOnly).toBe(true);
    expect(served.find('')?.facts.readOnly).toBe(false);
  });

  it('open a snapshot for each client, and count them', () => {
    const disks = [1, 2].map(() => served.find('@monday')!.open());
    expect([served.users('monday'), volume.open]).toEqual([2, ['monday', 'monday']]);
    for (const disk of disks) disk.close();
    expect([served.users('monday'), volume.open]).toEqual([0, []]);
    const live = served.find('')!.open();
    expect([live.device, served.users(null)]).toEqual([volume, 1]);
  });

  it('do not count who found nothing to open', () => {
    const found = served.find('@monday')!;
    volume.names = [];
    expect(() => found.open()).toThrow('no such snapshot');
    expect(served.users('monday')).toBe(0);
  });

  it('are named after snapshots in one way', () => {
    expect([exportName(null), exportName('monday')]).toEqual(['', '@monday']);
  });
});

describe('withdrawing', () => {
  it('keeps new clients away until it is taken back', async () => {
    const offer = await served.withdraw(['monday', null]);
    expect(served.list().map(({ name }) => name)).toEqual(['@tuesday']);
    expect([served.find('@monday'), served.find(''), served.find('disk')]).toEqual([
      null,
      null,
      null,
    ]);
    offer();
    expect(served.list()).toHaveLength(3);
  });

  it('is refused while there are clients, and changes nothing then', async () => {
    const disk = served.find('@monday')!.open();
    await expect(served.withdraw(['tuesday', 'monday'])).rejects.toThrow(
      '1 client is connected to snapshot monday; disconnect it first',
    );
    expect(served.list()).toHaveLength(3);
    const other = served.find('@monday')!.open();
    await expect(served.withdraw(['monday'])).rejects.toThrow(/^2 clients are connected/);
    for (const each of [disk, other]) each.close();
    (await served.withdraw(['tuesday', 'monday']))();
  });

  it('waits for a client that is about to leave, and lets nobody in meanwhile', async () => {
    const disk = served.find('')!.open();
    const withdrawing = served.withdraw([null]);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(served.find('')).toBeNull();
    disk.close();
    (await withdrawing)();
  });

  it('is refused while attached, connected or not, and says how to detach', async () => {
    await attachments.add(place('/mnt/monday', 'monday'));
    await expect(served.withdraw(['monday'])).rejects.toThrow(
      'snapshot monday is attached at /mnt/monday; detach it first: chunkvol detach /mnt/monday',
    );
    expect(await codeOf(served.withdraw(['monday']))).toBe('in-use');
    expect(await codeOf(served.withdraw([null]))).toBe('none');
    attachments.remove('/mnt/monday');
    expect(await codeOf(served.withdraw(['monday']))).toBe('none');
  });
});

describe('attachments', () => {
  it('tell the size of what is to be shown', async () => {
    expect(await attachments.add(place('/a', null))).toEqual({ sizeBytes: 8 * MIB });
    expect(await attachments.add(place('/b', 'monday'))).toEqual({ sizeBytes: MIB });
    expect(await attachments.add(place('/c', 'monday'))).toEqual({ sizeBytes: MIB });
    expect(attachments.all.map(({ target }) => target)).toEqual(['/a', '/b', '/c']);
    expect(volume.open).toEqual([]);
  });

  it('are one only for the disk, also when two are made at once', async () => {
    const both = [attachments.add(place('/a', null)), attachments.add(place('/b', null))];
    expect(await Promise.all(both.map(codeOf))).toEqual(['none', 'in-use']);
    await expect(attachments.add(place('/c', null))).rejects.toThrow(/attached at \/a already/);
    attachments.remove('/a');
    await attachments.add(place('/b', null));
  });

  it('of the disk wait for clients that leave, and are refused beside others', async () => {
    const disk = served.find('')!.open();
    const waiting = attachments.add(place('/a', null));
    await new Promise((resolve) => setTimeout(resolve, 60));
    disk.close();
    await waiting;
    attachments.remove('/a');
    const other = served.find('')!.open();
    await expect(attachments.add(place('/a', null))).rejects.toThrow(/has other clients/);
    expect(attachments.all).toEqual([]);
    await attachments.add(place('/b', 'monday'));
    other.close();
  });

  it('are refused for what is not there, and for a place that is taken', async () => {
    await expect(attachments.add(place('/a', 'sunday'))).rejects.toThrow('no such snapshot');
    await attachments.add(place('/a', 'monday'));
    await expect(attachments.add(place('/a', 'tuesday'))).rejects.toThrow('/a is attached already');
    expect(attachments.all).toHaveLength(1);
  });
});
