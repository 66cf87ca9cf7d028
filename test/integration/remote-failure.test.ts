/**
 * Remotes that are down, refuse, or are full, and tools that are missing: each is one line that
 * says what happened and what to do, with its own code; and nothing hangs.
 */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { isChunkvolError } from '../../src/base/errors.js';
import type { ErrorCode } from '../../src/base/errors.js';
import { openRemote } from '../../src/sync/open-remote.js';
import {
  freePort,
  makeTestFolder,
  startRsyncDaemon,
  startS3,
  startSshd,
} from '../support/remotes.js';
import type { S3Server, Server, SshServer } from '../support/remotes.js';
import { describeWith, pathOf } from '../support/tools.js';

const NAME = `chunks/${'7'.padStart(32, '0')}`;

const top = makeTestFolder();
const local = path.join(top, 'local');
const environment = { ...process.env };

beforeAll(() => {
  fs.mkdirSync(path.join(local, 'chunks'), { recursive: true });
  fs.writeFileSync(path.join(local, NAME), Buffer.alloc(300_000, 1));
});

afterEach(() => {
  for (const name of Object.keys(process.env)) {
    if (!(name in environment)) Reflect.deleteProperty(process.env, name);
  }
  Object.assign(process.env, environment);
});

afterAll(() => {
  fs.rmSync(top, { recursive: true, force: true });
});

async function expectError(work: Promise<unknown>, code: ErrorCode, says: RegExp): Promise<void> {
  const error: unknown = await work.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  if (!isChunkvolError(error)) throw error;
  expect(error.message).toMatch(says);
  expect(error.message).not.toMatch(/\p{Cc}/u);
  expect(error.code).toBe(code);
}

/** A folder with programs of these names only. */
function folderOfTools(...names: ('rsync' | 'rclone' | 'ssh')[]): string {
  const folder = fs.mkdtempSync(path.join(top, 'path-'));
  for (const name of names) fs.symlinkSync(pathOf(name), path.join(folder, name));
  return folder;
}

describeWith(['rsync'], 'rsync', () => {
  let daemon: Server;

  beforeAll(async () => {
    const shared = path.join(top, 'shared');
    daemon = await startRsyncDaemon(path.join(top, 'daemon'), shared);
    fs.mkdirSync(path.join(shared, 'volume', 'chunks'), { recursive: true });
    fs.writeFileSync(path.join(shared, 'volume', 'chunks', 'x'), 'x');
  });

  afterAll(() => daemon.stop());

  it('is not installed', async () => {
    process.env['PATH'] = '/nonexistent';
    const says = /^rsync is not installed; install it with: apt install rsync$/;
    await expectError(openRemote(path.join(top, 'x')).list('chunks'), 'missing-tool', says);
  });

  it('has no ssh', async () => {
    process.env['PATH'] = folderOfTools('rsync');
    const says = /^ssh is not installed; install it with: apt install openssh-client$/;
    const remote = openRemote('rsync:127.0.0.1:/x');
    await expectError(remote.list('chunks'), 'missing-tool', says);
    await expectError(remote.upload(local, [NAME]), 'missing-tool', says);
  });

  it('finds a daemon down', async () => {
    const remote = openRemote(`rsync://127.0.0.1:${await freePort()}/write`);
    const says = /rsync:\/\/127.*cannot be reached.*Connection refused/;
    await expectError(remote.list('chunks'), 'remote', says);
    await expectError(remote.upload(local, [NAME]), 'remote', says);
  });

  it('finds a host down', async () => {
    process.env['CHUNKVOL_SSH'] = `ssh -oBatchMode=yes -p ${await freePort()}`;
    const says = /on rsync:127.0.0.1:\/x: the host cannot be reached.*Connection refused/;
    await expectError(openRemote('rsync:127.0.0.1:/x').list('chunks'), 'remote', says);
  });

  it('may not write', async () => {
    const remote = openRemote(`rsync://127.0.0.1:${daemon.port}/read/volume`);
    expect(await remote.list('chunks')).toEqual([{ path: 'chunks/x', bytes: 1 }]);
    await expectError(remote.upload(local, [NAME]), 'remote', /the remote is read-only/);
    await expectError(remote.remove(['chunks/x']), 'remote', /the remote is read-only/);
    expect(await remote.list('chunks')).toEqual([{ path: 'chunks/x', bytes: 1 }]);
  });

  it('is given a module that is not there', async () => {
    const remote = openRemote(`rsync://127.0.0.1:${daemon.port}/nothing`);
    await expectError(remote.list('chunks'), 'remote', /there is no such remote.*nothing/);
  });

  it('is given a file instead of a folder', async () => {
    const remote = openRemote(path.join(local, NAME));
    await expectError(remote.upload(local, [NAME]), 'remote', /cannot copy to .*local\/chunks\/0/);
  });
});

