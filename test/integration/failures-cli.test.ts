/**
 * What can go wrong, each as a user meets it: one clear line on standard error, the exit status that
 * docs/cli.md lists, and nothing lost. A full disk is in disk-full.test.ts, a recovery that would have
 * to cut in recovery-cli.test.ts.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { groupFiles } from '../support/group-files.js';
import { freePort, startRsyncDaemon, startS3 } from '../support/remotes.js';
import { expectFailure, filesIn, fingerprint, Sandbox } from '../support/sandbox.js';
import { describeWith, pathOf } from '../support/tools.js';
import { patterned } from '../support/volumes.js';

const CONTENTS = Buffer.from(patterned(3 * 2 ** 20, 5));
const PARITY = 2;
/** In the middle of the blocks of all data files of the first group. */
const SAME_OFFSET = 200_000;
/** Of the version in a key file, after its magic number. */
const VERSION_OFFSET = 4;

let sandbox: Sandbox;
let volume: string;

beforeEach(async () => {
  sandbox = new Sandbox();
  volume = await makeVolume('volume');
});

afterEach(() => sandbox.release());

/** A volume with CONTENTS at its start, sealed. */
async function makeVolume(name: string): Promise<string> {
  const folder = await sandbox.create(sandbox.path(name));
  await sandbox.withServer(folder, (client) => client.write(0, CONTENTS));
  return folder;
}

async function expectContents(folder: string, ...words: string[]): Promise<void> {
  const work = async (client: { read: (offset: number, bytes: number) => Promise<Buffer> }) =>
    client.read(0, CONTENTS.length);
  const bytes = await sandbox.withServer(folder, work, ...words);
  expect(Buffer.compare(bytes, CONTENTS), 'what is on the disk').toBe(0);
}

describeWith(['rsync'], 'a wrong passphrase or key', () => {
  it('is told with status 3, before anything is read or written', async () => {
    await sandbox.succeed(sandbox.on(volume, 'sync', sandbox.path('copy')));
    const before = fingerprint(volume);
    const wrong = sandbox.path('wrong');
    fs.writeFileSync(wrong, randomBytes(32));
    const verbs = [
      ['serve'],
      ['status'],
      ['scrub'],
      ['repair'],
      ['key', 'list'],
      ['sync', sandbox.path('copy')],
    ];
    for (const [verb, ...words] of verbs) {
      for (const credential of [
        ['--key-file', wrong],
        ['--passphrase-file', wrong],
      ]) {
        fs.writeFileSync(wrong, 'this is long enough, and it is wrong\n');
        const outcome = await sandbox.run(['-C', volume, verb!, ...words, ...credential]);
        expectFailure(outcome, 3, /^chunkvol: wrong (passphrase|key file) for the volume in /);
      }
    }
    const restore = ['restore', sandbox.path('copy'), sandbox.path('new'), '--key-file', wrong];
    expectFailure(await sandbox.run(restore), 3, /^chunkvol: wrong key file/);
    expect(fingerprint(volume)).toEqual(before);
    await expectContents(volume);
  });
});

describe('a volume of a newer format', () => {
  it('is told with status 1, and left alone', async () => {
    for (const name of filesIn(volume, 'keys')) {
      const file = path.join(volume, 'keys', name);
      const bytes = fs.readFileSync(file);
      bytes.writeUInt16LE(bytes.readUInt16LE(VERSION_OFFSET) + 1, VERSION_OFFSET);
      fs.writeFileSync(file, bytes);
    }
    const before = fingerprint(volume);
    for (const verb of ['serve', 'status', 'scrub']) {
      expectFailure(await sandbox.run(sandbox.on(volume, verb)), 1, /newer/);
    }
    expect(fingerprint(volume)).toEqual(before);
  });
});

