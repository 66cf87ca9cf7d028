/**
 * The kinds of places that a volume is synced to, for tests that run the program: a folder, a host over
 * ssh, sftp and S3 through rclone. Each is a real server on loopback, or no server at all.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { startS3, startSshd, type Server } from './remotes.js';
import type { Sandbox } from './sandbox.js';
import type { Need } from './tools.js';

export interface Place {
  /** Where a volume of this name is synced to. */
  url(name: string): string;
  /** What the program must find in its environment to get there. */
  readonly environment: NodeJS.ProcessEnv;
  /** Removes files of a volume there, as the host that lost them. */
  lose(name: string, paths: readonly string[]): void;
  close(): Promise<void>;
}

export interface PlaceKind {
  readonly title: string;
  readonly needs: readonly Need[];
  open(sandbox: Sandbox): Promise<Place>;
}

const SSH_NEEDS = ['ssh', 'sshd', 'ssh-keygen'] as const;

export const LOCAL_FOLDER: PlaceKind = {
  title: 'a local folder',
  needs: ['rsync'],
  open: (sandbox) => {
    const top = sandbox.path('folder');
    return Promise.resolve(folderPlace(top, (name) => path.join(top, name)));
  },
};

export const SSH_HOST: PlaceKind = {
  title: 'a host over ssh',
  needs: ['rsync', ...SSH_NEEDS],
  open: async (sandbox) => {
    const server = await startSshd(sandbox.path('sshd'));
    const top = sandbox.path('ssh');
    const environment = { CHUNKVOL_SSH: server.sshCommand };
    return folderPlace(top, (name) => `rsync:loop:${path.join(top, name)}`, environment, server);
  },
};

export const SFTP: PlaceKind = {
  title: 'sftp through rclone',
  needs: ['rclone', ...SSH_NEEDS],
  open: async (sandbox) => {
    const server = await startSshd(sandbox.path('sshd'));
    const top = sandbox.path('sftp');
    return folderPlace(
      top,
      (name) => `rclone:${server.rcloneSftp}${path.join(top, name)}`,
      {},
      server,
    );
  },
};

export const S3: PlaceKind = {
  title: 'S3 through rclone',
  needs: ['rclone'],
  open: async (sandbox) => {
    const server = await startS3(sandbox.path('s3'));
    const environment = server.environment('loops3');
    const location = (name: string): string => `loops3:${server.bucket}/${name}`;
    return {
      url: (name) => `rclone:${location(name)}`,
      environment,
      lose: (name, paths) => {
        const { status, stderr } = spawnSync(
          'rclone',
          ['delete', '--files-from-raw', '-', location(name)],
          { input: paths.join('\n'), env: { ...sandbox.environment, ...environment } },
        );
        if (status !== 0) throw new Error(`rclone delete failed: ${String(stderr)}`);
      },
      close: () => server.stop(),
    };
  },
};

function folderPlace(
  top: string,
  url: Place['url'],
  environment: NodeJS.ProcessEnv = {},
  server?: Server,
): Place {
  fs.mkdirSync(top);
  return {
    url,
    environment,
    lose: (name, paths) => {
      for (const each of paths) fs.rmSync(path.join(top, name, each));
    },
    close: () => server?.stop() ?? Promise.resolve(),
  };
}
