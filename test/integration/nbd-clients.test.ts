/**
 * Other people's NBD clients against our server, and our client against another server.
 *
 * qemu-io ends with status 0 even after a request failed, so that its output is what counts.
 */
import { execFile, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ChunkvolError } from '../../src/base/errors.js';
import { nbdUri } from '../../src/nbd/address.js';
import { NbdClient } from '../../src/nbd/client.js';
import { NbdError } from '../../src/nbd/errno.js';
import { Errno } from '../../src/nbd/protocol.js';
import { MemoryDevice } from '../support/memory-device.js';
import {
  eventually,
  exportOf,
  pattern,
  startServer,
  temporaryFolder,
} from '../support/nbd-harness.js';
import { describeWith, pathOf } from '../support/tools.js';

const MIB = 2 ** 20;
const SIZE = 64 * MIB;

let folder: string;
let image: string;

/** Data, holes and ragged ends: what a copy must reproduce. */
function makeImage(): Buffer {
  const bytes = Buffer.alloc(SIZE);
  pattern(9 * MIB + 77, 1).copy(bytes, 3 * MIB + 5);
  pattern(20 * MIB, 2).copy(bytes, 30 * MIB);
  pattern(513, 3).copy(bytes, SIZE - 513);
  return bytes;
}

beforeAll(() => {
  folder = temporaryFolder();
  image = path.join(folder, 'image');
  fs.writeFileSync(image, makeImage());
});

afterAll(() => {
  fs.rmSync(folder, { recursive: true, force: true });
});

/** Standard output and error of a program that must end with status 0. */
async function run(program: string, ...args: string[]): Promise<string> {
  const { output, status } = await attempt(program, ...args);
  if (status !== 0) throw new Error(`${program} ended with status ${status}: ${output}`);
  return output;
}

/** The same of a program that may fail. */
function attempt(program: string, ...args: string[]): Promise<{ output: string; status: number }> {
  return new Promise((resolve) => {
    execFile(program, args, { maxBuffer: 16 * MIB }, (error, stdout, stderr) => {
      const status = error === null ? 0 : Number(error.code ?? -1);
      resolve({ output: stdout + stderr, status });
    });
  });
}

describeWith(['nbdinfo'], 'nbdinfo', () => {
  it('shows what the server offers', async () => {
    const device = new MemoryDevice(SIZE, { blockBytes: 16384 });
    const frozen = new MemoryDevice(4096, { readOnly: true });
    const more = [exportOf('disk@monday', '', frozen)];
    await using served = await startServer(device, {}, more);
    const output = await run(pathOf('nbdinfo'), '--json', nbdUri(served.address, 'disk'));
    const info = JSON.parse(output) as { exports: Record<string, unknown>[] };
    expect(info).toMatchObject({ protocol: 'newstyle-fixed', structured: true });
    expect(info.exports[0]).toMatchObject({
      'export-name': 'disk',
      description: 'a disk for tests',
      'export-size': SIZE,
      is_read_only: false,
      can_df: true,
      can_cache: true,
      can_fast_zero: true,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      block_size_minimum: 1,
      block_size_preferred: 16384,
      block_size_maximum: 32 * MIB,
      contexts: ['base:allocation'],
    });
    const list = await run(pathOf('nbdinfo'), '--list', '--json', nbdUri(served.address));
    const { exports } = JSON.parse(list) as { exports: Record<string, unknown>[] };
    expect(exports.map((one) => [one['export-name'], one.is_read_only])).toEqual([
      ['disk', false],
      ['disk@monday', true],
    ]);
  });

  it('shows the holes', async () => {
    const device = new MemoryDevice(SIZE);
    await device.write(MIB, pattern(8192));
    await using served = await startServer(device);
    const map = await run(pathOf('nbdinfo'), '--map', '--json', nbdUri(served.address));
    expect(JSON.parse(map)).toEqual([
      { offset: 0, length: MIB, type: 3, description: 'hole,zero' },
      { offset: MIB, length: 8192, type: 0, description: 'data' },
      { offset: MIB + 8192, length: SIZE - MIB - 8192, type: 3, description: 'hole,zero' },
    ]);
  });

  it('shows a disk of 1 PiB', async () => {
    await using served = await startServer(new MemoryDevice(2 ** 50));
    const size = await run(pathOf('nbdinfo'), '--size', nbdUri(served.address));
    expect(size.trim()).toBe(String(2 ** 50));
  });
});