describe('damaged chunk files', () => {
  const DAMAGES: [
    what: string,
    inflict: (file: string, another: string, foreign: string) => void,
  ][] = [
    ['truncated', cutShort],
    ['swapped', swap],
    ['bit-flipped', flipBit],
    [
      'missing',
      (file) => {
        fs.rmSync(file);
      },
    ],
    [
      'foreign',
      (file, _, foreign) => {
        fs.copyFileSync(foreign, file);
      },
    ],
  ];

  it.each(DAMAGES)(
    '%s, as many as parity files: all reads, and repair makes the same bytes',
    async (_, inflict) => {
      const [foreign] = (await groupFiles(await makeVolume('other'), sandbox.keyFile))[0]!;
      const before = chunks(volume);
      for (const [number, files] of (await groupFiles(volume, sandbox.keyFile)).entries()) {
        const [one, two] = [files[number % 4]!, files[5]!];
        inflict(one, two, foreign!);
        if (inflict !== swap) inflict(two, one, foreign!);
      }
      const damaged = chunks(volume);
      const scrub = await sandbox.run(sandbox.on(volume, 'scrub'));
      expect(scrub.status, scrub.stdout + scrub.stderr).toBe(1);
      expect(scrub.stdout).toMatch(/chunks\/[0-9a-f]{32}: .*\n/);
      expect(chunks(volume), 'what scrub leaves').toEqual(damaged);

      await expectContents(volume, '--read-only');
      await sandbox.succeed(sandbox.on(volume, 'repair'));
      expect(chunks(volume)).toEqual(before);
      await sandbox.succeed(sandbox.on(volume, 'scrub'));
    },
  );

  it('more missing than parity replaces: status 4, nothing changed, whole again when they are back', async () => {
    const [files] = await groupFiles(volume, sandbox.keyFile);
    const kept = files!.slice(0, PARITY + 1).map((file) => [file, fs.readFileSync(file)] as const);
    for (const [file] of kept) fs.rmSync(file);
    const before = fingerprint(volume);
    const refusals = [
      await sandbox.serveFailing(volume),
      await sandbox.run(sandbox.on(volume, 'sync', sandbox.path('copy'))),
      await sandbox.run(sandbox.on(volume, 'repair')),
    ];
    for (const refusal of refusals) {
      expectFailure(refusal, 4, /chunk files|missing|--accept-loss/, { remarks: true });
    }
    expect(fingerprint(volume)).toEqual(before);
    for (const [file, bytes] of kept) fs.writeFileSync(file, bytes);
    await expectContents(volume);
  });

  it('more damaged than parity replaces: EIO there, status 4 of scrub and repair, the rest reads', async () => {
    const [files] = await groupFiles(volume, sandbox.keyFile);
    for (const file of files!.slice(0, PARITY + 1)) flipBitAt(file, SAME_OFFSET);
    expect((await sandbox.run(sandbox.on(volume, 'scrub'))).status).toBe(4);
    await sandbox.withServer(volume, async (client) => {
      let failures = 0;
      for (let offset = 0; offset < CONTENTS.length; offset += 4096) {
        const bytes = await client.read(offset, 4096).catch(() => null);
        if (bytes === null) failures++;
        else expect(Buffer.compare(bytes, CONTENTS.subarray(offset, offset + 4096))).toBe(0);
      }
      expect(failures).toBeGreaterThan(0);
      expect(failures).toBeLessThanOrEqual(PARITY + 1);
    });
    const repair = await sandbox.run(sandbox.on(volume, 'repair'));
    expect(repair.status).toBe(4);
    expect(repair.stdout).toMatch(/^lost: bytes \d+ to \d+ of the disk$/m);
  });

  it('overwritten from end to end, more than parity replaces: repair ends with 4 and says what is lost', async () => {
    const [files] = await groupFiles(volume, sandbox.keyFile);
    for (const file of files!.slice(0, PARITY + 1)) {
      fs.writeFileSync(file, Buffer.alloc(fs.statSync(file).size, 'x'));
    }
    expect((await sandbox.run(sandbox.on(volume, 'scrub'))).status).toBe(4);
    const repair = await sandbox.run(sandbox.on(volume, 'repair'));
    expect(repair.status).toBe(4);
    expect(repair.stdout).toMatch(/^lost: bytes \d+ to \d+ of the disk$/m);
  });

  it('as many units damaged, but no slot in them beyond parity: nothing is lost, and repair mends', async () => {
    const [files] = await groupFiles(volume, sandbox.keyFile);
    const before = fingerprint(path.join(volume, 'chunks'));
    for (const [index, file] of files!.slice(0, PARITY + 1).entries()) {
      flipBitAt(file, SAME_OFFSET + index * 10_000);
    }
    const repair = await sandbox.run(sandbox.on(volume, 'repair'));
    expect(repair.stdout).not.toMatch(/^(lost|not repaired)/m);
    expect(repair.status).toBe(0);
    expect(fingerprint(path.join(volume, 'chunks'))).toEqual(before);
    await sandbox.succeed(sandbox.on(volume, 'scrub'));
    await expectContents(volume);
  });
});

