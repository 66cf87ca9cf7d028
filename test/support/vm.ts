/**
 * Runs commands in a virtual machine under Debian's own kernel: for /dev/nbd0 and for power cuts.
 *
 * test/vm/vm-run does the work and says what the machine sees: the host's whole / with writes thrown away at
 * the end, and one folder shared read-write. It is software emulation, some 20 times slower than the
 * host, so keep what runs inside short. Suites that use it need VM_NEEDS.
 */
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { delay } from './sandbox.js';
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

const REPORTED_CHARACTERS = 500;

export interface VmOptions {
  /** The folder that is shared read-write, at its own path, and in which the command runs. */
  readonly sharedFolder: string;
  /** After this the machine is switched off and the status is 124. 10 minutes by default. */
  readonly timeoutMs?: number;
  /** The Unix socket of an NBD server whose export "disk" appears as /dev/vda. */
  readonly diskSocket?: string;
  /** A TCP port of 127.0.0.1 that leads to the same port of the machine. */
  readonly forwardedPort?: number;
}

export interface VmResult {
  /** The command's exit status; 124 when the time was up, 125 when the machine died under it. */
  readonly status: number;
  /** The console and what vm-run had to say, in the order of arrival. */
  readonly output: string;
}

/** Boots a machine that runs `command` (bash) as root. */
export class VirtualMachine {
  readonly ended: Promise<VmResult>;
  #output = '';
  readonly #pidPath: string;

  constructor(command: string, options: VmOptions) {
    this.#pidPath = join(options.sharedFolder, 'vm-pid');
    rmSync(this.#pidPath, { force: true });
    const words = [...flags(options), '--pidfile', this.#pidPath, options.sharedFolder, command];
    const child = spawn(VM_RUN, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    const collect = (chunk: Buffer): void => {
      this.#output += chunk.toString();
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status) => {
        resolve({ status: status ?? 125, output: this.#output });
      });
    });
  }

  /** Resolves when the console has shown this; rejects when the machine ends first. */
  async shows(text: string): Promise<void> {
    const isOver = this.ended.then(() => true);
    while (!this.#output.includes(text)) {
      if (await Promise.race([isOver, delay(20)])) {
        throw new Error(`the machine ended without "${text}": ${this.#output}`);
      }
    }
  }

  /** Nothing inside of it gets to run again. */
  async cutPower(): Promise<void> {
    process.kill(Number(readFileSync(this.#pidPath, 'utf8')), 'SIGKILL');
    await this.ended;
  }
}

/**
 * Boots a machine, runs `command` (bash with `set -x`) in it as root, and returns what it printed. Throws
 * when it fails; the error's first line, which may be all that a report shows, has the last two steps.
 */
export async function succeedInVm(command: string, options: VmOptions): Promise<string> {
  const { status, output } = await new VirtualMachine(command, options).ended;
  if (status === 0) return output;
  // A status that was not expected is compared in a step of its own.
  const lastSteps = output
    .trim()
    .split(/\n(?=\+)/)
    .slice(-2);
  const inOneLine = lastSteps
    .join('\n')
    .replace(/\s*\n\s*/g, ' | ')
    .slice(0, REPORTED_CHARACTERS);
  throw new Error(`the machine ended with status ${status} at: ${inOneLine}\n${output}`);
}

function flags({ timeoutMs = 600_000, diskSocket, forwardedPort }: VmOptions): string[] {
  return [
    ...['--timeout', `${Math.ceil(timeoutMs / 1000)}`],
    ...(diskSocket === undefined ? [] : ['--nbd', diskSocket]),
    ...(forwardedPort === undefined ? [] : ['--forward', `${forwardedPort}`]),
  ];
}
