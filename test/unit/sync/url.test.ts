import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { isChunkvolError } from '../../../src/base/errors.js';
import { openRemote } from '../../../src/sync/open-remote.js';
import { parseRemoteUrl } from '../../../src/sync/url.js';

describe('parseRemoteUrl', () => {
  it.each([
    ['/srv/copy', 'local', '/srv/copy', '/srv/copy'],
    ['/srv/copy//', 'local', '/srv/copy', '/srv/copy'],
    ['/', 'local', '/', '/'],
    ['/odd:name', 'local', '/odd:name', '/odd:name'],
    ['rsync:host:/srv/copy/', 'ssh', 'rsync:host:/srv/copy', 'host:/srv/copy'],
    ['rsync:me@host:copy', 'ssh', 'rsync:me@host:copy', 'me@host:copy'],
    ['rsync:host:~/my copy', 'ssh', 'rsync:host:my copy', 'host:my copy'],
    ['rsync:me@[::1]:/x:y', 'ssh', 'rsync:me@[::1]:/x:y', 'me@[::1]:/x:y'],
    ['rsync://host/module', 'daemon', 'rsync://host/module', 'rsync://host/module'],
    ['rsync://me@host:8730/m/a/', 'daemon', 'rsync://me@host:8730/m/a', 'rsync://me@host:8730/m/a'],
    ['rsync://[::1]:8730/m/a', 'daemon', 'rsync://[::1]:8730/m/a', 'rsync://[::1]:8730/m/a'],
    ['rclone:drive:', 'rclone', 'rclone:drive:', 'drive:'],
    ['rclone:drive:a/b/', 'rclone', 'rclone:drive:a/b', 'drive:a/b'],
    ['rclone:/srv/copy', 'rclone', 'rclone:/srv/copy', '/srv/copy'],
    ['rclone::local:/x', 'rclone', 'rclone::local:/x', ':local:/x'],
    ['rclone:s,region="a:b":c', 'rclone', 'rclone:s,region="a:b":c', 's,region="a:b":c'],
    [
      'rclone::sftp,key_file=/k:/x',
      'rclone',
      'rclone::sftp,key_file=/k:/x',
      ':sftp,key_file=/k:/x',
    ],
  ])('understands %s', (typed, kind, text, location) => {
    expect(parseRemoteUrl(typed)).toEqual({ kind, text, location });
    expect(parseRemoteUrl(text)).toEqual({ kind, text, location });
    expect(openRemote(typed).url).toBe(text);
  });

  it('makes a local folder absolute, so that no tool takes it for an option or a host', () => {
    expect(parseRemoteUrl('-x').location).toBe(path.resolve('-x'));
    expect(parseRemoteUrl('./host:x').location).toBe(path.resolve('host:x'));
  });

  it.each([
    '',
    'a\nb',
    'a\0b',
    'host:/srv/copy',
    'me@host:copy',
    's3://bucket/x',
    'rsync:host',
    'rsync:host:',
    'rsync:host:~',
    'rsync:host:~other/x',
    'rsync:-oProxyCommand=x:/srv',
    'rsync::/srv',
    'rsync:host:/a*',
    'rsync:host:/a[1]',
    'rsync://host',
    'rsync://host/',
    'rsync://-host/m',
    'rsync://host/m/a?',
    'rclone:',
    'rclone:drive',
    'rclone:a/b:c',
  ])('refuses %j', (typed) => {
    expect(() => parseRemoteUrl(typed)).toThrow(
      expect.toSatisfy((error) => isChunkvolError(error, 'usage')) as Error,
    );
  });

  it.each([
    'rsync://me:hunter2@host/m',
    'rclone::sftp,host=h,pass=hunter2:/x',
    'rclone:s3,secret_access_key=hunter2:/x',
  ])('refuses a password, and does not repeat it: %s', (typed) => {
    expect(() => parseRemoteUrl(typed)).toThrow(/RSYNC_PASSWORD|rclone config/);
    expect(() => parseRemoteUrl(typed)).not.toThrow(/hunter2/);
  });
});
