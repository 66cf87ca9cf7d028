/** hold: a command that runs while nothing is deleted, and its exit status. */
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/client.js';
import { CliWorld, PASSPHRASE } from '../support/cli.js';
import { eventually, pattern } from '../support/nbd-harness.js';

const MIB = 2 ** 20;
const withPassphrase = { env: { CHUNKVOL_PASSPHRASE: PASSPHRASE } };

let world: CliWorld;
let volume: string;

beforeEach(async () => {
  world = new CliWorld();
  volume = await world.create('disk');
});

afterEach(() => {
  world.releaseAll();
});

/** Runs a shell command under hold; no passphrase is given. */
function hold(script: string, ...words: string[]) {
  return world.run(['-C', volume, 'hold', '--', 'sh', '-c', script, 'sh', ...words]);
}

/** A shell command under hold that has begun: it says "held" first. */
async function held(script: string): Promise<ChildProcess> {
  const child = world.spawn(['-C', volume, 'hold', '--', 'sh', '-c', script]);
  let said = '';
  child.stdout!.on('data', (bytes: Buffer) => (said += bytes.toString()));
  await eventually(() => said === 'held\n', 20_000);
  return child;
}

function chunks(): string[] {
  return fs.readdirSync(path.join(volume, 'chunks')).filter((name) => !name.includes('.'));
}

function bytesOf(names: readonly string[]): number {
  const sizes = names.map((name) => fs.statSync(path.join(volume, 'chunks', name)).size);
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/** Fills the disk and deletes everything again. */
async function makeGarbage(socket: string): Promise<void> {
  const client = await NbdClient.connect({ kind: 'unix', path: socket });
  await client.write(0, pattern(12 * MIB, 1));
  await client.flush();
  await client.trim(0, client.sizeBytes);
  await client.disconnect();
}

describe('hold', () => {
  it.each([
    ['its status', 'exit 42', 42],
    ['its success', 'exit 0', 0],
    ['the signal that ended it', 'kill -TERM $$', 143],
  ])('passes %s on', async (_, script, status) => {
    expect((await hold(script)).status).toBe(status);
    await world.serve(volume);
    expect((await hold(script)).status).toBe(status);
  });

  it('hands on words, options, input, output and environment, but no passphrase', async () => {
    const script = 'cat; echo "$@" "[$CHUNKVOL_PASSPHRASE]" >&2';
    const words = ['-C', volume, 'hold', '--', 'sh', '-c', script, 'sh', '-q', '--name', 'a b'];
    const result = await world.run(words, { ...withPassphrase, input: 'read\n' });
    expect(result).toEqual({ status: 0, stdout: 'read\n', stderr: '-q --name a b []\n' });
  });

  it('says with the statuses of a shell what it cannot run', async () => {
    const absent = await world.run(['-C', volume, 'hold', '--', 'chunkvol-is-not-there']);
    expect(absent).toMatchObject({ status: 127, stdout: '' });
    expect(absent.stderr).toMatch(/^chunkvol: cannot run chunkvol-is-not-there: .*ENOENT.*\n$/);
    const folder = await world.run(['-C', volume, 'hold', '--', world.path('home')]);
    expect(folder).toMatchObject({ status: 126 });
    expect((await world.run(['-C', volume, 'hold', 'ls', '-l'])).status).toBe(2);
    expect((await world.run(['-C', world.path('home'), 'hold', '--', 'true'])).status).toBe(1);
  });

  it('keeps everybody from a volume that nobody serves, until it has ended', async () => {
    const child = await held('echo held; cat');
    const refused = await world.run(['-C', volume, 'status'], withPassphrase);
    expect(refused).toMatchObject({ status: 5 });
    child.stdin!.end();
    await eventually(() => child.exitCode === 0, 20_000);
    expect((await world.status(volume)).name).toBe('disk');
  });

  it('has a server keep all files while the command runs, and no longer', async () => {
    const { socket } = await world.serve(volume);
    await makeGarbage(socket);
    const child = await held('echo held; cat');
    const before = chunks();
    const beforeBytes = bytesOf(before);
    expect(beforeBytes).toBeGreaterThan(12 * MIB);
    await world.ok(['-C', volume, 'gc', '--aggressive']);
    expect(chunks()).toEqual(expect.arrayContaining(before));
    child.stdin!.end();
    await eventually(() => child.exitCode === 0, 20_000);
    await world.ok(['-C', volume, 'gc', '--aggressive']);
    expect(bytesOf(chunks().filter((name) => before.includes(name)))).toBeLessThan(beforeBytes / 4);
  });

  it('gives a copy the state of its beginning, although files get other names meanwhile', async () => {
    const { socket } = await world.serve(volume);
    const client = await NbdClient.connect({ kind: 'unix', path: socket });
    const expected = pattern(MIB, 3);
    await client.write(0, expected);
    await client.flush();
    const child = await held('echo held; cat');
    const listed = fs.readdirSync(volume, { recursive: true, encoding: 'utf8' });
    await client.write(0, pattern(MIB, 4));
    await client.disconnect();
    await world.ok(['-C', volume, 'gc']);

    const copy = world.path('copy');
    for (const name of listed) {
      const stat = fs.statSync(path.join(volume, name), { throwIfNoEntry: false });
      if (stat?.isFile()) fs.cpSync(path.join(volume, name), path.join(copy, name));
    }
    child.stdin!.end();
    await eventually(() => child.exitCode === 0, 20_000);
    const served = await world.serve(copy);
    const reader = await NbdClient.connect({ kind: 'unix', path: served.socket });
    expect(Buffer.compare(await reader.read(0, MIB), expected)).toBe(0);
    await reader.disconnect();
  });

  it('tells when the server has ended before the command', async () => {
    const { child: server } = await world.serve(volume);
    const child = await held('echo held; cat; exit 0');
    let complaint = '';
    child.stderr!.on('data', (bytes: Buffer) => (complaint += bytes.toString()));
    expect(await world.end(server)).toBe(0);
    child.stdin!.end();
    await eventually(() => child.exitCode === 1, 20_000);
    expect(complaint).toMatch(/^chunkvol: files of .* may have been deleted before .*\n$/);
  });

  it('passes SIGTERM on and waits for the command', async () => {
    const script = 'trap "echo ended; exit 7" TERM; echo held; while :; do sleep 0.05; done';
    const child = world.spawn(['-C', volume, 'hold', '--', 'sh', '-c', script]);
    let said = '';
    child.stdout!.on('data', (bytes: Buffer) => (said += bytes.toString()));
    await eventually(() => said === 'held\n', 20_000);
    expect(await world.end(child)).toBe(7);
    expect(said).toBe('held\nended\n');
  });
});
