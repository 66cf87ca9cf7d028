/**
 * Transfers that do not get to their end: aborted by us, or killed by somebody else. What they
 * leave behind is either no file, or a file of another size that the next transfer replaces; never one
 * of full size with other contents.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openRemote } from '../../src/sync/open-remote.js';
import type { Remote, TransferOptions } from '../../src/sync/remote.js';
import { makeTestFolder, startS3, startSshd } from '../support/remotes.js';
import type { Server } from '../support/remotes.js';
import { describeWith } from '../support/tools.js';
import type { Need } from '../support/tools.js';

const NAME = `chunks/${'5'.padStart(32, '0')}`;
const FILE_BYTES = 12 * 2 ** 20;

/** So slow that the transfer takes two seconds or more, and its progress is seen before the end. */
const LIMIT = '5M';

const top = makeTestFolder();
const local = path.join(top, 'local');
const contents = randomBytes(FILE_BYTES);

beforeAll(() => {
  fs.mkdirSync(path.join(local, 'chunks'), { recursive: true });
  fs.writeFileSync(path.join(local, NAME), contents);
});

afterAll(() => {
  fs.rmSync(top, { recursive: true, force: true });
});

interface Kind {
  readonly title: string;
  readonly tools: Need[];
  readonly tool: 'rsync' | 'rclone';
  /** Starts what is needed and returns the URL. */
  readonly open: () => Promise<{ url: string; server?: Server }>;
}

const KINDS: Kind[] = [
  {
    title: 'rsync to a local folder',
    tools: ['rsync'],
    tool: 'rsync',
    open: () => Promise.resolve({ url: path.join(top, 'copy') }),
  },
  {
    title: 'rsync over ssh',
    tools: ['rsync', 'ssh', 'sshd', 'ssh-keygen'],
    tool: 'rsync',
    open: async () => {
      const server = await startSshd(path.join(top, 'sshd'));
      process.env['CHUNKVOL_SSH'] = server.sshCommand;
      return { url: `rsync:loop:${top}/far`, server };
    },
  },
  {
    title: 'rclone to a local folder',
    tools: ['rclone'],
    tool: 'rclone',
    open: () => Promise.resolve({ url: `rclone:${top}/clone` }),
  },
  {
    title: 'rclone to S3',
    tools: ['rclone'],
    tool: 'rclone',
    open: async () => {
      delete process.env['AWS_CA_BUNDLE'];
      // What rclone would do to a file of many GiB: to fetch it in several streams at once.
      process.env['RCLONE_MULTI_THREAD_CUTOFF'] = '1M';
      const server = await startS3(path.join(top, 's3'));
      Object.assign(process.env, server.environment('cuts3'));
      return { url: `rclone:cuts3:${server.bucket}/volume`, server };
    },
  },
];

function readIfThere(file: string): Buffer | null {
  return fs.existsSync(file) ? fs.readFileSync(file) : null;
}

/** The processes of `tool` that this one has started itself. */
function childrenRunning(tool: string): number[] {
  const table = execFileSync('ps', ['-o', 'pid=,comm=', '--ppid', String(process.pid)]).toString();
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, command]) => command === tool)
    .map(([pid]) => Number(pid));
}

for (const { title, tools, tool, open } of KINDS) {
  describeWith(tools, title, () => {
    let remote: Remote;
    let server: Server | undefined;

    beforeAll(async () => {
      const opened = await open();
      remote = openRemote(opened.url);
      server = opened.server;
    });

    afterAll(() => server?.stop());

    it.each(['upload', 'download'] as const)('%s, aborted', async (direction) => {
      const abort = new AbortController();
      await interrupt(direction, { signal: abort.signal }, 'interrupted', () => {
        abort.abort();
      });
    });

    it.each(['upload', 'download'] as const)('%s, its tool killed', async (direction) => {
      await interrupt(direction, {}, 'remote', () => {
        for (const pid of childrenRunning(tool)) process.kill(pid, 'SIGKILL');
      });
    });

    /** Starts a transfer, lets `stop` end it on its way, and has it done again. */
    async function interrupt(
      direction: 'upload' | 'download',
      options: TransferOptions,
      code: string,
      stop: () => void,
    ): Promise<void> {
      const fetched = path.join(top, 'fetched');
      fs.rmSync(fetched, { recursive: true, force: true });
      if (direction === 'upload') await remote.remove([NAME]);
      const folder = direction === 'upload' ? local : fetched;
      const seen: number[] = [];
      const onProgress = (doneBytes: number): void => {
        seen.push(doneBytes);
        stop();
      };
      const limited = { ...options, bandwidthLimit: LIMIT, onProgress };
      await expect(remote[direction](folder, [NAME], limited)).rejects.toMatchObject({ code });
      expect(seen[0]).toBeLessThan(FILE_BYTES);
      expect(childrenRunning(tool)).toEqual([]);
      // Not written from several places at once, which could leave full size with holes.
      const left = direction === 'download' ? readIfThere(path.join(fetched, NAME)) : null;
      if (left !== null) expect(left.equals(contents.subarray(0, left.length))).toBe(true);

      await remote[direction](folder, [NAME]);
      await remote.download(fetched, [NAME]);
      expect(fs.readFileSync(path.join(fetched, NAME)).equals(contents)).toBe(true);
      expect(await remote.list('chunks')).toEqual([{ path: NAME, bytes: FILE_BYTES }]);
    }
  });
}
