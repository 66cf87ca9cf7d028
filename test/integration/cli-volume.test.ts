/** create, status and key as a user meets them: the compiled program, one process each. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CliWorld, PASSPHRASE } from '../support/cli.js';

let world: CliWorld;

beforeEach(() => {
  world = new CliWorld();
});

afterEach(() => {
  world.releaseAll();
});

/** Every file of a folder with its contents, so that any change shows. */
function contentsOf(folder: string): Record<string, string> {
  const names = fs.readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  const files = names.filter((name) => fs.statSync(path.join(folder, name)).isFile());
  return Object.fromEntries(
    files.map((name) => [name, fs.readFileSync(path.join(folder, name)).toString('base64')]),
  );
}

describe('create', () => {
  it('makes a volume that status describes', async () => {
    const folder = await world.create('disk', '--data', '3', '--parity', '1', '--name', 'my disk');
    expect(await world.status(folder)).toMatchObject({
      schema: 1,
      folder,
      name: 'my disk',
      sizeBytes: 32 * 2 ** 20,
      blockBytes: 4096,
      geometry: { data: 3, parity: 1, chunkBytes: 2 ** 20 },
      mappedBytes: 0,
      groups: [],
      server: null,
      attached: [],
      remotes: [],
    });
  });

  it('names the volume after its folder', async () => {
    expect((await world.status(await world.create('photos'))).name).toBe('photos');
  });

  it('rounds the size up to whole blocks, and says so', async () => {
    const options = ['--size', '1000001', '--block-size', '8K', '--chunk-size', '4M'];
    const { stdout } = await world.ok(['create', 'odd', ...options]);
    expect(stdout).toContain('rounded up from 1000001 to 1007616 bytes');
    expect((await world.status(world.path('odd'))).sizeBytes).toBe(1_007_616);
  });

  it('makes a volume of 1 PiB', async () => {
    await world.ok(['create', 'huge', '--size', '1P']);
    expect((await world.status(world.path('huge'))).sizeBytes).toBe(2 ** 50);
  });

  it('refuses a folder that is not empty, and leaves it alone', async () => {
    fs.mkdirSync(world.path('full'));
    fs.writeFileSync(world.path('full', 'file'), 'contents');
    const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
    const result = await world.run(['create', 'full', '--size', '1G'], { env });
    expect(result).toMatchObject({ status: 1, stdout: '' });
    expect(result.stderr).toMatch(/^chunkvol: .*full is not empty.*\n$/);
    expect(fs.readdirSync(world.path('full'))).toEqual(['file']);
  });

  it('makes nothing without a passphrase', async () => {
    const result = await world.run(['create', 'none', '--size', '1G', '--passphrase-file', '-']);
    expect(result).toMatchObject({ status: 2, stderr: 'chunkvol: the passphrase is empty\n' });
    expect(fs.existsSync(world.path('none'))).toBe(false);
  });
});

describe('output', () => {
  it('that nobody reads is dropped', async () => {
    const folder = await world.create('disk');
    const child = world.spawn(['-C', folder, 'status'], {
      env: { CHUNKVOL_PASSPHRASE: PASSPHRASE },
    });
    child.stdout!.destroy();
    let said = '';
    child.stderr!.on('data', (bytes: Buffer) => (said += bytes.toString()));
    expect((await once(child, 'close'))[0]).toBe(0);
    expect(said).toBe('');
  });

  it('that cannot be written is an error of one line', async () => {
    const full = fs.openSync('/dev/full', 'w');
    const child = spawn(process.execPath, [world.program, '--version'], {
      stdio: ['ignore', full, 'pipe'],
    });
    fs.closeSync(full);
    let said = '';
    child.stderr!.on('data', (bytes: Buffer) => (said += bytes.toString()));
    expect((await once(child, 'close'))[0]).toBe(1);
    expect(said).toMatch(/^chunkvol: cannot write standard output: no space left .*\n$/);
  });
});

