/**
 * A real /dev/nbd0, in a virtual machine under Debian's own kernel: the compiled program attaches a
 * volume with nbd-client, ext4 lives on it, everything is detached and attached again; a snapshot is
 * shown by /dev/nbd1 beside it, and both device and file system grow while they are mounted. The volume
 * is in a folder shared with the host, where its files are checked afterwards.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { PROGRAM, Sandbox } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';
import { differences, digestTree, makeTree } from '../support/trees.js';
import { succeedInVm, VM_NEEDS } from '../support/vm.js';

/** Small, as programs run some 20 times slower in there. */
const TREE = { files: 150, bytes: 4e6 };
const SIZES = ['--size', '256M', '--chunk-size', '1M'];
const VM_TIMEOUT_MS = 600_000;
const IN_USE_STATUS = 5;

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox.release());

const NEEDS = [...VM_NEEDS, 'nbd-client', 'mkfs.ext4', 'fsck.ext4', 'resize2fs', 'mount'] as const;
describeWith(NEEDS, 'a device of the kernel', () => {
  it('keeps an ext4 file system on /dev/nbd0 from one attach to the next', async () => {
    const volume = await sandbox.create(sandbox.path('volume'), ...SIZES);
    await makeTree(sandbox.path('tree'), TREE);
    for (const folder of ['mnt', 'mnt1']) await mkdir(sandbox.path(folder));

    const output = await succeedInVm(script(volume), {
      sharedFolder: sandbox.folder,
      timeoutMs: VM_TIMEOUT_MS,
    });
    expect(output).toMatch(/chunkvol: .*\/dev\/nbd0 is in use: umount/);
    expect(output).toMatch(/chunkvol: the volume in .* is in use by process \d+/);

    const [written, found] = await Promise.all(
      ['tree', 'found'].map((name) => digestTree(sandbox.path(name))),
    );
    expect(differences(written!, found!)).toEqual([]);
    await sandbox.succeed(sandbox.on(volume, 'scrub'));
  });
});

/**
 * For bash, in the sandbox's folder. Whatever the tree's way back goes through, it is the device: the
 * file system is mounted anew, and by a server that has read its state from the chunk files.
 */
function script(volume: string): string {
  const program = `'${process.execPath}' '${PROGRAM}' -C '${volume}'`;
  const key = `--key-file '${sandbox.keyFile}'`;
  return `
    set -euxo pipefail
    modprobe nbd
    ${program} attach /dev/nbd0 ${key}
    # A queue for each connection: of two, a busy kernel may never receive the replies of one.
    [[ $(ls /sys/block/nbd0/mq) == 0 ]]
    mkfs.ext4 -q /dev/nbd0
    mount -o discard /dev/nbd0 mnt
    cp -a tree mnt/tree
    dd if=/dev/zero of=mnt/zeros bs=64k count=16 conv=fsync
    sync -f mnt
    ${expectStatus(`${program} attach /dev/nbd1 ${key}`, IN_USE_STATUS)}
    ${expectStatus(`${program} detach /dev/nbd0`, IN_USE_STATUS)}
    rm mnt/zeros

    fsfreeze --freeze mnt
    ${program} snapshot create yesterday
    fsfreeze --unfreeze mnt
    echo today > mnt/new
    ${program} attach --snapshot yesterday /dev/nbd1
    [[ $(blockdev --getro /dev/nbd1) == 1 ]]
    mount -o ro,noload /dev/nbd1 mnt1
    diff -r tree mnt1/tree
    [[ -e mnt/new && ! -e mnt1/new ]]
    ${expectStatus(`${program} snapshot delete yesterday`, IN_USE_STATUS)}
    ${expectStatus(`${program} snapshot rollback yesterday`, IN_USE_STATUS)}
    umount mnt1
    ${program} detach /dev/nbd1
    [[ $(blockdev --getsize64 /dev/nbd1) == 0 ]]

    ${program} resize 512M
    [[ $(blockdev --getsize64 /dev/nbd0) == $((512 << 20)) ]]
    resize2fs /dev/nbd0
    fallocate --length 300M mnt/filler
    dd if=/dev/urandom of=mnt/filler bs=1M count=4 seek=296 conv=notrunc,fsync
    rm mnt/new mnt/filler
    umount mnt
    ${program} detach /dev/nbd0
    [[ $(blockdev --getsize64 /dev/nbd0) == 0 ]]

    ${program} attach /dev/nbd0 ${key}
    fsck.ext4 -f -n /dev/nbd0
    mount -o ro /dev/nbd0 mnt
    cp -a mnt/tree '${join(sandbox.folder, 'found')}'
    umount mnt
    ${program} detach /dev/nbd0
  `;
}

function expectStatus(command: string, status: number): string {
  return `if ${command}; then exit 90; else [[ $? == ${status} ]]; fi`;
}