describeWith(['nbdcopy'], 'nbdcopy', () => {
  it('copies in and out, and leaves holes as holes', async () => {
    const device = new MemoryDevice(SIZE);
    await using served = await startServer(device);
    const uri = nbdUri(served.address);
    await run(pathOf('nbdcopy'), '--flush', image, uri);
    expect(device.counts.flush).toBeGreaterThan(0);
    // 29 MiB and a bit are data; nbdcopy sends zeros it finds as WRITE_ZEROES or TRIM.
    expect(device.blockCount).toBeLessThan((32 * MIB) / 4096);
    const copy = path.join(folder, 'copy');
    await run(pathOf('nbdcopy'), uri, copy);
    expect(fs.readFileSync(copy).equals(fs.readFileSync(image))).toBe(true);
  });

  it('copies from one export to another over several connections', async () => {
    const source = new MemoryDevice(SIZE);
    const target = new MemoryDevice(SIZE);
    await source.write(0, makeImage());
    const more = [exportOf('target', '', target)];
    await using served = await startServer(source, {}, more);
    const uris = [nbdUri(served.address), nbdUri(served.address, 'target')];
    await run(pathOf('nbdcopy'), '--connections=4', '--requests=32', ...uris);
    const copied = Buffer.alloc(SIZE);
    await target.read(0, copied);
    expect(copied.equals(makeImage())).toBe(true);
  });
});

describeWith(['qemu-img'], 'qemu-img', () => {
  it('converts into the disk with eight requests in flight, and compares', async () => {
    await using served = await startServer(new MemoryDevice(SIZE));
    const uri = nbdUri(served.address);
    const raw = ['-f', 'raw', '-O', 'raw'];
    await run(pathOf('qemu-img'), 'convert', '-n', '-W', '-m', '8', ...raw, image, uri);
    const compare = [pathOf('qemu-img'), 'compare', '-f', 'raw', '-F', 'raw'] as const;
    expect(await run(...compare, image, uri)).toContain('Images are identical');
    const map = await run(pathOf('qemu-img'), 'map', '--output=json', '-f', 'raw', uri);
    const extents = JSON.parse(map) as { start: number; length: number; data: boolean }[];
    expect(extents[0]).toMatchObject({ start: 0, length: 3 * MIB, data: false });
    const client = await NbdClient.connect(served.address);
    await client.write(5 * MIB, Buffer.from([0]));
    await client.disconnect();
    expect((await attempt(...compare, image, uri)).output).toContain('Content mismatch');
  });
});

describeWith(['qemu-io'], 'qemu-io', () => {
  it('writes with FUA, zeroes, discards and reads back', async () => {
    const device = new MemoryDevice(SIZE);
    await using served = await startServer(device);
    const command = (...commands: string[]): Promise<string> => {
      const list = commands.flatMap((one) => ['-c', one]);
      return run(pathOf('qemu-io'), '-f', 'raw', '-t', 'none', ...list, nbdUri(served.address));
    };
    const output = await command(
      'write -f -P 0xa5 512 65536',
      'read -P 0xa5 512 65536',
      'write -z 4096 8192',
      'read -P 0 4096 8192',
      'write -z -u 16384 4096',
      'discard 32768 4096',
      'read -P 0xa5 12288 4096',
      'flush',
    );
    expect(output).toContain('wrote 65536/65536 bytes at offset 512');
    expect(output).not.toMatch(/fail|error/i);
    expect(device.counts.durable).toBe(1);
    await expect(command('read -P 0xa5 4096 512')).rejects.toThrow(/Pattern verification failed/);
  });

  it('is told of a failure', async () => {
    await using served = await startServer(
      new MemoryDevice(SIZE, {
        before: (operation) =>
          operation === 'write'
            ? Promise.reject(new ChunkvolError('no-space', 'the disk is full'))
            : Promise.resolve(),
      }),
    );
    const uri = nbdUri(served.address);
    const { output } = await attempt(pathOf('qemu-io'), '-f', 'raw', '-c', 'write 0 512', uri);
    expect(output).toContain('No space left on device');
  });

  it('does not open a read-only export for writing', async () => {
    await using served = await startServer(new MemoryDevice(SIZE, { readOnly: true }));
    const [program, uri] = [pathOf('qemu-io'), nbdUri(served.address)];
    expect(await run(program, '-f', 'raw', '-r', '-c', 'read 0 512', uri)).toContain(
      'read 512/512',
    );
    const { output } = await attempt(program, '-f', 'raw', '-c', 'write 0 512', uri);
    expect(output).toContain('Permission denied');
  });
});

describeWith(['fio'], 'fio', () => {
  it('verifies what it wrote at random, with any block size and fsync', async () => {
    const device = new MemoryDevice(SIZE);
    await using served = await startServer(device);
    const uri = `nbd+unix:///?socket=${served.address.path}`;
    const base = ['--ioengine=nbd', `--uri=${uri}`, `--size=${SIZE}`, '--iodepth=16'];
    const load = ['--rw=randrw', '--bsrange=512-256k', '--bs_unaligned', '--fsync=100'];
    const verify = ['--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0'];
    const format = '--output-format=json';
    const output = await run(pathOf('fio'), '--name=verify', format, ...base, ...load, ...verify);
    const { jobs } = JSON.parse(output.slice(output.indexOf('{'))) as {
      jobs: { error: number; write: { total_ios: number } }[];
    };
    expect(jobs[0]!.error).toBe(0);
    expect(jobs[0]!.write.total_ios).toBeGreaterThan(50);
    expect(device.counts.flush).toBeGreaterThan(0);
    expect(served.errors).toEqual([]);
  });
});

