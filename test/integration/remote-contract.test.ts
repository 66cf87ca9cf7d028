/**
 * One set of promises, kept by every kind of remote, each behind its real tool and a real server.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { openRemote } from '../../src/sync/open-remote.js';
import type { Remote } from '../../src/sync/remote.js';
import { makeTestFolder, startRsyncDaemon, startS3, startSshd } from '../support/remotes.js';
import type { Server } from '../support/remotes.js';
import { describeWith } from '../support/tools.js';
import type { Need } from '../support/tools.js';

const BIG_BYTES = 20 * 2 ** 20;
const SMALL_FILES = 500;

/** The files of a remote as seen past the tool; null where a server keeps them in its own way. */
type Behind = string | null;

interface Place {
  /** The URL of the folder `name` of this kind of remote, and the local folder behind it. */
  at(name: string): { url: string; behind: Behind };
  close(): Promise<void>;
}

const top = makeTestFolder();
const local = path.join(top, 'local');

afterAll(() => {
  fs.rmSync(top, { recursive: true, force: true });
});

function hexName(index: number): string {
  return index.toString(16).padStart(32, '0');
}

function write(folder: string, name: string, contents: Uint8Array | string): void {
  const file = path.join(folder, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, contents, { mode: 0o600 });
}

/** A place whose remotes are folders below `folder`, their URLs below `base`. */
function placeBelow(base: string, folder: string, server?: Server): Place {
  fs.mkdirSync(folder, { recursive: true });
  return {
    at: (name) => ({ url: `${base}/${name}`, behind: path.join(folder, name) }),
    close: () => server?.stop() ?? Promise.resolve(),
  };
}

async function sshPlace(scheme: 'rsync' | 'rclone'): Promise<Place> {
  const folder = path.join(top, `ssh-${scheme}`);
  const server = await startSshd(path.join(folder, 'sshd'));
  process.env['CHUNKVOL_SSH'] = server.sshCommand;
  const shared = path.join(folder, 'shared');
  const base = scheme === 'rsync' ? `rsync:loop:${shared}` : `rclone:${server.rcloneSftp}${shared}`;
  return placeBelow(base, shared, server);
}

async function daemonPlace(): Promise<Place> {
  const shared = path.join(top, 'daemon', 'shared');
  const server = await startRsyncDaemon(path.join(top, 'daemon', 'server'), shared);
  return placeBelow(`rsync://127.0.0.1:${server.port}/write`, shared, server);
}

async function s3Place(): Promise<Place> {
  delete process.env['AWS_CA_BUNDLE'];
  const server = await startS3(path.join(top, 's3'));
  Object.assign(process.env, server.environment('loops3'));
  return {
    at: (name) => ({ url: `rclone:loops3:${server.bucket}/${name}`, behind: null }),
    close: () => server.stop(),
  };
}

const KINDS: [title: string, tools: Need[], open: () => Promise<Place>][] = [
  [
    'rsync to a local folder',
    ['rsync'],
    () => Promise.resolve(placeBelow(path.join(top, 'copies'), path.join(top, 'copies'))),
  ],
  ['rsync over ssh', ['rsync', 'ssh', 'sshd', 'ssh-keygen'], () => sshPlace('rsync')],
  ['rsync to a daemon', ['rsync'], daemonPlace],
  [
    'rclone to a local folder',
    ['rclone'],
    () => Promise.resolve(placeBelow(`rclone:${top}/clones`, path.join(top, 'clones'))),
  ],
  ['rclone over sftp', ['rclone', 'sshd', 'ssh-keygen'], () => sshPlace('rclone')],
  ['rclone to S3', ['rclone'], s3Place],
];

for (const [title, tools, open] of KINDS) {
  describeWith(tools, title, () => {
    let place: Place;
    let count = 0;
    let remote: Remote;
    let behind: Behind;

    beforeAll(async () => {
      place = await open();
    });

    afterAll(() => place.close());

    beforeEach(() => {
      fs.rmSync(local, { recursive: true, force: true });
      const here = place.at(`a folder/volume ${++count}`);
      remote = openRemote(here.url);
      behind = here.behind;
    });

    promises(
      () => remote,
      () => behind,
    );
  });
}