describe('the passphrase', () => {
  it('is taken from a file, standard input and the environment alike', async () => {
    const folder = await world.create('disk');
    const status = ['-C', folder, 'status'];
    const file = ['--passphrase-file', world.passphraseFile];
    expect((await world.run([...status, ...file])).status).toBe(0);
    const piped = await world.run([...status, '--passphrase-file', '-'], { input: PASSPHRASE });
    expect(piped.status).toBe(0);
    const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
    expect((await world.run(status, { env })).status).toBe(0);
  });

  it('opens nothing when it is wrong: status 3, one line, not a byte changed', async () => {
    const folder = await world.create('disk');
    const before = contentsOf(folder);
    const env = { CHUNKVOL_PASSPHRASE: 'wrong' };
    for (const verb of [
      ['status'],
      ['serve'],
      ['scrub'],
      ['repair'],
      ['key', 'list'],
      ['sync', '/x'],
    ]) {
      const result = await world.run(['-C', folder, ...verb], { env });
      expect(result, verb.join(' ')).toMatchObject({
        status: 3,
        stdout: '',
        stderr: `chunkvol: wrong passphrase for the volume in ${folder}\n`,
      });
      expect(contentsOf(folder)).toEqual(before);
    }
  });

  it('is the same in either normal form', async () => {
    const first = { env: { CHUNKVOL_PASSPHRASE: 'caf\u00e9' } };
    await world.ok(['create', 'disk', '--size', '1M'], first);
    const second = { env: { CHUNKVOL_PASSPHRASE: 'cafe\u0301' } };
    expect((await world.run(['-C', 'disk', 'status'], second)).status).toBe(0);
  });
});

describe('where there is no volume', () => {
  it.each(['status', 'serve', 'attach x', 'scrub', 'key list', 'remote list'])(
    '%s says so with status 1',
    async (verb) => {
      const result = await world.run(['-C', world.folder, ...verb.split(' ')]);
      expect(result.status).toBe(1);
      expect(result.stderr).toMatch(/^chunkvol: there is no volume in .*-C DIR.*\n$/);
    },
  );

  it('detach says that nothing is attached', async () => {
    expect(await world.run(['-C', world.folder, 'detach'])).toMatchObject({
      status: 1,
      stderr: `chunkvol: the volume in ${world.folder} is not attached\n`,
    });
  });
});

describe('damaged and foreign files', () => {
  function keyFile(folder: string): string {
    const [name] = fs.readdirSync(path.join(folder, 'keys'));
    return path.join(folder, 'keys', name!);
  }

  it('says that a volume is of a newer format', async () => {
    const folder = await world.create('disk');
    const bytes = fs.readFileSync(keyFile(folder));
    bytes.writeUInt16LE(2, 4);
    fs.writeFileSync(keyFile(folder), bytes);
    const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
    const result = await world.run(['-C', folder, 'status'], { env });
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/^chunkvol: .*newer.*\n$/);
  });

  it('says that no key file can be read, with status 4', async () => {
    const folder = await world.create('disk');
    fs.writeFileSync(keyFile(folder), 'no key file at all');
    const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
    const result = await world.run(['-C', folder, 'status'], { env });
    expect(result.status).toBe(4);
    expect(result.stderr).toMatch(/^chunkvol: no key file .*\n$/);
  });

  it('does not open with a key file whose bits were flipped', async () => {
    const folder = await world.create('disk');
    const bytes = fs.readFileSync(keyFile(folder));
    // In the wrapped key: before the slot's 56 zeros and the MAC of 32 bytes.
    bytes[bytes.length - 100]! ^= 1;
    fs.writeFileSync(keyFile(folder), bytes);
    const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
    expect((await world.run(['-C', folder, 'status'], { env })).status).toBe(3);
  });
});

