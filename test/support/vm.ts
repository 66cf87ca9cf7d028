/**
 * Runs commands in a virtual machine under Debian's own kernel: for /dev/nbd0 and for power cuts.
 *
 * test/vm/vm-run does the work and says what the machine sees: the host's whole / with writes thrown away at
 * the end, and one folder shared read-write. It is software emulation, some 20 times slower than the
 * host, so keep what runs inside short. Suites that use it need VM_NEEDS.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Need } from './tools.js';

const VM_RUN = fileURLToPath(new URL('../vm/vm-run', import.meta.url));

/** What a machine needs of its host; its kernel comes from apt, the first time. */
export const VM_NEEDS: readonly Need[] = [
  'root',
  'apt',
  'qemu-system-x86_64',
  'virtiofsd',
  'busybox',
  'cpio',
  'modprobe',
];

export interface VmOptions {
  /** The folder that is shared read-write, at its own path, and in which the command runs. */
  readonly sharedFolder: string;
  /** After this the machine is switched off and the status is 124. 10 minutes by default. */
  readonly timeoutMs?: number;
  readonly memoryMiB?: number;
  /** An image file that appears as /dev/vda; what was written survives the machine. */
  readonly diskPath?: string;
  /** Gets qemu's process id, for `cutPower`. */
  readonly pidPath?: string;
}

export interface VmResult {
  /** The command's exit status; 124 when the time was up, 125 when the machine died under it. */
  readonly status: number;
  /** The console and what vm-run had to say, in the order of arrival. */
  readonly output: string;
}

/** Boots a machine, runs `command` (bash) in it as root, and waits for both to end. */
export function runInVm(command: string, options: VmOptions): Promise<VmResult> {
  const child = spawn(VM_RUN, [...flags(options), options.sharedFolder, command], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const collect = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => {
      resolve({ status: status ?? 125, output });
    });
  });
}

/** Ends a machine the way a power cut would: nothing inside of it gets to run again. */
export function cutPower(pidPath: string): void {
  if (!existsSync(pidPath)) throw new Error(`no virtual machine has written ${pidPath}`);
  process.kill(Number(readFileSync(pidPath, 'utf8')), 'SIGKILL');
}

function flags(options: VmOptions): string[] {
  const { timeoutMs = 600_000, memoryMiB = 2048, diskPath, pidPath } = options;
  return [
    ...['--timeout', `${Math.ceil(timeoutMs / 1000)}`, '--memory', `${memoryMiB}M`],
    ...(diskPath === undefined ? [] : ['--disk', diskPath]),
    ...(pidPath === undefined ? [] : ['--pidfile', pidPath]),
  ];
}