describe('damaged roots and key files', () => {
  it('one root after the other: the volume opens as it was, and repair puts them back', async () => {
    for (const [number, name] of filesIn(volume, 'roots').entries()) {
      const file = path.join(volume, 'roots', name);
      if (number % 3 === 0) fs.rmSync(file);
      else if (number % 3 === 1) flipBit(file);
      else fs.truncateSync(file, 100);
    }
    await expectContents(volume);
    await sandbox.succeed(sandbox.on(volume, 'repair'));
    await expectContents(volume);
  });

  it('files of another volume beside them do not matter', async () => {
    const other = await makeVolume('other');
    for (const folder of ['chunks', 'roots', 'keys']) {
      for (const name of filesIn(other, folder)) {
        fs.copyFileSync(path.join(other, folder, name), path.join(volume, folder, name));
      }
    }
    await expectContents(volume);
  });

  it.each([
    ['cut short', cutShort],
    ['bit-flipped', flipBit],
  ])(
    'every key file %s: a status that is not 0, and the volume is whole with the copy back',
    async (_, inflict) => {
      const keys = filesIn(volume, 'keys').map((name) => path.join(volume, 'keys', name));
      const kept = keys.map((file) => fs.readFileSync(file));
      keys.forEach(inflict);
      const outcome = await sandbox.run(sandbox.on(volume, 'status'));
      expect([3, 4]).toContain(outcome.status);
      expectFailure(outcome, outcome.status!, /key file/);
      keys.forEach((file, index) => {
        fs.writeFileSync(file, kept[index]!);
      });
      await expectContents(volume);
    },
  );
});

describe('key files, with repair --from', () => {
  beforeEach(async () => {
    await sandbox.succeed(sandbox.on(volume, 'sync', sandbox.path('remote')));
  });

  const repair = (...options: string[]): string[] => {
    return ['-C', volume, 'repair', '--from', sandbox.path('remote'), ...options];
  };

  it.each([
    ['cut short', cutShort],
    ['bit-flipped', flipBit],
    ['gone', fs.rmSync],
  ])('that are %s come from there', async (_, inflict) => {
    const kept = fingerprint(path.join(volume, 'keys'));
    for (const name of kept.keys()) inflict(path.join(volume, 'keys', name));
    await sandbox.succeed(repair('--key-file', sandbox.keyFile));
    expect(fingerprint(path.join(volume, 'keys'))).toEqual(kept);
    await expectContents(volume);
  });

  it('of another volume do not take the place of those here', async () => {
    const other = await makeVolume('other');
    const secret = sandbox.path('other.key');
    fs.writeFileSync(secret, Buffer.alloc(32, 4));
    const change = ['-C', other, 'key', 'change', '--key-file', sandbox.keyFile];
    await sandbox.succeed([...change, '--new-key-file', secret]);
    const remote = sandbox.path('other remote');
    await sandbox.succeed(['-C', other, 'sync', '--key-file', secret, remote]);
    const mistaken = ['-C', volume, 'repair', '--from', remote, '--key-file', secret];
    for (const inflict of [null, flipBit, fs.rmSync]) {
      for (const name of filesIn(volume, 'keys')) inflict?.(path.join(volume, 'keys', name));
      const before = fingerprint(volume);
      expectFailure(await sandbox.run(mistaken), inflict === fs.rmSync ? 1 : 3, /key/);
      for (const [name, digest] of before) expect(fingerprint(volume).get(name)).toBe(digest);
      expect(filesIn(volume, 'chunks')).toHaveLength(6);
    }
    await sandbox.succeed(repair('--key-file', sandbox.keyFile));
    await expectContents(volume);
  });

  it('that are whole stay, and what they do not open with is wrong', async () => {
    const changed = path.join(sandbox.folder, 'changed.key');
    fs.writeFileSync(changed, Buffer.alloc(32, 3));
    const change = ['-C', volume, 'key', 'change', '--key-file', sandbox.keyFile];
    await sandbox.succeed([...change, '--new-key-file', changed]);
    const kept = fingerprint(path.join(volume, 'keys'));
    expectFailure(await sandbox.run(repair('--key-file', sandbox.keyFile)), 3, /wrong key file/);
    expect(fingerprint(path.join(volume, 'keys'))).toEqual(kept);
    await sandbox.succeed(repair('--key-file', changed));
  });
});

