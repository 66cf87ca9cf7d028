// The two ways in which the demo uses a volume as a disk. Both have the same steps: `attach`, `fill`
// with a folder of files, `spoil` all of it, `read` them back as checksums, `detach`.
//
// MountedDisk: `chunkvol attach` shows the disk as a file through FUSE, a loop device makes a block
//   device of it, and the kernel mounts ext4 from that. Needs root and a kernel that lets it.
// ClientDisk: `chunkvol serve` serves the disk over NBD, and this process copies a file-system image
//   to it and back through chunkvol's own NBD client. Needs nothing.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync, truncateSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { clearTimeout, setTimeout } from 'node:timers';
import { NbdClient } from '../dist/nbd/client.js';
import { checksums, sha256 } from './demo-files.mjs';
import { end } from './demo-stage.mjs';

const MIB = 2 ** 20;
const PIECE_BYTES = MIB;
const PROBE_BYTES = 8 * MIB;
const NOISE_MIB = 48;
const READY_TIMEOUT_MS = 30_000;

/** The first way where it works, else the second; says which one, and why. */
export async function chooseDisk(stage, forceClient) {
  const obstacle = forceClient ? 'asked to do without root' : await whyNotMounted(stage);
  if (obstacle === null) {
    stage.say('The way taken: chunkvol attach (FUSE), a loop device, ext4 mounted by the kernel.');
    return new MountedDisk(stage);
  }
  stage.say(`No mount by the kernel: ${obstacle}.`);
  const withExt4 = (await stage.quietly('mke2fs', '-V')).status === 0;
  const image = withExt4 ? 'an ext4 image' : 'a tar archive, as mke2fs is not installed,';
  stage.say(`The way taken: ${image} copied to the disk and back by chunkvol's own NBD client.`);
  return new ClientDisk(stage, withExt4);
}

/** What keeps this machine from the first way, or null. Mounts a scratch image to find out. */
async function whyNotMounted(stage) {
  if (process.getuid?.() !== 0) return 'not root';
  for (const program of ['nbdfuse', 'fusermount3', 'losetup', 'mkfs.ext4', 'mount', 'umount']) {
    if ((await stage.quietly(program, '--version')).status === null) {
      return `${program} is not installed`;
    }
  }
  try {
    closeSync(openSync('/dev/fuse', 'r+'));
  } catch {
    return 'the kernel has no FUSE';
  }
  return mountScratch(stage);
}

async function mountScratch(stage) {
  const image = stage.path('probe');
  const folder = stage.path('probe-mount');
  await mkdir(folder);
  closeSync(openSync(image, 'w'));
  truncateSync(image, PROBE_BYTES);
  const mount = new LoopMount(stage, image, folder);
  stage.undoLater(() => mount.release());
  const made = await stage.run('mkfs.ext4', ['-q', '-F', image]);
  const failure = made.status === 0 ? await mount.tryMount() : made.output;
  await mount.release();
  return failure && `a trial of it failed (${failure.trim().split('\n', 1)[0].replace(/\.$/, '')})`;
}

/** A file as a loop device, mounted. `release` may be called at any time. */
class LoopMount {
  constructor(stage, file, folder) {
    Object.assign(this, { stage, file, folder });
  }

  /** Returns what went wrong, or null. */
  async tryMount() {
    const loop = await this.stage.run('losetup', ['--find', '--show', this.file]);
    if (loop.status !== 0) return loop.output;
    const mount = await this.stage.run('mount', [loop.output.trim(), this.folder]);
    return mount.status === 0 ? null : mount.output;
  }

  async release() {
    for (let attempt = 0; attempt < 5 && isMounted(this.folder); attempt++) {
      await this.stage.quietly('umount', this.folder);
    }
    const { output } = await this.stage.quietly('losetup', '--associated', this.file);
    for (const line of output.split('\n').filter(Boolean)) {
      await this.stage.quietly('losetup', '--detach', line.split(':')[0]);
    }
  }
}

function isMounted(path) {
  const mounts = readFileSync('/proc/self/mounts', 'utf8');
  return mounts.split('\n').some((line) => line.split(' ')[1] === path);
}

class MountedDisk {
  constructor(stage) {
    this.stage = stage;
    this.mounted = new LoopMount(stage, stage.path('disk'), stage.path('mnt'));
    stage.undoLater(() => this.release());
  }

  async attach() {
    await this.stage.chunkvol('-C', 'volume', 'attach', 'disk');
    this.device = (
      await this.stage.tool('losetup', '--find', '--show', '--direct-io=on', 'disk')
    ).trim();
  }

  async fill(source) {
    const { stage } = this;
    await stage.tool('mkfs.ext4', '-q', this.device);
    await this.mount();
    await stage.tool('cp', '-a', source, 'mnt/files');
    await stage.tool('sync', '--file-system', 'mnt');
  }

  async spoil() {
    const { stage } = this;
    await stage.tool('rm', '-r', 'mnt/files');
    const noise = ['if=/dev/urandom', 'of=mnt/noise', 'bs=1M', `count=${NOISE_MIB}`];
    await stage.tool('dd', ...noise, 'conv=fsync', 'status=none');
  }

  async read() {
    if (!isMounted(this.mounted.folder)) await this.mount();
    return checksums(join(this.mounted.folder, 'files'), this.stage);
  }

  async mount() {
    await mkdir(this.mounted.folder, { recursive: true });
    await this.stage.tool('mount', this.device, 'mnt');
  }

  async detach() {
    await this.stage.tool('umount', 'mnt');
    await this.stage.tool('losetup', '--detach', this.device);
    await this.stage.chunkvol('detach', 'disk');
  }

