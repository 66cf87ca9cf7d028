/** What `status` says of space and snapshots, in words. */
import { describe, expect, it } from 'vitest';
import type { StatusReport } from '../../../src/cli/status-report.js';
import { describeStatus } from '../../../src/cli/status-text.js';
import { localTime, snapshotTable } from '../../../src/cli/snapshot-text.js';

const MIB = 2 ** 20;
const SNAPSHOT = { id: '00', sizeBytes: MIB, mappedBytes: MIB, time: '2026-11-25T02:22:06.000Z' };

const REPORT: StatusReport = {
  schema: 1,
  folder: '/vault',
  name: 'vault',
  volumeId: '00',
  sizeBytes: 64 * MIB,
  blockBytes: 4096,
  geometry: { data: 4, parity: 2, chunkBytes: MIB, unitBytes: 65_536 },
  generation: 3,
  sequence: 9,
  durableUpTo: 8,
  mappedBytes: MIB,
  storedBytes: 2 * MIB,
  garbageBytes: MIB,
  snapshotBytes: 3 * MIB,
  retiredBytes: 4 * MIB,
  parityBytes: MIB,
  fileBytes: 3 * MIB,
  stagedBytes: 0,
  unprotectedBytes: 0,
  writtenBytes: 8 * MIB,
  loggedBytes: 10 * MIB,
  writeAmplification: 1.25,
  groups: [],
  snapshots: [
    { ...SNAPSHOT, name: 'one' },
    { ...SNAPSHOT, name: 'two' },
  ],
  healed: { reconstructedSlots: 0, healedSlots: 0 },
  engine: 'node',
  readOnly: false,
  server: null,
  attached: [],
  remotes: [],
};

/** What stands behind a label; undefined when there is no such line. */
function row(label: string, changes: Partial<StatusReport> = {}): string | undefined {
  const lines = describeStatus({ ...REPORT, ...changes });
  return lines.find((line) => line.startsWith(`${label} `))?.slice(13);
}

describe('the status in words', () => {
  it('tells what holds space', () => {
    expect(row('held')).toBe(
      'for snapshots alone: 3.00 MiB; in files that are not deleted yet: 4.00 MiB',
    );
    expect(row('held', { snapshotBytes: null })).toMatch(/^for snapshots alone: not counted yet;/);
    const none = { snapshotBytes: null, snapshots: [] };
    expect(row('held', none)).toMatch(/^for snapshots alone: 0 B;/);
  });

  it('tells of snapshots', () => {
    expect(row('snapshots')).toBe('2, the newest two of 2026-11-25T02:22:06.000Z');
    expect(row('snapshots', { snapshots: [] })).toBe('none');
  });

  it('tells what has been written, and for what', () => {
    expect(row('written')).toBe('8.00 MiB by clients, 10.0 MiB to the log (1.25 times)');
    const nothing = { writtenBytes: 0, loggedBytes: 0, writeAmplification: null };
    expect(row('written', nothing)).toBe('0 B by clients, 0 B to the log');
  });

  it('tells which snapshot is attached where', () => {
    const attached = [
      { kind: 'nbd', target: '/dev/nbd0', snapshot: null },
      { kind: 'fuse', target: '/old', snapshot: 'one' },
    ] as const;
    expect(row('attached', { server: { pid: 7, uri: 'nbd://x' }, attached })).toBe(
      '/dev/nbd0, /old (snapshot one); process 7 serves nbd://x',
    );
  });
});

describe('the table of snapshots', () => {
  const timeMs = new Date(2026, 0, 2, 3, 4, 5).getTime();

  it('lines up, whatever the names', () => {
    const all = [
      { id: '0', name: 'a', timeMs, sizeBytes: MIB, mappedBytes: 0, freedBytes: null },
      { id: '1', name: 'much longer', timeMs, sizeBytes: MIB, mappedBytes: MIB, freedBytes: 5 },
    ];
    expect(snapshotTable(all)).toEqual([
      'name         time                 in use    deleting frees',
      'a            2026-01-02 03:04:05  0 B       unknown',
      'much longer  2026-01-02 03:04:05  1.00 MiB  5 B',
    ]);
    expect(snapshotTable([])).toEqual([]);
  });

  it('shows local time', () => {
    expect(localTime({ timeMs })).toBe('2026-01-02 03:04:05');
  });
});
