/**
 * scripts/demo.mjs, which a stranger runs first. `npm run demo` itself is a stage of CI; here are its other
 * way, which an ordinary user gets, and an interruption in the middle of the one with mounts.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MOUNT_NEEDS } from '../support/mount.js';
import { describeWith, type Need } from '../support/tools.js';

const DEMO = fileURLToPath(new URL('../../scripts/demo.mjs', import.meta.url));
const SIGINT_STATUS = 130;

let folder = '';

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cv-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('the demo', () => {
  it('goes through without root', async () => {
    const { status, output } = await runDemo(['--rootless']);
    expect(status, output).toBe(0);
    expect(output).toMatch(/^Every comparison held/m);
    expect(await readdir(folder)).toEqual([]);
  });
});

const MOUNTED: readonly Need[] = [...MOUNT_NEEDS, 'mkfs.ext4', 'mount', 'losetup', 'rsync'];
describeWith(MOUNTED, 'the demo, as root,', () => {
  it('leaves nothing behind when it is interrupted with everything mounted', async () => {
    const { status, output } = await runDemo([], /^== 8\..*\n.*chunkvol -C volume status/m);
    expect(status, output).toBe(SIGINT_STATUS);
    expect(output).toContain('losetup --find');
    expect(await readdir(folder)).toEqual([]);
    expect(await readFile('/proc/self/mounts', 'utf8')).not.toContain(folder);
    expect(await loopsNaming(folder)).toEqual([]);
    expect(await processesNaming(folder)).toEqual([]);
  });
});

/** Runs the demo in `folder`, and interrupts it as soon as its output matches `interruptAt`. */
async function runDemo(
  words: readonly string[],
  interruptAt?: RegExp,
): Promise<{ status: number | null; output: string }> {
  const child = spawn(process.execPath, [DEMO, ...words], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const collect = (text: Buffer): void => {
    output += text.toString();
    if (interruptAt?.test(output)) child.kill('SIGINT');
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, output };
}

/** Files behind loop devices that lie below a path. */
async function loopsNaming(path: string): Promise<string[]> {
  const names = (await readdir('/sys/block')).filter((name) => name.startsWith('loop'));
  const files = names.map((name) => readIfThere(`/sys/block/${name}/loop/backing_file`));
  return (await Promise.all(files)).filter((file) => file.includes(path));
}

/** Command lines of running processes that name a path. */
async function processesNaming(path: string): Promise<string[]> {
  const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = ids.map((id) => readIfThere(`/proc/${id}/cmdline`));
  return (await Promise.all(lines)).filter((line) => line.includes(path));
}

/** '' for a file that is not there, or goes away meanwhile. */
function readIfThere(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
