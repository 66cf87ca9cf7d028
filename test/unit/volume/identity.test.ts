/** Whether a folder is the one that was written here, or a copy. */
import * as fs from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import { KIB } from '../../../src/base/bytes.js';
import { ChunkvolError } from '../../../src/base/errors.js';
import type { Files } from '../../../src/base/files.js';
import type { Environment } from '../../../src/store/context.js';
import {
  environment,
  makeVolume,
  open,
  patterned,
  temporaryFolder,
} from '../../support/volumes.js';

function worldOf(files: Partial<Files>): Environment {
  return { ...environment, files: { ...environment.files, ...files } };
}

async function noticesOf(folder: string, world: Environment): Promise<string[]> {
  const notices: string[] = [];
  const volume = await open(folder, { onNotice: (line) => void notices.push(line) }, world);
  await volume.close();
  return notices;
}

it('is the same folder on a device that has another number after a boot', async () => {
  const folder = temporaryFolder();
  await makeVolume(folder);
  const stat: Files['stat'] = async (path) => {
    const found = await environment.files.stat(path);
    return found && { ...found, device: `${found.device}1` };
  };
  expect(await noticesOf(folder, worldOf({ stat }))).toEqual([]);
});

it('is a copy elsewhere, and in a folder that happens to have the same number', async () => {
  const folder = temporaryFolder();
  const copy = temporaryFolder();
  await makeVolume(folder);
  fs.cpSync(folder, copy, { recursive: true });
  const { inode } = (await environment.files.stat(folder))!;
  const stat: Files['stat'] = async (path) => {
    const found = await environment.files.stat(path);
    return found && path === copy ? { ...found, inode } : found;
  };
  for (const world of [worldOf({ stat }), environment]) {
    const identity = `${copy}/local/identity`;
    const written = fs.readFileSync(identity);
    expect(await noticesOf(copy, world)).toEqual([expect.stringContaining('copy made by hand')]);
    fs.writeFileSync(identity, written);
  }
});

it('has nobody at work in it once opening has failed', async () => {
  const folder = temporaryFolder();
  await makeVolume(folder);
  const volume = await open(folder);
  onTestFinished(() => volume.close());
  await volume.write(0, patterned(256 * KIB, 1));
  await volume.flush();
  const crashed = temporaryFolder();
  fs.cpSync(folder, crashed, { recursive: true });
  fs.rmSync(`${crashed}/local/identity`);
  let isOver = false;
  const late: string[] = [];
  const world = worldOf({
    open: async (path, mode) => {
      if (path.includes('/local/identity')) throw new ChunkvolError('io', 'no more');
      if (isOver) late.push(path);
      return environment.files.open(path, mode);
    },
    rename: async (from, to) => {
      if (isOver) late.push(to);
      return environment.files.rename(from, to);
    },
  });
  await expect(open(crashed, {}, world)).rejects.toThrow('no more');
  isOver = true;
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(late).toEqual([]);
});