describeWith(['rsync', 'ssh', 'sshd', 'ssh-keygen'], 'rsync over ssh', () => {
  let server: SshServer;
  let url: string;

  beforeAll(async () => {
    server = await startSshd(path.join(top, 'sshd'));
    url = `rsync:loop:${top}/far away`;
  });

  afterAll(() => server.stop());

  it('is not let in', async () => {
    process.env['CHUNKVOL_SSH'] =
      `${server.sshCommand} -oControlPath=none -oPreferredAuthentications=password`;
    await expectError(openRemote(url).list('chunks'), 'remote', /the login was refused/);
  });

  it('meets a host with another key', async () => {
    process.env['CHUNKVOL_SSH'] =
      `${server.sshCommand} -oControlPath=none -oUserKnownHostsFile=/dev/null`;
    await expectError(openRemote(url).list('chunks'), 'remote', /the host is not known/);
  });

  it('takes $RSYNC_RSH when there is no $CHUNKVOL_SSH', async () => {
    process.env['RSYNC_RSH'] = server.sshCommand;
    expect(await openRemote(url).list('chunks')).toEqual([]);
  });

  it('finds no rsync on the host', async () => {
    const sshd = await startSshd(path.join(top, 'bare-sshd'), { path: folderOfTools() });
    try {
      process.env['CHUNKVOL_SSH'] = sshd.sshCommand;
      const says = /^rsync is not installed on the host of rsync:loop:.*apt install rsync$/;
      await expectError(openRemote(url).list('chunks'), 'missing-tool', says);
    } finally {
      await sshd.stop();
    }
  });

  it('goes without the options that an older host does not know', async () => {
    // Rsync 3.1, confined, as far as these options go: it stands before the real one on the host.
    const far = path.join(top, 'far-bin');
    const refuse = (words: string): string => `echo "${words}" >&2; exit 1`;
    const script = `for a; do case $a in
      -s*) ${refuse('option -s has been disabled on this server.')};;
      --mkpath|--fsync) ${refuse('rsync: $a: unknown option')};; esac; done`;
    fs.mkdirSync(far);
    const body = `#!/bin/sh\n${script}\nexec ${pathOf('rsync')} "$@"\n`;
    fs.writeFileSync(path.join(far, 'rsync'), body, { mode: 0o755 });
    const command = `${far}/rsync \${SSH_ORIGINAL_COMMAND#rsync }`;
    const sshd = await startSshd(path.join(top, 'old-sshd'), { command });
    try {
      process.env['CHUNKVOL_SSH'] = sshd.sshCommand;
      const remote = openRemote(`rsync:loop:${top}/plain`);
      await remote.upload(local, [NAME]);
      expect(await remote.list('chunks')).toEqual([{ path: NAME, bytes: 300_000 }]);
      const deeper = openRemote(`rsync:loop:${top}/no/such/place`);
      await expectError(deeper.upload(local, [NAME]), 'remote', /folder above it does not exist/);
    } finally {
      await sshd.stop();
    }
  });
});

