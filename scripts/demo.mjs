// A volume from its creation to its return from the dead, with the real program:
//
//   npm run demo                  as root with FUSE: a file system mounted by the kernel
//   npm run demo -- --rootless    always through chunkvol's own NBD client, as an ordinary user would
//
// It creates a volume, puts a file system with files on it, spoils that and goes back to a snapshot,
// syncs it to a folder that stands for a host nobody trusts, loses two chunk files of every group, reads everything back, repairs, destroys
// the volume and restores it with nothing but the passphrase. It ends with status 0 only if every
// comparison on the way held, and removes all that it has made, also after a failure or Ctrl-C.
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { gzipSync } from 'node:zlib';
import { chooseDisk } from './demo-disks.mjs';
import { checksums, compare, makeFiles, SECRET, summary } from './demo-files.mjs';
import { groupFiles } from './demo-groups.mjs';
import { Stage } from './demo-stage.mjs';

const PASSPHRASE = 'correct horse battery staple';
const LOST_PER_GROUP = 2;
const SHOWN_FILES = 4;
const SAMPLE_BYTES = 4e6;

const words = process.argv.slice(2);
if (words.some((word) => word !== '--rootless')) {
  console.error('usage: npm run demo [-- --rootless]');
  process.exit(2);
}
process.exit(await main(words.includes('--rootless')));

async function main(rootless) {
  const startMs = performance.now();
  const stage = new Stage();
  stage.environment.CHUNKVOL_PASSPHRASE = PASSPHRASE;
  let status = 1;
  try {
    await play(stage, rootless);
    status = 0;
  } catch (error) {
    const signal = stage.interruptedBy;
    console.error(`\nThe demo stops here: ${signal === null ? error.message : signal}`);
    if (signal !== null) status = 128 + constants.signals[signal];
  }
  await stage.clearUp();
  if (status === 0) {
    const seconds = Math.round((performance.now() - startMs) / 1000);
    console.log(`\nEvery comparison held. ${seconds} s; nothing is left of it.`);
  }
  return status;
}

async function play(stage, rootless) {
  console.log('chunkvol: a disk kept as encrypted files, of which any two out of six may be lost.');
  stage.say(`Everything happens in ${stage.folder}.`);
  const disk = await chooseDisk(stage, rootless);
  const host = await chooseHost(stage);

  await createVolume(stage);
  const expected = await fillDisk(stage, disk);
  await goBack(stage, disk, expected);
  stage.chapter('4. Sync it to a host that nobody trusts');
  if (host.online) await host.copyThere();
  stage.say('Detach it: everything is sealed, the server ends.');
  await disk.detach();
  if (!host.online) await host.copyThere();
  await lookAtHost(stage);

  const chunkSums = await loseFiles(stage);
  stage.chapter('7. Read everything back all the same');
  await readBack(stage, disk, expected);
  await repair(stage, chunkSums);
  await disk.detach();

  await destroyVolume(stage);
  stage.chapter('10. Bring it back from that host, with nothing but the passphrase');
  await host.copyBack();
  await readBack(stage, disk, expected);
  await disk.detach();
}

/** A local folder in the place of a host: by `chunkvol sync`, or by hand where rsync is not installed. */
async function chooseHost(stage) {
  const hasRsync = (await stage.run('rsync', ['--version'])).status === 0;
  if (hasRsync) {
    return {
      online: true,
      copyThere: async () => {
        await stage.chunkvol('-C', 'volume', 'remote', 'add', 'offsite', stage.path('host'));
        await stage.chunkvol('-C', 'volume', 'sync', 'offsite');
      },
      copyBack: () => stage.chunkvol('restore', stage.path('host'), 'volume', '--verify'),
    };
  }
  stage.say(
    'rsync is not installed: the volume is copied by hand, which chunkvol allows, not by sync.',
  );
  const folders = ['keys', 'roots', 'chunks'].map((name) => join('volume', name));
  return {
    online: false,
    copyThere: async () => {
      await stage.tool('mkdir', 'host');
      await stage.tool('cp', '-r', ...folders, 'host');
    },
    copyBack: () => stage.tool('cp', '-r', 'host', 'volume'),
  };
}

async function createVolume(stage) {
  stage.chapter('1. Create a volume');
  stage.say(
    'A disk of 256 MiB, in groups of 4 + 2 files; small ones, so that there are several groups.',
  );
  stage.say(`The passphrase "${PASSPHRASE}" is in $CHUNKVOL_PASSPHRASE.`);
  await stage.chunkvol('create', 'volume', '--size', '256M', '--chunk-size', '8M');
}

