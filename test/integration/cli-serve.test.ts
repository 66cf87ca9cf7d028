/** serve: the lock, the control socket, the sockets' safety, signals. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/client.js';
import { CliWorld, PASSPHRASE } from '../support/cli.js';

let world: CliWorld;
let volume: string;
const withPassphrase = { env: { CHUNKVOL_PASSPHRASE: PASSPHRASE } };

beforeEach(async () => {
  world = new CliWorld();
  volume = await world.create('disk');
});

afterEach(() => {
  world.releaseAll();
});

function connect(socket: string, exportName = ''): Promise<NbdClient> {
  return NbdClient.connect({ kind: 'unix', path: socket }, { exportName });
}

/** 64 KiB that are no zeros. */
const PATTERN = Uint8Array.from({ length: 65_536 }, (_, index) => (index * 31 + 7) % 255);

async function readPattern(socket: string): Promise<Uint8Array> {
  const client = await connect(socket);
  const read = await client.read(4096, PATTERN.length);
  await client.disconnect();
  return new Uint8Array(read);
}

describe('serve', () => {
  it('serves the disk under both names, and seals it when told to end', async () => {
    const { child, socket } = await world.serve(volume);
    const client = await connect(socket, 'disk');
    expect(client.sizeBytes).toBe(32 * 2 ** 20);
    await client.write(4096, PATTERN);
    expect(await world.end(child)).toBe(0);
    await client.disconnect().catch(() => undefined);
    const status = await world.status(volume);
    expect(status).toMatchObject({ server: null, mappedBytes: 65_536, unprotectedBytes: 0 });
    expect(status.groups.every(({ state }) => state === 'sealed')).toBe(true);
    const again = await world.serve(volume);
    expect(await readPattern(again.socket)).toEqual(PATTERN);
  });

  it.each(['SIGINT', 'SIGHUP'] as const)('ends with status 0 by %s, too', async (signal) => {
    const { child, socket } = await world.serve(volume);
    expect(await world.end(child, signal)).toBe(0);
    expect(fs.existsSync(socket)).toBe(false);
    expect(fs.existsSync(path.join(volume, 'local', 'lock'))).toBe(false);
  });

  it('goes on when the one who read its output is gone', async () => {
    const { child, socket } = await world.serve(volume);
    child.stdout!.destroy();
    child.stderr!.destroy();
    const client = await connect(socket);
    await client.write(4096, PATTERN);
    await client.disconnect();
    expect(await world.end(child)).toBe(0);
  });

  it('opens again after kill -9, with what was flushed', async () => {
    const { child, socket } = await world.serve(volume);
    const client = await connect(socket);
    await client.write(4096, PATTERN);
    await client.flush();
    await world.end(child, 'SIGKILL');
    expect(fs.existsSync(path.join(volume, 'local', 'lock'))).toBe(true);
    const again = await world.serve(volume);
    expect(await readPattern(again.socket)).toEqual(PATTERN);
    expect(await world.end(again.child)).toBe(0);
  });

  it('refuses writes with --read-only, and changes nothing', async () => {
    const before = fs.readdirSync(path.join(volume, 'roots'));
    const { child, socket } = await world.serve(volume, '--read-only');
    const client = await connect(socket);
    expect(client.readOnly).toBe(true);
    await expect(client.write(0, PATTERN)).rejects.toThrow();
    await client.disconnect();
    expect(await world.end(child)).toBe(0);
    expect(fs.readdirSync(path.join(volume, 'roots'))).toEqual(before);
  });

  it('serves over TCP on loopback', async () => {
    const { uri } = await world.serve(volume, '--port', '0');
    const port = Number(/^nbd:\/\/127\.0\.0\.1:(\d+)\/$/.exec(uri)![1]);
    const client = await NbdClient.connect({ kind: 'tcp', host: '127.0.0.1', port });
    expect(client.sizeBytes).toBe(32 * 2 ** 20);
    await client.disconnect();
  });

  it('refuses addresses that others can reach, before a passphrase is needed', async () => {
    const words = ['-C', volume, 'serve', '--port', '0', '--bind', '0.0.0.0'];
    const result = await world.run(words);
    expect(result.status).toBe(2);
    expect(result.stderr).toContain('--insecure');
  });

  it('gives its threads a size before anything uses them', async () => {
    const { child } = await world.serve(volume);
    // V8 has a few of its own; with the usual 4 there would be about 11.
    expect(fs.readdirSync(`/proc/${child.pid!}/task`).length).toBeGreaterThan(16);
  });
});