  /** Gives everything back, also after a failure at any step. */
  async release() {
    const { stage, mounted } = this;
    await mounted.release();
    if (!isMounted(mounted.file) && !existsSync(mounted.file)) return;
    const { status, output } = await stage.quietly('chunkvol', 'detach', 'disk');
    if (isMounted(mounted.file)) await stage.quietly('fusermount3', '-u', '-z', mounted.file);
    if (status !== 0) throw new Error(output.trim());
  }
}

class ClientDisk {
  #server = null;
  #client = null;

  constructor(stage, withExt4) {
    this.stage = stage;
    this.withExt4 = withExt4;
    this.socket = stage.path('run', 'nbd.sock');
    stage.undoLater(() => this.release());
  }

  async attach() {
    const words = ['-C', 'volume', 'serve', '--socket', 'run/nbd.sock'];
    console.log(` $ chunkvol ${words.join(' ')} &`);
    this.#server = this.stage.start('chunkvol', words, ['ignore', 'pipe', 'pipe']);
    this.stage.say(await firstLine(this.#server));
    this.#client = await NbdClient.connect({ kind: 'unix', path: this.socket });
  }

  async fill(source) {
    const { stage } = this;
    const image = stage.path('image');
    if (this.withExt4) {
      const size = `${this.#client.sizeBytes / 1024}k`;
      await stage.tool('mke2fs', '-q', '-t', 'ext4', '-d', source, 'image', size);
    } else {
      await stage.tool('tar', '-C', source, '-cf', 'image', '.');
    }
    this.imageSum = await this.#upload(image);
    await rm(image);
  }

  async spoil() {
    for (let piece = 0; piece < NOISE_MIB; piece++) {
      await this.#client.write(piece * MIB, randomBytes(MIB));
    }
    await this.#client.flush();
    this.stage.say(`wrote ${NOISE_MIB} MiB of noise over it`);
  }

  /** Writes what is not zero of an image to the disk, and flushes; returns the checksum of all pieces. */
  async #upload(path) {
    const file = await open(path);
    this.imageBytes = (await file.stat()).size;
    try {
      const sums = await inPieces(this.imageBytes, this.stage, async (offset, bytes) => {
        const { buffer } = await file.read(Buffer.alloc(bytes), 0, bytes, offset);
        if (buffer.some((byte) => byte !== 0)) await this.#client.write(offset, buffer);
        return sha256(buffer);
      });
      await this.#client.flush();
      const moved = `${Math.round(this.imageBytes / MIB)} MiB`;
      this.stage.say(`copied the image (${moved}) to the disk over NBD, and flushed it`);
      return sha256(sums.join());
    } finally {
      await file.close();
    }
  }

  /** Copies the image back, compares it, and unpacks the files from it. */
  async read() {
    const { stage } = this;
    const image = stage.path('read-back');
    const file = await open(image, 'w');
    try {
      const sums = await inPieces(this.imageBytes, stage, async (offset, bytes) => {
        const buffer = await this.#client.read(offset, bytes);
        await file.write(buffer, 0, bytes, offset);
        return sha256(buffer);
      });
      if (sha256(sums.join()) !== this.imageSum) throw new Error('the image is not what it was');
      stage.say('copied the image back over NBD: every byte is what it was');
    } finally {
      await file.close();
    }
    const unpacked = await mkdtemp(stage.path('unpacked-'));
    await this.#unpack('read-back', unpacked);
    const sums = await checksums(unpacked, stage);
    await Promise.all([rm(image), rm(unpacked, { recursive: true })]);
    return sums;
  }

  async #unpack(image, folder) {
    if (!this.withExt4) {
      await this.stage.tool('tar', '-C', folder, '-xf', image);
      return;
    }
    await this.stage.tool('e2fsck', '-f', '-n', image);
    // As an ordinary user debugfs cannot give files to their owner; that is all it complains about.
    const words = ['-R', `rdump / ${folder}`, image];
    console.log(` $ debugfs -R 'rdump / ${folder}' ${image}`);
    const { status, output } = await this.stage.run('debugfs', words);
    if (status !== 0) throw new Error(`debugfs failed: ${output}`);
    if ((await readdir(folder)).includes('lost+found')) {
      await rm(join(folder, 'lost+found'), { recursive: true });
    }
  }

  async detach() {
    console.log(' $ kill %1');
    await this.#client.disconnect();
    const closed = once(this.#server, 'close');
    this.#server.kill('SIGTERM');
    const [status] = await closed;
    if (status !== 0) throw new Error(`chunkvol serve ended with status ${status}`);
    this.#server = null;
  }

  async release() {
    this.#client?.destroy();
    if (this.#server !== null) await end(this.#server);
  }
}

/** The first line that a server prints; throws with its words when it ends instead. */
function firstLine(server) {
  return new Promise((resolve, reject) => {
    let said = '';
    const timer = setTimeout(
      () => reject(new Error('chunkvol serve gives no answer')),
      READY_TIMEOUT_MS,
    );
    server.stderr.on('data', (text) => (said += text));
    server.stdout.on('data', (text) => {
      said += text;
      if (!said.includes('\n')) return;
      clearTimeout(timer);
      resolve(said.trim());
    });
    server.once('close', (status) => {
      clearTimeout(timer);
      reject(new Error(`chunkvol serve ended with status ${status}: ${said}`));
    });
  });
}

/** Calls `work(offset, bytes)` for each piece, some at a time; returns the results in order. */
async function inPieces(totalBytes, stage, work) {
  const results = [];
  let next = 0;
  const worker = async () => {
    while (next < totalBytes) {
      stage.checkSignal();
      const offset = next;
      const bytes = Math.min(PIECE_BYTES, totalBytes - offset);
      next += bytes;
      results[offset / PIECE_BYTES] = await work(offset, bytes);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return results;
}