describeWith(['rsync', 'ssh', 'sshd', 'ssh-keygen', 'python3'], 'rsync confined by rrsync', () => {
  let server: SshServer;
  const confined = path.join(top, 'confined');

  beforeAll(async () => {
    fs.mkdirSync(confined);
    server = await startSshd(path.join(top, 'rrsync'), { command: `rrsync ${confined}` });
  });

  afterAll(() => server.stop());

  it('goes without protected arguments where the name needs none', async () => {
    process.env['CHUNKVOL_SSH'] = server.sshCommand;
    const remote = openRemote('rsync:loop:some/volume');
    await remote.upload(local, [NAME]);
    expect(fs.statSync(path.join(confined, 'some/volume', NAME)).size).toBe(300_000);
    expect(await remote.list('chunks')).toEqual([{ path: NAME, bytes: 300_000 }]);
    const says = /refuses --protect-args.*choose a folder/;
    await expectError(openRemote('rsync:loop:a volume').list('chunks'), 'remote', says);
  });
});

describeWith(['rclone'], 'rclone', () => {
  let s3: S3Server;

  beforeAll(async () => {
    delete process.env['AWS_CA_BUNDLE'];
    s3 = await startS3(path.join(top, 's3'));
  });

  afterAll(() => s3.stop());

  it('is not installed', async () => {
    process.env['PATH'] = '/nonexistent';
    const says = /^rclone is not installed; install it with: apt install rclone$/;
    const remote = openRemote(`rclone:${top}/x`);
    await expectError(remote.list('chunks'), 'missing-tool', says);
    await expectError(remote.download(path.join(top, 'y'), [NAME]), 'missing-tool', says);
  });

  it('knows no remote of that name', async () => {
    const remote = openRemote('rclone:nosuchremote:x');
    await expectError(remote.list('chunks'), 'remote', /there is no such remote/);
  });

  it('finds a server down', async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const down = { ...s3.environment('downs3'), RCLONE_CONFIG_DOWNS3_ENDPOINT: url };
    Object.assign(process.env, down);
    Reflect.deleteProperty(process.env, 'AWS_CA_BUNDLE');
    const remote = openRemote(`rclone:downs3:${s3.bucket}/x`);
    const says = /list chunks on rclone:downs3:.*cannot be reached.*connection refused/;
    await expectError(remote.list('chunks'), 'remote', says);
  });

  it('is not let in', async () => {
    Object.assign(process.env, s3.environment('bads3'));
    Reflect.deleteProperty(process.env, 'AWS_CA_BUNDLE');
    process.env['RCLONE_CONFIG_BADS3_ACCESS_KEY_ID'] = 'NOBODY';
    const remote = openRemote(`rclone:bads3:${s3.bucket}/x`);
    await expectError(remote.list('chunks'), 'remote', /the login was refused.*InvalidAccessKeyId/);
    await expectError(remote.upload(local, [NAME]), 'remote', /the login was refused/);
  });
});

describeWith(['rsync', 'rclone', 'mount', 'root'], 'a full disk', () => {
  const small = path.join(top, 'small');

  beforeAll(() => {
    fs.mkdirSync(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'chunkvol-test', small]);
  });

  afterAll(() => {
    execFileSync('umount', [small]);
  });

  it.each(['', 'rclone:'])('of the remote (%s)', async (scheme) => {
    const remote = openRemote(`${scheme}${small}/remote`);
    await expectError(remote.upload(local, [NAME]), 'remote', /: the remote is full /);
    const left = await remote.list('chunks');
    expect(left.every((file) => file.bytes < 300_000)).toBe(true);
  });

  it.each(['', 'rclone:'])('of this machine (%s)', async (scheme) => {
    const remote = openRemote(`${scheme}${local}`);
    const says = /the disk under .*small\/volume is full/;
    await expectError(remote.download(path.join(small, 'volume'), [NAME]), 'no-space', says);
  });
});
