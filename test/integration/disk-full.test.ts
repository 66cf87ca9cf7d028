/**
 * A full disk under the volume, and on the remote: what was acknowledged stays readable meanwhile, and
 * is there once some space is free again, whatever was going on when the space ran out.
 */
import * as fs from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { NbdClient } from '../../src/nbd/client.js';
import { NbdError } from '../../src/nbd/errno.js';
import { makeFileSystem, Mounts } from '../support/mount.js';
import { expectFailure, fingerprint, Sandbox, type ServedVolume } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';
import { patterned } from '../support/volumes.js';

const MIB = 2 ** 20;
const DISK_BYTES = 192 * MIB;
const BALLAST_BYTES = 96 * MIB;
const PIECE_BYTES = MIB / 2;

describeWith(['root', 'loop', 'mount', 'mkfs.ext4', 'rsync'], 'a disk that is full', () => {
  let sandbox: Sandbox;
  let mounts: Mounts;
  /** A small file system, with a file on it whose removal frees space. */
  let disk: string;
  let volume: string;
  /** The number of pieces, from the start of the disk, that have been acknowledged. */
  let written: number;

  beforeEach(async () => {
    sandbox = new Sandbox();
    mounts = new Mounts();
    disk = await mountSmall('small');
    fs.writeFileSync(`${disk}/ballast`, Buffer.alloc(BALLAST_BYTES, 'b'));
    volume = await sandbox.create(`${disk}/volume`);
    written = 0;
  });

  afterEach(async () => {
    await sandbox.release();
    await mounts.releaseAll();
  });

  async function mountSmall(name: string): Promise<string> {
    const image = sandbox.path(name);
    fs.writeFileSync(image, '');
    fs.truncateSync(image, DISK_BYTES);
    await makeFileSystem('ext4', image);
    return mounts.mount(image, 'loop');
  }

  function freeSpace(): void {
    fs.rmSync(`${disk}/ballast`, { force: true });
    fs.rmSync(`${disk}/more`, { force: true });
    fs.rmSync(`${disk}/crumbs`, { recursive: true, force: true });
  }

  /** Somebody else takes all that is left. */
  function fillUp(): void {
    const file = fs.openSync(`${disk}/more`, 'w');
    const bytes = Buffer.alloc(MIB, 'm');
    for (let size = MIB; size >= 4096;) {
      try {
        if (fs.writeSync(file, bytes, 0, size) < size) size /= 2;
      } catch {
        size /= 2;
      }
    }
    fs.closeSync(file);
  }

  /** Not even a small file finds room. */
  function fillToTheLastFile(): void {
    fillUp();
    fs.mkdirSync(`${disk}/crumbs`, { recursive: true });
    try {
      for (let crumb = 0; ; crumb++)
        fs.writeFileSync(`${disk}/crumbs/${crumb}`, 'c', { flush: true });
    } catch (error) {
      expect(String(error)).toMatch(/ENOSPC/);
    }
  }

  async function writeSome(client: NbdClient, pieces: number): Promise<void> {
    for (const end = written + pieces; written < end; written++) {
      await client.write(written * PIECE_BYTES, patterned(PIECE_BYTES, written));
    }
  }

  async function expectAll(client: NbdClient): Promise<void> {
    for (let piece = 0; piece < written; piece++) {
      const bytes = await client.read(piece * PIECE_BYTES, PIECE_BYTES);
      const same = Buffer.compare(bytes, patterned(PIECE_BYTES, piece)) === 0;
      expect(same, `piece ${piece} of ${written}`).toBe(true);
    }
  }

  /** After everything was freed: all is durable, through a kill and in a volume that is opened again. */
  async function expectNothingLost(server: ServedVolume, client: NbdClient): Promise<void> {
    freeSpace();
    await client.flush();
    await server.kill();
    await sandbox.withServer(volume, expectAll);
    await sandbox.withServer(volume, expectAll);
    await sandbox.succeed(sandbox.on(volume, 'scrub'));
  }

  it('during writes: they are refused with ENOSPC, and go on when there is space', async () => {
    const server = await sandbox.serve(volume);
    const client = await server.connect();
    const refusal = await writeSome(client, 1000).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(NbdError);
    expect(String(refusal)).toMatch(/ENOSPC/);
    expect(written).toBeGreaterThan(16);
    await expectAll(client);
    // What is free must do for what was acknowledged.
    await client.flush();
    // A disk that is full can be trimmed.
    await client.trim(200 * MIB, MIB);

    freeSpace();
    await writeSome(client, 16);
    await expectNothingLost(server, client);
  });

  /** The words of a command on the volume while it is served. */
  function onServer(...words: string[]): string[] {
    return ['-C', volume, ...words];
  }

  it('to the last byte: trimming, deleting a snapshot and a collection make room again', async () => {
    const server = await sandbox.serve(volume);
    const client = await server.connect();
    await writeSome(client, 40);
    await sandbox.succeed(onServer('snapshot', 'create', 'held'));
    await expect(writeSome(client, 1000)).rejects.toThrow(/ENOSPC/);
    await client.flush();
    fillUp();
    const gone = 60;
    await client.trim(0, gone * PIECE_BYTES);
    await sandbox.succeed(onServer('snapshot', 'delete', 'held'));
    await sandbox.succeed(onServer('gc'));
    const { bavail, bsize } = fs.statfsSync(disk);
    expect(bavail * bsize).toBeGreaterThan(gone * PIECE_BYTES);

    const all = written;
    written = 0;
    await writeSome(client, gone / 2);
    await client.flush();
    await expectAll(client);
    // With more room, the rest as well; what was not trimmed is as it was.
    freeSpace();
    await writeSome(client, gone / 2);
    written = all;
    await expectNothingLost(server, client);
  });

  it('while a flush is due: it fails or does what it says, and nothing acknowledged is lost', async () => {
    const server = await sandbox.serve(volume);
    const client = await server.connect();
    await writeSome(client, 24);
    fillUp();
    if (await flushed(client)) {
      // The volume's reserve has done it; now that is used up, too.
      fillUp();
      await expect(writeSome(client, 200)).rejects.toThrow(/ENOSPC/);
    }
    await flushed(client);
    await expectAll(client);
    await expectNothingLost(server, client);
  });

  /** False when there was no space for it; any other failure is thrown. */
  async function flushed(client: NbdClient): Promise<boolean> {
    try {
      await client.flush();
      return true;
    } catch (error) {
      expect(String(error)).toMatch(/ENOSPC/);
      return false;
    }
  }

  it('from before the start: the volume opens by its reserve, and can be trimmed', async () => {
    await sandbox.withServer(volume, async (client) => {
      await writeSome(client, 24);
      await client.flush();
    });
    expect(fs.existsSync(`${volume}/local/reserve`)).toBe(true);
    fillToTheLastFile();
    await sandbox.withServer(volume, async (client) => {
      await expectAll(client);
      await client.trim(DISK_BYTES / 2, MIB);
      await client.flush();
    });
    expect(fs.readdirSync(`${volume}/local`).filter((name) => /^lock./.test(name))).toEqual([]);
    freeSpace();
    await sandbox.withServer(volume, expectAll);
  });

  it('at the end of a server: what was flushed is there', async () => {
    const server = await sandbox.serve(volume);
    const client = await server.connect();
    await writeSome(client, 24);
    await client.flush();
    fillUp();
    const outcome = await server.stop();
    if (outcome.status !== 0) expectFailure(outcome, 1, /full|no space/, { remarks: true });
    freeSpace();
    await sandbox.withServer(volume, expectAll);
    await sandbox.succeed(sandbox.on(volume, 'scrub'));
  });

  it('during a sync: status 1 or done, and the next one finishes', async () => {
    const copy = sandbox.path('copy');
    const server = await sandbox.serve(volume);
    const client = await server.connect();
    await writeSome(client, 8);
    await sandbox.succeed(sandbox.on(volume, 'sync', copy));
    await writeSome(client, 24);
    fillUp();
    const outcome = await sandbox.run(sandbox.on(volume, 'sync', copy));
    if (outcome.status !== 0) expectFailure(outcome, 1, /full|no space/, { remarks: true });
    await expectAll(client);
    freeSpace();
    await sandbox.succeed(sandbox.on(volume, 'sync', copy));
    await expectNothingLost(server, client);

    const restored = sandbox.path('restored');
    await sandbox.succeed(['restore', '--key-file', sandbox.keyFile, copy, restored, '--verify']);
    await sandbox.withServer(restored, expectAll);
  });

  it('on the remote: status 1, what was there stays whole, and syncing again finishes', async () => {
    const remote = await mountSmall('remote');
    const ballast = `${remote}/ballast`;
    const copy = `${remote}/copy`;
    const local = await sandbox.create(sandbox.path('local'));
    const restore = ['restore', '--key-file', sandbox.keyFile, copy];
    await sandbox.withServer(local, async (client) => {
      await writeSome(client, 8);
      await sandbox.succeed(sandbox.on(local, 'sync', copy));
      const before = fingerprint(copy);
      const free = fs.statfsSync(remote);
      fs.writeFileSync(ballast, Buffer.alloc(free.bavail * free.bsize - 4 * MIB));
      await writeSome(client, 24);
      const outcome = await sandbox.run(sandbox.on(local, 'sync', copy));
      expectFailure(outcome, 1, /the remote is full/);
      for (const [name, digest] of before) expect(fingerprint(copy).get(name)).toBe(digest);
      await sandbox.succeed([...restore, sandbox.path('earlier'), '--verify']);

      fs.rmSync(ballast);
      await sandbox.succeed(sandbox.on(local, 'sync', copy));
    });
    await sandbox.succeed([...restore, sandbox.path('later'), '--verify']);
    await sandbox.withServer(sandbox.path('later'), expectAll);
  });
});