function promises(theRemote: () => Remote, theFolderBehind: () => Behind): void {
  const list = async (folder: string): Promise<[string, number][]> => {
    const files = await theRemote().list(folder);
    return files.map((file): [string, number] => [file.path, file.bytes]).sort();
  };

  const contents = async (name: string): Promise<string> => {
    const fetched = path.join(top, 'fetched');
    fs.rmSync(fetched, { recursive: true, force: true });
    await theRemote().download(fetched, [name]);
    return fs.readFileSync(path.join(fetched, name), 'latin1');
  };

  it('has nothing, and removes nothing, before the first upload', async () => {
    expect(await theRemote().list('chunks')).toEqual([]);
    await theRemote().remove([`chunks/${hexName(1)}`]);
    expect(await theRemote().list('roots')).toEqual([]);
  });

  it('carries files there and back, and removes exactly the named ones', async () => {
    const names = [1, 2, 3].map((index) => `chunks/${hexName(index)}`);
    names.push(`keys/${hexName(4)}`, `roots/${hexName(5)}`);
    names.forEach((name, index) => {
      write(local, name, randomBytes(index * 10_007));
    });
    write(local, `chunks/${hexName(6)}.open`, 'not asked for');
    await theRemote().upload(local, names);
    expect(await list('chunks')).toEqual([
      [names[0], 0],
      [names[1], 10_007],
      [names[2], 20_014],
    ]);
    expect(await list('keys')).toEqual([[names[3], 30_021]]);

    const restored = path.join(top, 'restored');
    fs.rmSync(restored, { recursive: true, force: true });
    await theRemote().download(restored, names);
    for (const name of names) {
      const [original, copy] = [local, restored].map((to) => fs.readFileSync(path.join(to, name)));
      expect(copy!.equals(original!)).toBe(true);
    }

    await theRemote().remove([names[1]!, names[3]!, `chunks/${hexName(99)}`]);
    expect(await list('chunks')).toEqual([
      [names[0], 0],
      [names[2], 20_014],
    ]);
    expect(await list('keys')).toEqual([]);
    expect(await list('roots')).toEqual([[names[4], 40_028]]);
  });

  it('leaves a file of the same size alone, and replaces one of another size', async () => {
    const [kept, short] = [`chunks/${hexName(1)}`, `chunks/${hexName(2)}`];
    write(local, kept, 'first');
    write(local, short, 'sho');
    await theRemote().upload(local, [kept, short]);
    write(local, kept, 'other');
    write(local, short, 'short no more');
    fs.utimesSync(path.join(local, kept), 1, 1);
    await theRemote().upload(local, [kept, short]);
    expect(await contents(kept)).toBe('first');
    expect(await contents(short)).toBe('short no more');
  });

  it('says which file is not there', async () => {
    const [here, gone] = [`chunks/${hexName(1)}`, `chunks/${hexName(2)}`];
    write(local, here, 'here');
    await theRemote().upload(local, [here]);
    const fetched = path.join(top, 'half');
    await expect(theRemote().download(fetched, [here, gone])).rejects.toMatchObject({
      code: 'remote',
      message: expect.stringMatching(new RegExp(`copy from .*${hexName(2)}`)) as string,
    });
    await expect(theRemote().upload(local, [here, gone])).rejects.toMatchObject({ code: 'io' });
  });

  it('does nothing for no files', async () => {
    const name = `chunks/${hexName(1)}`;
    write(local, name, 'stays');
    await theRemote().upload(local, [name]);
    await theRemote().remove([]);
    await theRemote().upload(local, []);
    await theRemote().download(path.join(top, 'nothing'), []);
    expect(await list('chunks')).toEqual([[name, 5]]);
    expect(fs.existsSync(path.join(top, 'nothing'))).toBe(false);
  });

  it('refuses names that leave the volume', async () => {
    for (const name of ['../x', 'chunks/../../x', '/etc/passwd', 'chunks/a\nchunks/b']) {
      await expect(theRemote().upload(local, [name])).rejects.toThrow(RangeError);
      await expect(theRemote().download(local, [name])).rejects.toThrow(RangeError);
      await expect(theRemote().remove([name])).rejects.toThrow(RangeError);
    }
  });

  it(`carries ${SMALL_FILES} small files in one go`, async () => {
    const names = Array.from({ length: SMALL_FILES }, (_, index) => `roots/${hexName(index)}`);
    names.forEach((name, index) => {
      write(local, name, `root ${index}`);
    });
    await theRemote().upload(local, names);
    const listed = await list('roots');
    expect(listed).toEqual(names.map((name, index) => [name, `root ${index}`.length]));
    const doomed = names.slice(1);
    await theRemote().remove(doomed);
    expect(await list('roots')).toEqual([[names[0], 6]]);
  });

  it('tells how far a large file has come', async () => {
    const name = `chunks/${hexName(7)}`;
    write(local, name, randomBytes(BIG_BYTES));
    const seen: number[] = [];
    const onProgress = (doneBytes: number): void => void seen.push(doneBytes);
    await theRemote().upload(local, [name], { onProgress, bandwidthLimit: '15M' });
    expect(seen.length).toBeGreaterThan(1);
    expect(seen[0]).toBeLessThan(BIG_BYTES);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(BIG_BYTES);
  });

  it('is not confused by files of others', async () => {
    const folder = theFolderBehind();
    if (folder === null) return;
    const name = `chunks/${hexName(1)}`;
    const foreign = ['with space', 'two\nlines', '-rf', 'ünï', 'a*', '\\#012', "it's $(id)"];
    for (const stranger of foreign) write(folder, `chunks/${stranger}`, 'foreign');
    write(folder, `chunks/folder/${hexName(9)}`, 'deeper');
    write(local, name, 'mine');
    await theRemote().upload(local, [name]);
    const listed = await list('chunks');
    expect(listed.filter(([, bytes]) => bytes === 4)).toEqual([[name, 4]]);
    expect(listed.length).toBeLessThanOrEqual(foreign.length + 1);
    expect(listed.map(([file]) => file)).toContain('chunks/with space');

    await theRemote().remove(['chunks/a*', name]);
    const left = fs.readdirSync(path.join(folder, 'chunks')).sort();
    expect(left).toEqual([...foreign.filter((stranger) => stranger !== 'a*'), 'folder'].sort());
  });
}