/** Returns the checksums of the files. */
async function fillDisk(stage, disk) {
  stage.chapter('2. Use it as a disk');
  const { files, bytes } = await makeFiles(stage.path('files'), stage);
  stage.say(`${files} files, ${mib(bytes)}: packages of npm, noise for photos, a letter.`);
  await disk.attach();
  await disk.fill('files');
  const expected = await checksums(stage.path('files'), stage);
  const count = compare(expected, await disk.read());
  stage.say(`${count} files are on the disk; SHA-256 over all: ${summary(expected).slice(0, 16)}…`);
  await rm(stage.path('files'), { recursive: true });
  stage.say('The originals are deleted.');
  return expected;
}

/** Spoils the disk and makes it what it was, by a snapshot; what that costs is given back. */
async function goBack(stage, disk, expected) {
  stage.chapter('3. Make a mistake, and go back to a snapshot');
  await stage.chunkvol('-C', 'volume', 'snapshot', 'create', 'good');
  await disk.spoil();
  await disk.detach();
  const said = await stage.chunkvol('-C', 'volume', 'snapshot', 'rollback', 'good');
  const [, mistake] = / kept as (\S+)/.exec(said);
  await readBack(stage, disk, expected);
  const before = await folderBytes(stage.path('volume', 'chunks'));
  await stage.chunkvol('-C', 'volume', 'snapshot', 'delete', mistake, 'good');
  await stage.chunkvol('-C', 'volume', 'gc');
  const after = await folderBytes(stage.path('volume', 'chunks'));
  if (after >= before) throw new Error('the collection has given nothing back');
  stage.say(`The chunk files had ${mib(before)} with the mistake, and have ${mib(after)} without.`);
}

async function folderBytes(folder) {
  const names = await readdir(folder);
  const stats = await Promise.all(names.map((name) => stat(join(folder, name))));
  return stats.reduce((sum, { size }) => sum + size, 0);
}

async function lookAtHost(stage) {
  stage.chapter('5. What that host sees');
  for (const folder of ['keys', 'roots', 'chunks']) {
    const names = await readdir(stage.path('host', folder));
    stage.say(`${folder}/  ${names.length} files`);
    for (const name of names.slice(0, SHOWN_FILES)) {
      const { size } = await stat(stage.path('host', folder, name));
      stage.say(`   ${name}  ${size} bytes`);
    }
    if (names.length > SHOWN_FILES) stage.say('   …');
  }
  const chunks = await readdir(stage.path('host', 'chunks'));
  let largest = Buffer.alloc(0);
  for (const name of chunks) {
    const bytes = await readFile(stage.path('host', 'chunks', name));
    if (bytes.includes(SECRET)) throw new Error(`the host can read the letter, in chunks/${name}`);
    if (bytes.length > largest.length) largest = bytes;
  }
  const sample = largest.subarray(0, SAMPLE_BYTES);
  const gain = 1 - gzipSync(sample).length / sample.length;
  if (gain > 0.001) throw new Error('the chunk files are not like random bytes');
  stage.say('All of it is like random bytes: gzip cannot make it smaller,');
  stage.say(`and "${SECRET}" of letter.txt is nowhere in it.`);
}

/** Deletes two chunk files of each group; returns the checksums of all as they were. */
async function loseFiles(stage) {
  stage.chapter(`6. Lose ${LOST_PER_GROUP} chunk files of every group`);
  const groups = await groupFiles(stage.path('volume'), PASSPHRASE);
  const sums = await checksums(stage.path('volume', 'chunks'), stage);
  stage.say(
    `${groups.length} groups of ${groups[0].length} files; any ${LOST_PER_GROUP} of each will do.`,
  );
  for (const files of groups) {
    const lost = shuffled(files).slice(0, LOST_PER_GROUP);
    await stage.tool('rm', ...lost.map((file) => join('volume', file)));
  }
  return sums;
}

async function readBack(stage, disk, expected) {
  await disk.attach();
  const count = compare(expected, await disk.read());
  stage.say(`All ${count} files are right: the checksums are the same.`);
}

async function repair(stage, chunkSums) {
  stage.chapter('8. Repair, while the disk is in use');
  await stage.chunkvol('-C', 'volume', 'status');
  await stage.chunkvol('-C', 'volume', 'repair');
  const found = await checksums(stage.path('volume', 'chunks'), stage);
  // What the disk has written since is in files that are new.
  for (const name of found.keys()) if (!chunkSums.has(name)) found.delete(name);
  stage.say(`All ${compare(chunkSums, found)} chunk files are what they were, byte for byte.`);
}

async function destroyVolume(stage) {
  stage.chapter('9. Destroy the volume');
  await stage.tool('rm', '-rf', 'volume', 'state');
}

function shuffled(items) {
  const keyed = items.map((item) => ({ item, key: Math.random() }));
  return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item);
}

function mib(bytes) {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