describe('key', () => {
  async function ids(folder: string, ...options: readonly string[]): Promise<string[]> {
    const { stdout } = await world.ok(['-C', folder, 'key', 'list', ...options]);
    return stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[0]!);
  }

  function opens(folder: string, ...options: readonly string[]): Promise<number | null> {
    return world.run(['-C', folder, 'status', ...options]).then(({ status }) => status);
  }

  function write(name: string, contents: string | Uint8Array): string {
    fs.writeFileSync(world.path(name), contents);
    return world.path(name);
  }

  it('adds, lists and removes passphrases and key files', async () => {
    const folder = await world.create('disk');
    const second = write('second', 'another one\n');
    const usb = write(
      'usb.key',
      Uint8Array.from({ length: 32 }, (_, index) => index),
    );
    await world.ok(['-C', folder, 'key', 'add', '--new-passphrase-file', second]);
    await world.ok(['-C', folder, 'key', 'add', '--new-key-file', usb]);
    const { stdout } = await world.ok(['-C', folder, 'key', 'list', '--key-file', usb]);
    const lines = stdout.trim().split('\n');
    expect(lines.map((line) => line.split(/\s+/)[1])).toEqual([
      'passphrase',
      'passphrase',
      'key-file',
    ]);
    expect(lines[2]).toContain('opened with this one');
    expect(await opens(folder, '--passphrase-file', second)).toBe(0);
    expect(await opens(folder, '--key-file', usb)).toBe(0);

    const [first] = await ids(folder);
    await world.ok(['-C', folder, 'key', 'remove', first!.slice(0, 6), '--key-file', usb]);
    expect(await opens(folder, '--passphrase-file', world.passphraseFile)).toBe(3);
    expect(await opens(folder, '--passphrase-file', second)).toBe(0);
    expect(fs.readdirSync(path.join(folder, 'keys'))).toHaveLength(1);
  });

  it('never removes the last one', async () => {
    const folder = await world.create('disk');
    const [only] = await ids(folder);
    const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
    const result = await world.run(['-C', folder, 'key', 'remove', only!], { env });
    expect(result.status).toBe(2);
    expect(result.stderr).toContain('only one left');
    expect(await ids(folder)).toEqual([only]);
  });

  it('refuses an ID that is none', async () => {
    const folder = await world.create('disk');
    const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
    const result = await world.run(['-C', folder, 'key', 'remove', 'ffffffff'], { env });
    expect(result.status).toBe(2);
  });

  it('changes the passphrase; an old copy of the key file still opens with the old one', async () => {
    const folder = await world.create('disk');
    const copy = world.path('copy');
    fs.cpSync(folder, copy, { recursive: true });
    const next = write('next', 'the next one');
    await world.ok(['-C', folder, 'key', 'change', '--new-passphrase-file', next]);
    expect(await opens(folder, '--passphrase-file', world.passphraseFile)).toBe(3);
    expect(await opens(folder, '--passphrase-file', next)).toBe(0);
    expect(await opens(copy, '--passphrase-file', world.passphraseFile)).toBe(0);
    const help = await world.run(['key', 'change', '--help']);
    expect(help.stdout).toMatch(/still\s+opens\s+old\s+copies/);
  });

  it('refuses a key file that is too short', async () => {
    const folder = await world.create('disk');
    const short = write('short', '0123456789');
    const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
    const words = ['-C', folder, 'key', 'add', '--new-key-file', short];
    const result = await world.run(words, { env });
    expect(result.status).toBe(2);
    expect(await ids(folder)).toHaveLength(1);
  });

  it('keeps both of two changes at once, or refuses one', async () => {
    const folder = await world.create('disk');
    const env = { CHUNKVOL_PASSPHRASE: PASSPHRASE };
    const results = await Promise.all(
      ['a', 'b', 'c'].map((name) =>
        world.run(['-C', folder, 'key', 'add', '--new-passphrase-file', write(name, name)], {
          env,
        }),
      ),
    );
    const done = results.filter(({ status }) => status === 0).length;
    expect(results.every(({ status }) => status === 0 || status === 5)).toBe(true);
    expect(await ids(folder)).toHaveLength(1 + done);
  });
});
