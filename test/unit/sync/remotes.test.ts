import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeFiles } from '../../../src/base/node-files.js';
import { RemoteMemory, stateFolder } from '../../../src/sync/memory.js';
import {
  addRemote,
  readRemoteBook,
  receiptOf,
  removeRemote,
  resolveRemote,
  writeReceipt,
  type SyncReceipt,
} from '../../../src/sync/remotes.js';

let folder: string;
const volume = () => ({ files: nodeFiles, folder });

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'remotes-'));
});

afterEach(() => {
  fs.rmSync(folder, { recursive: true });
});

function receipt(url: string, generation: number): SyncReceipt {
  const counts = { timeMs: 1, generation, copiedBytes: 3, neededBytes: 4 };
  return { url, root: 'ab', keyFiles: ['cd'], acceptedRoots: [], ...counts };
}

describe('the remotes of a volume', () => {
  it('are none at first', async () => {
    expect(await readRemoteBook(volume())).toEqual({ remotes: [], receipts: [] });
  });

  it('are added, found by name, and removed; receipts stay', async () => {
    await addRemote(volume(), 'office', '/mnt/office');
    await addRemote(volume(), 'cloud', 'rclone:s3:bucket');
    await writeReceipt(volume(), receipt('/mnt/office', 1));
    await writeReceipt(volume(), receipt('/mnt/office', 2));
    const book = await readRemoteBook(volume());
    expect(book.remotes.map((remote) => remote.name)).toEqual(['cloud', 'office']);
    expect(await resolveRemote(nodeFiles, book, 'office')).toBe('/mnt/office');
    expect(await resolveRemote(nodeFiles, book, './other')).toBe('./other');
    expect(await resolveRemote(nodeFiles, book, 'src')).toBe('src');
    await expect(resolveRemote(nodeFiles, book, 'ofice')).rejects.toMatchObject({ code: 'usage' });
    expect(book.receipts).toEqual([receipt('/mnt/office', 2)]);
    await removeRemote(volume(), 'office');
    const later = await readRemoteBook(volume());
    expect(later.remotes.map((remote) => remote.name)).toEqual(['cloud']);
    expect(receiptOf(later, '/mnt/office')?.generation).toBe(2);
    expect(receiptOf(later, '/mnt/elsewhere')).toBeNull();
  });

  it('have names of their own', async () => {
    await addRemote(volume(), 'office', '/mnt/office');
    await expect(addRemote(volume(), 'office', '/b')).rejects.toMatchObject({ code: 'exists' });
    for (const name of ['', '-x', 'a/b', 'a b', 'rclone:x']) {
      await expect(addRemote(volume(), name, '/b')).rejects.toMatchObject({ code: 'usage' });
    }
    await expect(removeRemote(volume(), 'home')).rejects.toMatchObject({ code: 'usage' });
  });

  it.each(['{', '[]', '{"version":1,"remotes":[{"name":1}],"receipts":[]}'])(
    'are not guessed at when the file is damaged: %s',
    async (text) => {
      fs.mkdirSync(path.join(folder, 'local'));
      fs.writeFileSync(path.join(folder, 'local/remotes.json'), text);
      await expect(readRemoteBook(volume())).rejects.toMatchObject({ code: 'damaged' });
      await expect(addRemote(volume(), 'a', '/b')).rejects.toMatchObject({ code: 'damaged' });
    },
  );
});

describe('the memory of what was seen', () => {
  const ids = [new Uint8Array(16).fill(1), new Uint8Array(16).fill(2)] as const;

  it('is kept by volume and remote', async () => {
    const memory = new RemoteMemory(nodeFiles, folder);
    expect(await memory.recall(ids[0], 'a')).toBeNull();
    await memory.record(ids[0], 'a', { generation: 5, seenMs: 1 });
    await memory.record(ids[0], 'b', { generation: 6, seenMs: 1 });
    await memory.record(ids[0], 'a', { generation: 7, seenMs: 2 });
    expect(await memory.recall(ids[0], 'a')).toEqual({ generation: 7, seenMs: 2 });
    expect(await memory.recall(ids[0], 'b')).toEqual({ generation: 6, seenMs: 1 });
    expect(await memory.recall(ids[1], 'a')).toBeNull();
  });

  it('is nothing when it cannot be read', async () => {
    const memory = new RemoteMemory(nodeFiles, folder);
    await memory.record(ids[0], 'a', { generation: 5, seenMs: 1 });
    const seen = path.join(folder, 'seen', '01'.repeat(16));
    for (const name of fs.readdirSync(seen)) fs.writeFileSync(path.join(seen, name), '{"x"');
    expect(await memory.recall(ids[0], 'a')).toBeNull();
  });

  it('lies where the user keeps the state of programs', () => {
    expect(stateFolder({ XDG_STATE_HOME: '/state' })).toBe('/state/chunkvol');
    const home = path.join(os.homedir(), '.local/state/chunkvol');
    expect(stateFolder({})).toBe(home);
    expect(stateFolder({ XDG_STATE_HOME: 'relative' })).toBe(home);
  });
});