/** Sends what a well-meaning libnbd would not, and prints the error number of each answer. */
const HOSTILE_SCRIPT = `
import nbd, sys
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(sys.argv[1])
h.set_strict_mode(0)
size = h.get_size()
def attempt(name, work):
    try:
        work()
        print(name, "OK")
    except nbd.Error as error:
        print(name, error.errno)
attempt("read-beyond", lambda: h.pread(1024, size - 512))
attempt("read-far", lambda: h.pread(512, 2**63))
attempt("read-flags", lambda: h.pread(512, 0, nbd.CMD_FLAG_NO_HOLE))
attempt("read-empty", lambda: h.pread(0, 0))
attempt("write-beyond", lambda: h.pwrite(bytes(1024), size - 512))
attempt("write-df", lambda: h.pwrite(bytes(512), 0, nbd.CMD_FLAG_DF))
attempt("write-empty", lambda: h.pwrite(b"", 0))
attempt("write-long", lambda: h.pwrite(bytes(2**25 + 1), 0))
attempt("trim-beyond", lambda: h.trim(2**32 - 1, 1))
attempt("zero-beyond", lambda: h.zero(2**32 - 1, 1))
attempt("zero-flags", lambda: h.zero(512, 0, nbd.CMD_FLAG_REQ_ONE))
attempt("cache-beyond", lambda: h.cache(512, size))
attempt("cache", lambda: h.cache(size, 0))
attempt("status-beyond", lambda: h.block_status(512, size, lambda *args: 0))
attempt("status-empty", lambda: h.block_status(0, 0, lambda *args: 0))
data = bytes(range(256)) * 40
attempt("write-unaligned", lambda: h.pwrite(data, 4093, nbd.CMD_FLAG_FUA))
assert h.pread(len(data), 4093, nbd.CMD_FLAG_DF) == data
def structured(buf, offset, status, error):
    assert status == nbd.READ_DATA
    return 0
h.pread_structured(5000, 4095, structured)
h.zero(4099, 4097, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)
assert h.pread(4101, 4096) == data[3:4] + bytes(4099) + data[4103:4104]
h.trim(3, 4101, nbd.CMD_FLAG_FUA)
h.flush()
h.shutdown()
print("end")
`;

describeWith(['python3', 'python3-libnbd'], 'libnbd in non-strict mode', () => {
  it('gets the right error for every wrong request, and right bytes after', async () => {
    const device = new MemoryDevice(SIZE);
    await using served = await startServer(device);
    const python = '/usr/bin/python3';
    const output = await run(python, '-c', HOSTILE_SCRIPT, nbdUri(served.address));
    const answers: Record<string, string | undefined> = {};
    for (const line of output.trim().split('\n')) {
      const [request, answer] = line.split(' ');
      answers[request!] = answer;
    }
    const invalid = 'EINVAL';
    expect(answers).toEqual({
      'read-beyond': invalid,
      'read-far': invalid,
      'read-flags': invalid,
      'read-empty': 'OK',
      'write-beyond': 'ENOSPC',
      'write-df': invalid,
      'write-empty': 'OK',
      'write-long': invalid,
      'trim-beyond': invalid,
      'zero-beyond': 'ENOSPC',
      'zero-flags': invalid,
      'cache-beyond': invalid,
      cache: 'OK',
      'status-beyond': invalid,
      'status-empty': invalid,
      'write-unaligned': 'OK',
      end: undefined,
    });
    expect(device.counts.durable).toBe(2);
    await eventually(() => served.server.connectionCount === 0);
  });
});

describeWith(['nbdkit'], 'our client', () => {
  it('works with nbdkit', async () => {
    const socket = path.join(folder, 'k');
    // Written when it takes connections; the socket is there before it does.
    const ready = path.join(folder, 'k.pid');
    const words = ['-f', '-P', ready, '-U', socket, 'memory', String(SIZE)];
    const child = spawn(pathOf('nbdkit'), words, { stdio: 'ignore' });
    try {
      await eventually(() => fs.existsSync(ready));
      const client = await NbdClient.connect({ kind: 'unix', path: socket });
      expect([client.sizeBytes, client.readOnly]).toEqual([SIZE, false]);
      const data = pattern(3 * MIB);
      await client.write(32768, data, { durable: true });
      const parts = await Promise.all([client.read(32768, MIB), client.read(32768 + MIB, 2 * MIB)]);
      expect(Buffer.concat(parts).equals(data)).toBe(true);
      await client.writeZeroes(65536, 1000, { noHole: true });
      await client.trim(98304, 32768);
      await client.flush();
      expect((await client.read(65536, 1000)).equals(Buffer.alloc(1000))).toBe(true);
      expect((await client.blockStatus(0, 65536))[0]).toEqual({ bytes: 32768, hole: true });
      await expect(client.read(SIZE, 1)).rejects.toSatisfy(
        (error) => error instanceof NbdError && error.errno === Errno.invalid,
      );
      await client.disconnect();
    } finally {
      child.kill('SIGTERM');
    }
  });
});
