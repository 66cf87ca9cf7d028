/**
 * How much of the machine others used while something was measured: on a shared machine the one figure that
 * tells whether the rest can be trusted.
 *
 * The kernel's counters are in ticks, the same for all of them. What was busy, less this
 * process, fio, the server and all their descendants, less kernel threads (they write back what the
 * servers wrote), is somebody else's. `stolen` is what the hypervisor gave to other machines.
 */
import { readFileSync, readdirSync } from 'node:fs';

export interface Noise {
  /** Share of all CPU time, 0 to 1, that processes of others used. */
  readonly others: number;
  /** Share of all CPU time, 0 to 1, that the hypervisor took away. */
  readonly stolen: number;
}

/** Of include/linux/sched.h. */
const PF_KTHREAD = 0x00200000;

/** Starts to watch; the function it returns tells the noise since. `serverPid` counts as own. */
export function watchNoise(serverPid: number): () => Noise {
  const before = sample(serverPid);
  return () => {
    const after = sample(serverPid);
    const total = after.totalTicks - before.totalTicks;
    const busy = after.busyTicks - before.busyTicks;
    const known = after.knownTicks - before.knownTicks;
    const stolen = after.stolenTicks - before.stolenTicks;
    return {
      others: total === 0 ? 0 : Math.max(0, busy - known) / total,
      stolen: total === 0 ? 0 : stolen / total,
    };
  };
}

interface Sample {
  readonly totalTicks: number;
  readonly busyTicks: number;
  readonly stolenTicks: number;
  /** Busy for us, or for the kernel itself. */
  readonly knownTicks: number;
}

function sample(serverPid: number): Sample {
  const [cpuLine = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const ticks = cpuLine.split(/\s+/).slice(1, 9).map(Number);
  const [user = 0, nice = 0, system = 0, , , , , steal = 0] = ticks;
  return {
    totalTicks: ticks.reduce((sum, value) => sum + value, 0),
    busyTicks: user + nice + system,
    stolenTicks: steal,
    knownTicks: knownTicks(readProcesses(), [process.pid, serverPid]),
  };
}

interface ProcessStat {
  readonly pid: number;
  readonly parentPid: number;
  readonly isKernelThread: boolean;
  /** Its own time, and that of the children that it has waited for. */
  readonly ticks: number;
}

function knownTicks(processes: readonly ProcessStat[], ownRoots: readonly number[]): number {
  const own = new Set(ownRoots);
  // Children have mostly higher ids than their parents, but ids wrap: repeat until nothing is new.
  for (let sizeBefore = 0; sizeBefore !== own.size;) {
    sizeBefore = own.size;
    for (const { pid, parentPid } of processes) if (own.has(parentPid)) own.add(pid);
  }
  return processes
    .filter(({ pid, isKernelThread }) => isKernelThread || own.has(pid))
    .reduce((sum, { ticks }) => sum + ticks, 0);
}

function readProcesses(): ProcessStat[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readProcess(name) ?? []);
}

function readProcess(pid: string): ProcessStat | undefined {
  let line: string;
  try {
    line = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The name, in parentheses, may hold anything; proc(5) counts the fields after it from 3.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const field = (number: number): number => Number(fields[number - 3]);
  return {
    pid: Number(pid),
    parentPid: field(4),
    isKernelThread: (field(9) & PF_KTHREAD) !== 0,
    ticks: field(14) + field(15) + field(16) + field(17),
  };
}