describe('a volume in use', () => {
  const inUse = /^chunkvol: the volume in .* is in use by process \d+/;

  describeWith(['nbdfuse', 'fusermount3'], 'by a server', () => {
    it('is told with status 5 to an attachment, which makes no file', async () => {
      await sandbox.withServer(volume, async () => {
        const attach = sandbox.on(volume, 'attach', sandbox.path('disk'));
        expectFailure(await sandbox.run(attach), 5, inUse);
        expect(fs.existsSync(sandbox.path('disk'))).toBe(false);
      });
    });
  });

  it('is told with status 5 to a second server', async () => {
    await sandbox.withServer(volume, async (client) => {
      expectFailure(await sandbox.serveFailing(volume), 5, inUse);
      expectFailure(await sandbox.serveFailing(volume, '--read-only'), 5, inUse);
      await client.write(0, CONTENTS);
    });
    await expectContents(volume);
  });
});

describeWith(['rsync'], 'a remote', () => {
  it('that holds another volume is told with status 1, and left as it is', async () => {
    const copy = sandbox.path('copy');
    await sandbox.succeed(sandbox.on(volume, 'sync', copy));
    const before = fingerprint(copy);
    const other = await makeVolume('other');
    expectFailure(await sandbox.run(sandbox.on(other, 'sync', copy)), 1, /another volume/);
    expect(fingerprint(copy)).toEqual(before);
  });

  it('that has another copy of the volume is a fork, status 6, unless that is accepted', async () => {
    const copy = sandbox.path('copy');
    const twin = sandbox.path('twin');
    await sandbox.succeed(sandbox.on(volume, 'sync', copy));
    fs.cpSync(volume, twin, { recursive: true });
    // The one that is accepted is behind by its generation.
    for (const folder of [volume, volume, twin]) {
      await sandbox.withServer(folder, (client) => client.write(0, Buffer.alloc(4096, folder)));
    }
    await sandbox.succeed(sandbox.on(volume, 'sync', copy));
    const before = fingerprint(copy);
    const refused = await sandbox.run(sandbox.on(twin, 'sync', copy));
    expectFailure(refused, 6, /--accept-fork/, { remarks: true });
    expect(fingerprint(copy)).toEqual(before);
    await sandbox.succeed(sandbox.on(twin, 'sync', copy, '--accept-fork'));
    for (const [name, digest] of before) expect(fingerprint(copy).get(name)).toBe(digest);
    const restored = sandbox.path('restored');
    await sandbox.succeed(['restore', '--key-file', sandbox.keyFile, copy, restored]);
    await sandbox.withServer(restored, async (client) => {
      expect(Buffer.compare(await client.read(0, 4096), Buffer.alloc(4096, twin))).toBe(0);
    });
  });

  it('that went back in time is a rollback, status 6, to sync and to restore', async () => {
    const copy = sandbox.path('copy');
    const early = sandbox.path('early');
    await sandbox.succeed(sandbox.on(volume, 'sync', copy));
    fs.cpSync(copy, early, { recursive: true });
    await sandbox.withServer(volume, (client) => client.write(0, CONTENTS.subarray(0, 8192)));
    await sandbox.succeed(sandbox.on(volume, 'sync', copy));
    fs.rmSync(copy, { recursive: true });
    fs.renameSync(early, copy);
    const before = fingerprint(copy);
    const restore = ['restore', '--key-file', sandbox.keyFile, copy, sandbox.path('new')];
    expectFailure(await sandbox.run(restore), 6, /--expect-generation/);
    expectFailure(await sandbox.run(sandbox.on(volume, 'sync', copy)), 6, /--accept-rollback/);
    expect(fingerprint(copy)).toEqual(before);
    await sandbox.succeed(sandbox.on(volume, 'sync', copy, '--accept-rollback'));
    await sandbox.succeed(restore);
  });

  it('that is read-only is told with status 1', async () => {
    const shared = sandbox.path('shared');
    const daemon = await startRsyncDaemon(sandbox.path('daemon'), shared);
    try {
      const url = `rsync://127.0.0.1:${daemon.port}/read/volume`;
      expectFailure(await sandbox.run(sandbox.on(volume, 'sync', url)), 1, /read-only/);
      expect(fs.readdirSync(shared)).toEqual([]);
    } finally {
      await daemon.stop();
    }
    await expectContents(volume);
  });
});

