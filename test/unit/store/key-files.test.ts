import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { wrapVolumeKey, type Credential } from '../../../src/crypto/key-slot.js';
import { encodeKeyFile } from '../../../src/format/key-file.js';
import {
  keySlot,
  ownKeyFiles,
  publishKeyFile,
  removeOlderKeyFiles,
  unlock,
} from '../../../src/store/key-files.js';
import { environment, keyFile, makeVolume, temporaryFolder } from '../../support/volumes.js';

const { files, random } = environment;
const other: Credential = { kind: 'key-file', secret: Buffer.alloc(32, 8) };

describe('the key files of a volume', () => {
  it('open with the credential of any slot, and with no other', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const opened = await unlock(files, folder, keyFile);
    await expect(unlock(files, folder, other)).rejects.toMatchObject({ code: 'wrong-key' });
    const wrapped = await wrapVolumeKey(opened.volumeKey, other, random);
    const slots = [...opened.keyFile.slots, keySlot(random.bytes(8), 1, wrapped)];
    await publishKeyFile(files, folder, opened.keys, { ...opened.keyFile, counter: 2, slots });
    const again = await unlock(files, folder, other);
    expect(Buffer.compare(again.volumeKey, opened.volumeKey)).toBe(0);
    expect(again.keyFile.counter).toBe(2);
    expect(fs.readdirSync(`${folder}/keys`)).toHaveLength(1);
  });

  it('open nothing once a newer one has taken their place, whether they are removed or not', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const opened = await unlock(files, folder, keyFile);
    const [old] = await ownKeyFiles({ files, folder, keys: opened.keys });
    const wrapped = await wrapVolumeKey(opened.volumeKey, other, random);
    const slots = [keySlot(random.bytes(8), 1, wrapped)];
    await publishKeyFile(files, folder, opened.keys, { ...opened.keyFile, counter: 2, slots });
    // As after a crash before its removal.
    fs.writeFileSync(`${folder}/keys/${old!.name}`, old!.bytes);
    await expect(unlock(files, folder, keyFile)).rejects.toMatchObject({ code: 'wrong-key' });
    const { keys, keyFile: newest } = await unlock(files, folder, other);
    expect(newest.counter).toBe(2);
    expect((await ownKeyFiles({ files, folder, keys })).map(({ file }) => file.counter)).toEqual([
      2, 1,
    ]);
    await removeOlderKeyFiles({ files, folder, keys });
    expect(fs.readdirSync(`${folder}/keys`)).not.toContain(old!.name);
    expect((await unlock(files, folder, other)).keyFile.counter).toBe(2);
  });

  it('are found behind damaged, foreign and hostile ones', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const opened = await unlock(files, folder, keyFile);
    const [slot] = opened.keyFile.slots;
    const hostile = { ...slot!, kind: 'passphrase' as const, memoryKiB: 2 ** 31, lanes: 200 };
    const fake = encodeKeyFile({ ...opened.keyFile, counter: 99, slots: [hostile, slot!] });
    fs.writeFileSync(`${folder}/keys/${'a'.repeat(32)}`, Buffer.concat([fake, Buffer.alloc(32)]));
    fs.writeFileSync(`${folder}/keys/${'b'.repeat(32)}`, 'not a key file');
    fs.writeFileSync(`${folder}/keys/README`, 'hello');
    const again = await unlock(files, folder, keyFile);
    expect(again.keyFile.counter).toBe(1);
    await expect(
      unlock(files, folder, { kind: 'passphrase', passphrase: Buffer.from('x') }),
    ).rejects.toMatchObject({ code: 'wrong-key' });
  });

  it('say what is wrong when there is none, or none that can be read', async () => {
    const folder = temporaryFolder();
    await expect(unlock(files, folder, keyFile)).rejects.toMatchObject({ code: 'not-a-volume' });
    fs.mkdirSync(`${folder}/keys`);
    fs.writeFileSync(`${folder}/keys/${'b'.repeat(32)}`, 'not a key file');
    await expect(unlock(files, folder, keyFile)).rejects.toMatchObject({ code: 'damaged' });
  });

  it('of a newer format are told from damaged ones', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder);
    const [name] = fs.readdirSync(`${folder}/keys`);
    const bytes = fs.readFileSync(`${folder}/keys/${name!}`);
    bytes.writeUInt16LE(9, 4);
    fs.writeFileSync(`${folder}/keys/${name!}`, bytes);
    await expect(unlock(files, folder, keyFile)).rejects.toMatchObject({ code: 'newer-format' });
  });
});
