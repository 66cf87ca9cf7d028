/**
 * Starts the servers that are measured, and sees to it that none outlives the benchmark: also if it is
 * interrupted or fails, every process is killed and every scratch folder removed on the way out.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const START_TIMEOUT_MS = 30_000;
/** A volume with a lot in flight takes its time to flush and seal. */
const STOP_TIMEOUT_MS = 120_000;

export interface Server {
  /** What fio connects to. */
  readonly uri: string;
  readonly pid: number;
  /** Ends the server with SIGTERM and waits for it. */
  stop(): Promise<void>;
}

/** The client's flags (fixed newstyle, no zeroes), then the option NBD_OPT_ABORT, without data. */
const FAREWELL = Buffer.from('00000003' + '49484156454f5054' + '00000002' + '00000000', 'hex');

const livingPids = new Set<number>();
const scratchFolders = new Set<string>();

process.on('exit', () => {
  for (const pid of livingPids) sendSignal(pid, 'SIGKILL');
  for (const folder of scratchFolders) rmSync(folder, { recursive: true, force: true });
});
for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(signal, () => process.exit(status));
}

/** A folder with a name that starts with `prefix`, removed at the end of the process at the latest. */
export function makeScratchFolder(prefix: string): string {
  const folder = mkdtempSync(prefix);
  scratchFolders.add(folder);
  return folder;
}

export function removeScratchFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  scratchFolders.delete(folder);
}

export interface ServerCommand {
  readonly command: readonly [string, ...string[]];
  /** Where it listens. */
  readonly socketPath: string;
  /** The export's name; "" by default. */
  readonly exportName?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts a server that stays in the foreground and resolves when it accepts connections. */
export async function startServer(options: ServerCommand): Promise<Server> {
  const [program, ...words] = options.command;
  const child = spawn(program, words, {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  await once(child, 'spawn');
  const pid = child.pid!;
  livingPids.add(pid);
  child.once('exit', () => livingPids.delete(pid));
  await untilAccepting(options.socketPath, () => child.exitCode === null);
  return { uri: uriOf(options), pid, stop: () => stopChild(child) };
}

/** Starts a server that goes into the background by itself and writes its process id to `pidPath`. */
export async function startDaemon(options: ServerCommand, pidPath: string): Promise<Server> {
  const [program, ...words] = options.command;
  execFileSync(program, words, { stdio: ['ignore', 'ignore', 'inherit'] });
  await untilAccepting(options.socketPath, () => true);
  const pid = Number(readFileSync(pidPath, 'utf8'));
  livingPids.add(pid);
  const stop = async (): Promise<void> => {
    sendSignal(pid, 'SIGTERM');
    await until(() => !isRunning(pid), STOP_TIMEOUT_MS, `process ${pid} did not end`);
    livingPids.delete(pid);
  };
  return { uri: uriOf(options), pid, stop };
}

/** The most memory, in bytes, that the process has had resident since its start, or since `forgetPeak`. */
export function peakResidentBytes(pid: number): number {
  const status = readFileSync(join('/proc', `${pid}`, 'status'), 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

/** Lets `peakResidentBytes` begin anew. */
export function forgetPeak(pid: number): void {
  // proc(5): 5 resets the high-water mark and nothing else.
  writeFileSync(join('/proc', `${pid}`, 'clear_refs'), '5');
}

async function stopChild(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  if (child.exitCode === null) {
    child.kill('SIGTERM');
    const timer = new AbortController();
    const late = sleep(STOP_TIMEOUT_MS, 'late', { signal: timer.signal });
    const winner = await Promise.race([exited, late]);
    timer.abort();
    late.catch(() => undefined);
    if (winner === 'late') throw new Error(`${child.spawnfile} did not end on SIGTERM`);
  }
  // Some of the peers die of the signal, some exit 0; both are an orderly end.
  if (child.exitCode !== 0 && child.signalCode !== 'SIGTERM') {
    throw new Error(`${child.spawnfile} ended with status ${child.exitCode ?? 'none'}`);
  }
}

async function untilAccepting(socketPath: string, isAlive: () => boolean): Promise<void> {
  const probe = async (): Promise<boolean> => {
    if (!isAlive()) throw new Error(`the server for ${socketPath} ended before it was ready`);
    return accepts(socketPath);
  };
  await until(probe, START_TIMEOUT_MS, `nothing listens on ${socketPath}`);
}

/** True if an NBD server greets on the socket; takes its leave as the protocol asks. */
function accepts(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once('error', () => {
      resolve(false);
    });
    socket.once('data', () => {
      socket.end(FAREWELL);
    });
    socket.once('close', (hadError) => {
      resolve(!hadError && socket.bytesRead > 0);
    });
  });
}

async function until(
  probe: () => boolean | Promise<boolean>,
  timeoutMs: number,
  complaint: string,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await probe())) {
    if (Date.now() > deadline) throw new Error(complaint);
    await sleep(20);
  }
}

function isRunning(pid: number): boolean {
  try {
    // A process that nobody has waited for yet has ended all the same.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has just ended by itself.
  }
}

function uriOf({ socketPath, exportName = '' }: ServerCommand): string {
  return `nbd+unix:///${exportName}?socket=${socketPath}`;
}