describeWith(['rsync', 'ssh'], 'a remote that is down', () => {
  it('is told with status 1, and the others get their copy', async () => {
    const port = await freePort();
    const down = [`rsync://127.0.0.1:${port}/module/volume`, 'rsync:loop:/volume'];
    const environment = { CHUNKVOL_SSH: `ssh -p ${port} -o HostName=127.0.0.1 -o BatchMode=yes` };
    for (const url of down) {
      const words = sandbox.on(volume, 'sync', url, sandbox.path('copy'), '--quiet');
      expectFailure(await sandbox.run(words, { environment }), 1, /cannot be reached/);
    }
    expect(filesIn(sandbox.path('copy'), 'roots')).toHaveLength(1);
    const restore = ['restore', '--key-file', sandbox.keyFile, down[0]!, sandbox.path('new')];
    expectFailure(await sandbox.run(restore), 1, /cannot be reached/);
  });
});

describeWith(['rclone'], 'a remote that rclone cannot reach', () => {
  it('is told with status 1', async () => {
    const words = sandbox.on(volume, 'sync', 'rclone:nowhere:volume');
    expectFailure(await sandbox.run(words), 1, /there is no such remote/);
    const server = await startS3(sandbox.path('s3'));
    const environment = server.environment('nowhere');
    await server.stop();
    expectFailure(await sandbox.run(words, { environment }), 1, /cannot be reached/);
  });
});

describe('a program that is not installed', () => {
  const CASES: [tool: string, words: (file: string) => string[]][] = [
    ['rsync', (file) => ['sync', file]],
    ['rsync', () => ['sync', 'rsync:host:/folder']],
    ['rclone', () => ['sync', 'rclone:remote:folder']],
    ['nbdfuse', (file) => ['attach', file]],
    ['nbd-client', () => ['attach', '/dev/nbd0']],
  ];

  it.each(CASES)('%s: status 7, and how to get it', async (tool, wordsFor) => {
    const before = fingerprint(volume);
    const [verb, ...words] = wordsFor(sandbox.path('target'));
    const command = sandbox.on(volume, verb!, ...words);
    const outcome = await sandbox.run(command, { environment: { PATH: '' } });
    expectFailure(
      outcome,
      7,
      new RegExp(`^chunkvol: ${tool}: |${tool} is not installed; .*apt install`),
    );
    expect(fingerprint(volume)).toEqual(before);
    expect(fs.existsSync(sandbox.path('target'))).toBe(false);
  });

  describeWith(['rsync'], 'beside rsync', () => {
    it('ssh: status 7, and how to get it', async () => {
      fs.mkdirSync(sandbox.path('bin'));
      fs.symlinkSync(pathOf('rsync'), sandbox.path('bin', 'rsync'));
      const outcome = await sandbox.run(sandbox.on(volume, 'sync', 'rsync:host:/folder'), {
        environment: { PATH: sandbox.path('bin') },
      });
      expectFailure(outcome, 7, /ssh is not installed; .*apt install/);
    });
  });
});

function chunks(folder: string): [string, string][] {
  return [...fingerprint(folder)].filter(([name]) => name.startsWith('chunks/')).sort();
}

function flipBit(file: string): void {
  flipBitAt(file, fs.statSync(file).size / 3);
}

function flipBitAt(file: string, offset: number): void {
  const bytes = fs.readFileSync(file);
  bytes[Math.floor(offset)]! ^= 4;
  fs.writeFileSync(file, bytes);
}

function cutShort(file: string): void {
  fs.truncateSync(file, Math.floor(fs.statSync(file).size / 3));
}

function swap(one: string, two: string): void {
  const spare = `${one}.spare`;
  fs.renameSync(one, spare);
  fs.renameSync(two, one);
  fs.renameSync(spare, two);
}
