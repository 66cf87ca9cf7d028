/**
 * The power of a virtual machine is cut while it serves a volume from its own ext4, on a disk with a write
 * cache that forgets: page cache, processes and what the disk was not told to flush are gone. The machine
 * boots again, the volume opens, and what a FLUSH or FUA has covered is there; once, or $CHUNKVOL_VM_CUTS
 * times. The load comes from outside of the machine, over TCP.
 */
import * as net from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/client.js';
import { startServer } from '../support/nbd-harness.js';
import { delay, PROGRAM, Sandbox } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';
import { Load, seededRandom, UNIT_BYTES, VersionedDisk } from '../support/versioned-disk.js';
import { VirtualMachine, VM_NEEDS } from '../support/vm.js';
import { VolatileDisk } from '../support/volatile-disk.js';

const CUTS = Number(process.env['CHUNKVOL_VM_CUTS'] ?? 1);
const DISK_BYTES = 4 * 2 ** 20;
const HOST_BYTES = 512 * 2 ** 20;
const MAX_LOAD_MS = 15_000;
const CONNECTIONS = 2;

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox.release());

describeWith([...VM_NEEDS, 'mkfs.ext4', 'mount'], 'a machine whose power is cut', () => {
  it(`keeps what was flushed, cuts: ${CUTS}`, async () => {
    const seed = Date.now() % 2 ** 31;
    const random = seededRandom(seed);
    const disk = new VersionedDisk(DISK_BYTES / UNIT_BYTES);
    const host = new VolatileDisk(HOST_BYTES);
    await using hostServer = await startServer(host);
    const port = await freePort();
    let answered = 0;
    for (let round = 0; round <= CUTS; round++) {
      const machine = new VirtualMachine(script(round === 0, port), {
        sharedFolder: sandbox.folder,
        diskSocket: hostServer.address.path,
        forwardedPort: port,
      });
      await machine.shows('ready nbd://');
      const clients = await Promise.all(
        Array.from({ length: CONNECTIONS }, () =>
          NbdClient.connect({ kind: 'tcp', host: '127.0.0.1', port }),
        ),
      );
      disk.settleOn(await disk.check((offset, bytes) => clients[0]!.read(offset, bytes)));
      const load = new Load(disk, clients, { random });
      await delay(1000 + random() * MAX_LOAD_MS);
      await host.cutPower(random);
      await machine.cutPower();
      await load.stop();
      answered += load.answered;
      host.switchOn();
    }
    console.log(`seed ${seed}: ${answered} requests, ${host.lostBlocks} blocks lost`);
    expect(answered).toBeGreaterThan(CUTS);
    expect(host.lostBlocks).toBeGreaterThan(0);
  });
});

/** For bash, in the sandbox's folder. */
function script(first: boolean, port: number): string {
  const program = `'${process.execPath}' '${PROGRAM}' -C /mnt/volume`;
  const key = `--key-file '${sandbox.keyFile}'`;
  return `
    set -euxo pipefail
    modprobe ext4
    ${first ? 'mkfs.ext4 -q /dev/vda' : ''}
    mount /dev/vda /mnt
    export XDG_STATE_HOME=/mnt/state
    ${first ? `${program} create ${key} --size ${DISK_BYTES} --chunk-size 1M` : ''}
    ${program} serve ${key} --bind 0.0.0.0 --insecure --port ${port}
  `;
}

/** One that was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => {
        resolve(port);
      });
    });
  });
}
