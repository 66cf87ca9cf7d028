/** The status of a volume for people to read. */
import { formatBytes } from './size.js';
import type { RemoteStatus, StatusReport } from './status-report.js';

const LABEL_CHARS = 12;

export function describeStatus(report: StatusReport): string[] {
  return [
    row('volume', `${report.name} (${report.folder})`),
    row('size', `${formatBytes(report.sizeBytes)}, ${formatBytes(report.mappedBytes)} in use`),
    row('stored', stored(report)),
    row('held', held(report)),
    row('snapshots', snapshots(report)),
    row('written', written(report)),
    row('generation', `${report.generation}, commit ${report.sequence}`),
    row('attached', attached(report)),
    row('groups', groups(report)),
    ...report.groups
      .filter((group) => group.missing > 0)
      .map(({ ordinal, id, missing, members }) =>
        row('', `group ${ordinal} (${id.slice(0, 8)}): ${missing} of ${members} files missing`),
      ),
    row('unprotected', `${formatBytes(report.unprotectedBytes)} without parity yet`),
    ...(report.stagedBytes > 0 ? [row('staged', formatBytes(report.stagedBytes))] : []),
    ...healed(report),
    ...remotes(report.remotes),
  ];
}

function row(label: string, text: string): string {
  return `${label.padEnd(LABEL_CHARS)} ${text}`;
}

function stored({ fileBytes, parityBytes, garbageBytes }: StatusReport): string {
  const parts = `${formatBytes(parityBytes)} parity, ${formatBytes(garbageBytes)} garbage`;
  return `${formatBytes(fileBytes)} in chunk files (${parts})`;
}

/** What keeps bytes that the disk as it is now does not need. */
function held({ snapshots: all, snapshotBytes, retiredBytes }: StatusReport): string {
  const counted = all.length === 0 ? 0 : snapshotBytes;
  const bySnapshots = counted === null ? 'not counted yet' : formatBytes(counted);
  const inFiles = formatBytes(retiredBytes);
  return `for snapshots alone: ${bySnapshots}; in files that are not deleted yet: ${inFiles}`;
}

function snapshots({ snapshots: all }: StatusReport): string {
  const newest = all.at(-1);
  return newest ? `${all.length}, the newest ${newest.name} of ${newest.time}` : 'none';
}

function written({ writtenBytes, loggedBytes, writeAmplification }: StatusReport): string {
  const ratio = writeAmplification === null ? '' : ` (${writeAmplification.toFixed(2)} times)`;
  return `${formatBytes(writtenBytes)} by clients, ${formatBytes(loggedBytes)} to the log${ratio}`;
}

function attached({ server, attached: places, readOnly }: StatusReport): string {
  if (!server) return 'no';
  const where = places.map(place).join(', ') || 'nowhere';
  const mode = readOnly ? ', read-only' : '';
  return `${where}${mode}; process ${server.pid} serves ${server.uri}`;
}

function place({ target, snapshot }: StatusReport['attached'][number]): string {
  return snapshot === null ? target : `${target} (snapshot ${snapshot})`;
}

function groups({ geometry, groups: all }: StatusReport): string {
  const open = all.filter(({ state }) => state !== 'sealed').length;
  const shape = `${geometry.data} + ${geometry.parity} files of ${formatBytes(geometry.chunkBytes)}`;
  const ill = all.filter(({ missing }) => missing > 0).length;
  const health = ill === 0 ? 'all files there' : `${ill} with files missing`;
  return `${all.length} of ${shape}, ${open} not sealed; ${health}`;
}

function healed({ healed: { reconstructedSlots, healedSlots } }: StatusReport): string[] {
  if (reconstructedSlots === 0 && healedSlots === 0) return [];
  return [row('healed', `${reconstructedSlots} reads reconstructed, ${healedSlots} written back`)];
}

function remotes(all: readonly RemoteStatus[]): string[] {
  return all.map(({ name, url, lastSync, unsyncedBytes }) => {
    const last = lastSync ? `${lastSync.time}, generation ${lastSync.generation}` : 'never';
    return row(
      'remote',
      `${name} (${url}): synced ${last}; ${formatBytes(unsyncedBytes)} not there`,
    );
  });
}