describe('the socket', () => {
  it('is in a folder of its own, closed to others', async () => {
    const { socket } = await world.serve(volume, '--socket', world.path('new', 'disk.sock'));
    expect(fs.statSync(path.dirname(socket)).mode & 0o777).toBe(0o700);
    expect(fs.statSync(socket).mode & 0o077).toBe(0);
  });

  it('is refused in a folder that others may write to', async () => {
    fs.mkdirSync(world.path('open'));
    fs.chmodSync(world.path('open'), 0o777);
    const words = ['-C', volume, 'serve', '--socket', world.path('open', 'disk.sock')];
    const result = await world.run(words, withPassphrase);
    expect(result).toMatchObject({ status: 2 });
    expect(result.stderr).toMatch(/^chunkvol: others may write to .*\n$/);
  });

  it('is refused when its path is too long', async () => {
    const words = ['-C', volume, 'serve', '--socket', world.path('x'.repeat(120))];
    const result = await world.run(words, withPassphrase);
    expect(result.status).toBe(2);
    expect(result.stderr).toContain('too long');
  });

  it('is not put into a runtime folder that is open to others', async () => {
    fs.mkdirSync(world.path('run', 'chunkvol'), { mode: 0o755 });
    fs.chmodSync(world.path('run', 'chunkvol'), 0o755);
    const result = await world.run(['-C', volume, 'serve'], withPassphrase);
    expect(result.status).toBe(1);
    expect(result.stderr).toContain('open to others');
  });
});

describe('a volume that is served', () => {
  it('refuses a second server with status 5, and names the first', async () => {
    const { child, uri } = await world.serve(volume);
    const result = await world.run(['-C', volume, 'serve']);
    expect(result.status).toBe(5);
    expect(result.stderr).toBe(
      `chunkvol: the volume in ${volume} is in use by process ${child.pid!}: ${uri}\n`,
    );
  });

  it('refuses it by the lock alone where the control socket cannot be seen', async () => {
    const { child } = await world.serve(volume);
    fs.mkdirSync(world.path('elsewhere'), { mode: 0o700 });
    const env = { ...withPassphrase.env, XDG_RUNTIME_DIR: world.path('elsewhere') };
    for (const verb of ['serve', 'status', 'scrub']) {
      const result = await world.run(['-C', volume, verb], { env });
      expect(result.status, verb).toBe(5);
      expect(result.stderr).toContain(`process ${child.pid!} (`);
    }
  });

  it('can be copied, and the copy served beside it', async () => {
    await world.serve(volume);
    const copy = world.path('copy');
    fs.cpSync(volume, copy, { recursive: true });
    const { child } = await world.serve(copy);
    expect(await world.end(child)).toBe(0);
  });

  it('tells its status without a passphrase', async () => {
    const { child, uri } = await world.serve(volume);
    const { status, stdout } = await world.run(['-C', volume, 'status', '--json']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ server: { pid: child.pid, uri }, readOnly: false });
  });

  it('is found under every name of its folder', async () => {
    await world.serve(volume);
    fs.symlinkSync(volume, world.path('alias'));
    expect((await world.run(['-C', 'alias', 'status'])).status).toBe(0);
    expect((await world.run(['status'], { cwd: volume })).status).toBe(0);
    expect((await world.run(['status'], { env: { CHUNKVOL_VOLUME: volume } })).status).toBe(0);
  });

  it('takes changes of its keys meanwhile', async () => {
    await world.serve(volume);
    fs.writeFileSync(world.path('second'), 'second');
    const words = ['key', 'add', '--new-passphrase-file', world.path('second')];
    await world.ok(['-C', volume, ...words]);
    const { stdout } = await world.ok(['-C', volume, 'key', 'list']);
    expect(stdout.trim().split('\n')).toHaveLength(2);
  });

  it('is ended by detach', async () => {
    const { child, socket } = await world.serve(volume);
    const client = await connect(socket);
    await client.write(4096, PATTERN);
    await client.disconnect();
    const exit = once(child, 'close');
    expect((await world.run(['-C', volume, 'detach'])).status).toBe(0);
    // Nothing holds the volume any more when detach has returned.
    expect(fs.existsSync(path.join(volume, 'local', 'lock'))).toBe(false);
    expect((await exit)[0]).toBe(0);
    expect((await world.status(volume)).unprotectedBytes).toBe(0);
  });

  it('keeps the passphrase from its environment and arguments', async () => {
    const { child } = await world.serve(volume);
    expect(fs.readFileSync(`/proc/${child.pid!}/cmdline`, 'utf8')).not.toContain(PASSPHRASE);
  });
});

describe('the lock, from another network namespace', () => {
  it('is seen by its file', async () => {
    await world.serve(volume);
    fs.mkdirSync(world.path('elsewhere'), { mode: 0o700 });
    const words = [process.execPath, world.program, '-C', volume, 'status'];
    const child = spawn('unshare', ['-rn', '--', ...words], {
      env: {
        ...world.environment,
        ...withPassphrase.env,
        XDG_RUNTIME_DIR: world.path('elsewhere'),
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
    const [status] = (await once(child, 'close')) as [number];
    expect(stderr).toContain('is in use by process');
    expect(status).toBe(5);
  });
});
