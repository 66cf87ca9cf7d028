/** Server and client on a real socket: every command, the order of replies, the end of connections. */
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ChunkvolError, isChunkvolError } from '../../../src/base/errors.js';
import { nbdUri } from '../../../src/nbd/address.js';
import { NbdClient } from '../../../src/nbd/client.js';
import { NbdError } from '../../../src/nbd/errno.js';
import type { NbdExport } from '../../../src/nbd/exports.js';
import * as protocol from '../../../src/nbd/protocol.js';
import { Command, Errno, MAX_PAYLOAD_BYTES } from '../../../src/nbd/protocol.js';
import { NbdServer } from '../../../src/nbd/server.js';
import { MemoryDevice } from '../../support/memory-device.js';
import {
  Gate,
  ManualClock,
  RawClient,
  eventually,
  exportOf,
  pattern,
  sleep,
  startServer,
  temporaryFolder,
} from '../../support/nbd-harness.js';

const MIB = 2 ** 20;

function errnoOf(work: Promise<unknown>): Promise<number> {
  return work.then(
    () => Errno.none,
    (error: unknown) => (error instanceof NbdError ? error.errno : -1),
  );
}

/** A disk that does at once what it can, in memory: all but what lies in its last half. */
class QuickDevice extends MemoryDevice {
  readonly #bytes = Buffer.alloc(MIB / 2);
  broken = false;

  readNow(offset: number, into: Uint8Array): boolean {
    if (this.broken) throw new ChunkvolError('io', 'the disk is broken');
    if (offset + into.length > this.#bytes.length) return false;
    into.set(this.#bytes.subarray(offset, offset + into.length));
    return true;
  }

  writeNow(offset: number, bytes: Uint8Array): boolean {
    if (this.broken) throw new ChunkvolError('no-space', 'the disk is full');
    if (offset + bytes.length > this.#bytes.length) return false;
    this.#bytes.set(bytes, offset);
    return true;
  }
}

describe.each([true, false])('a disk with structured replies: %s', (structuredReplies) => {
  it('gives back what was written, at any alignment and length', async () => {
    await using served = await startServer(new MemoryDevice(40 * MIB));
    const client = await NbdClient.connect(served.address, { structuredReplies });
    expect(client.sizeBytes).toBe(40 * MIB);
    for (const [offset, bytes] of [
      [0, 1],
      [1, 511],
      [4095, 2],
      [12_345, 67_890],
      [5 * MIB + 1, MAX_PAYLOAD_BYTES],
      [40 * MIB - 1, 1],
    ] as const) {
      const data = pattern(bytes, offset);
      await client.write(offset, data);
      expect((await client.read(offset, bytes)).equals(data)).toBe(true);
    }
    await client.disconnect();
  });

  it('lets the device do at once what it can, and waits for the rest', async () => {
    const device = new QuickDevice(MIB);
    await using served = await startServer(device);
    const client = await NbdClient.connect(served.address, { structuredReplies });
    const data = pattern(2 * 4096, 3);
    for (const offset of [0, MIB / 2 - 4096, MIB / 2]) {
      await client.write(offset, data);
      expect((await client.read(offset, data.length)).equals(data)).toBe(true);
    }
    expect(device.counts).toMatchObject({ read: 2, write: 2 });
    device.broken = true;
    expect(await errnoOf(client.write(0, data))).toBe(Errno.noSpace);
    expect(await errnoOf(client.read(0, 512))).toBe(Errno.io);
    device.broken = false;
    expect((await client.read(0, data.length)).equals(data)).toBe(true);
    await client.disconnect();
  });

  it('answers requests of no bytes, and leaves the device alone', async () => {
    const device = new MemoryDevice(MIB);
    await using served = await startServer(device);
    const client = await NbdClient.connect(served.address, { structuredReplies });
    expect(await client.read(0, 0)).toHaveLength(0);
    await client.write(MIB, Buffer.alloc(0));
    await client.trim(5, 0);
    await client.writeZeroes(5, 0);
    await client.cache(5, 0);
    expect(Object.values(device.counts).every((count) => count === 0)).toBe(true);
    await client.disconnect();
  });

  it('answers what it refuses, and goes on', async () => {
    const device = new MemoryDevice(MIB);
    await using served = await startServer(device);
    const client = await NbdClient.connect(served.address, { structuredReplies });
    const long = MAX_PAYLOAD_BYTES + 1;
    expect(await errnoOf(client.read(MIB - 1, 2))).toBe(Errno.invalid);
    expect(await errnoOf(client.write(MIB - 1, Buffer.alloc(2)))).toBe(Errno.noSpace);
    expect(await errnoOf(client.write(0, Buffer.alloc(long)))).toBe(Errno.invalid);
    const refusal = structuredReplies ? Errno.overflow : Errno.invalid;
    expect(await errnoOf(client.read(0, long))).toBe(refusal);
    expect(await errnoOf(client.trim(2 ** 60, 1))).toBe(Errno.invalid);
    expect(await errnoOf(client.writeZeroes(0, MIB + 1))).toBe(Errno.noSpace);
    expect(await errnoOf(client.cache(0, 2 ** 32 - 1))).toBe(Errno.invalid);
    expect((await client.read(0, MIB)).equals(Buffer.alloc(MIB))).toBe(true);
    expect(device.blockCount).toBe(0);
    await client.disconnect();
  });

  it('translates the failures of the device', async () => {
    let failure: Error | undefined;
    const device = new MemoryDevice(MIB, {
      before: () => (failure === undefined ? Promise.resolve() : Promise.reject(failure)),
    });
    await using served = await startServer(device);
    const client = await NbdClient.connect(served.address, { structuredReplies });
    for (const [error, errno] of [
      [new ChunkvolError('no-space', 'disk full'), Errno.noSpace],
      [new ChunkvolError('read-only', 'read-only'), Errno.notPermitted],
      [new ChunkvolError('closed', 'closed'), Errno.shutdown],
      [new ChunkvolError('lost', 'lost'), Errno.io],
      [new RangeError('range'), Errno.invalid],
      [new TypeError('bug'), Errno.io],
    ] as const) {
      failure = error;
      expect(await errnoOf(client.write(0, Buffer.alloc(512)))).toBe(errno);
      expect(await errnoOf(client.read(0, 512))).toBe(errno);
      expect(await errnoOf(client.flush())).toBe(errno);
    }
    expect(served.errors).toContain('an NBD request failed: disk full');
    failure = undefined;
    await client.write(0, pattern(512));
    expect((await client.read(0, 512)).equals(pattern(512))).toBe(true);
    await client.disconnect();
  });
});

describe('commands', () => {
  it('pass FUA on, and only where it was asked for', async () => {
    const device = new MemoryDevice(MIB);
    await using served = await startServer(device);
    const client = await NbdClient.connect(served.address);
    await client.write(0, pattern(512));
    await client.trim(0, 512);
    await client.writeZeroes(0, 512);
    expect(device.counts.durable).toBe(0);
    await client.write(0, pattern(512), { durable: true });
    await client.trim(0, 512, { durable: true });
    await client.writeZeroes(0, 512, { durable: true });
    expect(device.counts).toMatchObject({ write: 2, trim: 2, zero: 2, durable: 3, flush: 0 });
    await client.flush();
    expect(device.counts.flush).toBe(1);
    await client.disconnect();
  });

  it('zero a range, with every flag', async () => {
    await using served = await startServer(new MemoryDevice(MIB));
    const client = await NbdClient.connect(served.address);
    for (const options of [{}, { noHole: true }, { fast: true }, { noHole: true, fast: true }]) {
      await client.write(0, pattern(20_000));
      await client.writeZeroes(1_000, 18_000, options);
      const expected = pattern(20_000).fill(0, 1_000, 19_000);
      expect((await client.read(0, 20_000)).equals(expected)).toBe(true);
    }
    await client.disconnect();
  });

  it('report holes', async () => {
    const device = new MemoryDevice(2 ** 50);
    await using served = await startServer(device);
    const client = await NbdClient.connect(served.address);
    const at = 2 ** 49;
    await client.write(at + 8192, pattern(4096));
    const expected = [
      { bytes: 8192, hole: true },
      { bytes: 4096, hole: false },
      { bytes: 4096, hole: true },
    ];
    expect(await client.blockStatus(at, 16384)).toEqual(expected);
    expect(await client.blockStatus(at, 16384, { one: true })).toEqual(expected.slice(0, 1));
    expect(await client.blockStatus(at + 8191, 2)).toEqual([
      { bytes: 1, hole: true },
      { bytes: 1, hole: false },
    ]);
    expect(await errnoOf(client.blockStatus(2 ** 50 - 1, 2))).toBe(Errno.invalid);
    await client.trim(at, 16384);
    expect(device.blockCount).toBe(0);
    await client.disconnect();
  });

  it('change nothing on a read-only disk', async () => {
    const device = new MemoryDevice(MIB, { readOnly: true });
    await using served = await startServer(device);
    const client = await NbdClient.connect(served.address);
    expect(client.readOnly).toBe(true);
    expect(await errnoOf(client.write(0, Buffer.alloc(9)))).toBe(Errno.notPermitted);
    expect(await errnoOf(client.trim(0, 9))).toBe(Errno.notPermitted);
    expect(await errnoOf(client.writeZeroes(0, 9))).toBe(Errno.notPermitted);
    await client.flush();
    expect(await client.read(0, 9)).toEqual(Buffer.alloc(9));
    await client.disconnect();
  });
});

describe('requests in flight', () => {
  it('are answered out of order', async () => {
    const gate = new Gate();
    const device = new MemoryDevice(MIB, {
      before: (_operation, offset) => (offset === 0 ? gate.passed : Promise.resolve()),
    });
    await using served = await startServer(device);
    const client = await NbdClient.connect(served.address);
    const order: string[] = [];
    const slow = client.read(0, 512).then(() => order.push('slow'));
    const fast = [1, 2, 3].map((n) => client.read(n * 512, 512).then(() => order.push('fast')));
    await Promise.all(fast);
    gate.open();
    await slow;
    expect(order).toEqual(['fast', 'fast', 'fast', 'slow']);
    await client.disconnect();
  });

  it('are finished before DISC ends the connection, and after the client stopped sending', async () => {
    for (const leave of [
      (raw: RawClient): void => {
        raw.request({ command: Command.disconnect });
      },
      (raw: RawClient): void => void raw.socket.end(),
    ]) {
      const gate = new Gate();
      const device = new MemoryDevice(MIB, { before: () => gate.passed });
      await using served = await startServer(device);
      using raw = await RawClient.transmitting(served.address);
      raw.request({ command: Command.write, bytes: 3, cookieLow: 7 }, Buffer.from('abc'));
      leave(raw);
      setTimeout(gate.open, 20);
      expect(await raw.reply()).toEqual({ errno: 0, cookie: 7 });
      await raw.closed;
      await eventually(() => served.server.connectionCount === 0);
    }
  });

  it('are finished and answered when the server closes; a payload half arrived is not waited for', async () => {
    const gate = new Gate();
    const device = new MemoryDevice(MIB, { before: () => gate.passed });
    await using served = await startServer(device);
    using raw = await RawClient.transmitting(served.address);
    using half = await RawClient.transmitting(served.address);
    using handshaking = await RawClient.connect(served.address);
    raw.request({ command: Command.write, bytes: 3, cookieLow: 7 }, Buffer.from('abc'));
    half.request({ command: Command.write, bytes: 1000, cookieLow: 8 }, Buffer.from('abc'));
    await eventually(() => served.server.connectionCount === 3);
    await new Promise((resolve) => setTimeout(resolve, 20));
    let closed = false;
    const closing = served.server.close().then(() => (closed = true));
    await half.closed;
    await handshaking.closed;
    expect(closed).toBe(false);
    gate.open();
    expect(await raw.reply()).toEqual({ errno: 0, cookie: 7 });
    await closing;
    expect(device.counts.write).toBe(1);
    expect(served.server.connectionCount).toBe(0);
    await expect(RawClient.connect(served.address)).rejects.toThrow();
  });

  it('are answered when the server closes, however long the device takes', async () => {
    const gate = new Gate();
    const clock = new ManualClock();
    const device = new MemoryDevice(MIB, { before: () => gate.passed });
    await using served = await startServer(device, { clock });
    const client = await NbdClient.connect(served.address);
    const flushing = client.flush();
    await new Promise((resolve) => setTimeout(resolve, 20));
    const closing = served.server.close();
    for (let seconds = 0; seconds < 60; seconds++) clock.advance(1_000);
    gate.open();
    await flushing;
    await closing;
  });

  it('of a client that vanished are finished, and counted until then', async () => {
    const gate = new Gate();
    const device = new MemoryDevice(MIB, {
      before: (operation) => (operation === 'write' ? gate.passed : Promise.resolve()),
    });
    await using served = await startServer(device);
    const raw = await RawClient.transmitting(served.address);
    raw.request({ command: Command.write, bytes: 3 }, Buffer.from('abc'));
    // The answers to these find nobody, which closes the socket while the write is still at work.
    for (let count = 0; count < 16; count++) raw.request({ command: Command.read, bytes: 65536 });
    await new Promise((resolve) => setTimeout(resolve, 20));
    raw.socket.destroy();
    await raw.closed;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(served.server.connectionCount).toBe(1);
    gate.open();
    await eventually(() => served.server.connectionCount === 0);
    expect(device.counts.write).toBe(1);
  });
});

describe('a disk', () => {
  /** An export that counts how often its disk is opened and closed. */
  function counted(device: MemoryDevice): { one: NbdExport; opened: number; closed: number } {
    const counts = {
      opened: 0,
      closed: 0,
      one: {
        ...exportOf('counted', '', device),
        open: () => {
          counts.opened += 1;
          return { device, close: () => (counts.closed += 1) };
        },
      },
    };
    return counts;
  }

  it('is opened for each client that chooses it, and for nobody who only asks', async () => {
    const counts = counted(new MemoryDevice(MIB));
    await using served = await startServer(new MemoryDevice(MIB), {}, [counts.one]);
    await NbdClient.list(served.address);
    const other = await NbdClient.connect(served.address);
    expect(counts).toMatchObject({ opened: 0, closed: 0 });
    const clients = await Promise.all(
      [1, 2].map(() => NbdClient.connect(served.address, { exportName: 'counted' })),
    );
    expect(counts).toMatchObject({ opened: 2, closed: 0 });
    for (const client of [...clients, other]) await client.disconnect();
    await eventually(() => counts.closed === 2);
    await served.server.close();
    expect(counts).toMatchObject({ opened: 2, closed: 2 });
  });

  it('is closed once its last request is done, also when the client has vanished', async () => {
    const gate = new Gate();
    const counts = counted(new MemoryDevice(MIB, { before: () => gate.passed }));
    await using served = await startServer(new MemoryDevice(MIB), {}, [counts.one]);
    const raw = await RawClient.transmitting(served.address, 'counted');
    raw.request({ command: Command.flush });
    await sleep(20);
    raw.socket.destroy();
    await raw.closed;
    await sleep(20);
    expect(counts.closed).toBe(0);
    gate.open();
    await eventually(() => counts.closed === 1);
  });

  it('that grows takes requests beyond its old end, from clients of before as well', async () => {
    const device = new MemoryDevice(MIB);
    await using served = await startServer(device);
    const before = await NbdClient.connect(served.address);
    expect(await errnoOf(before.write(MIB, pattern(512)))).toBe(Errno.noSpace);
    device.sizeBytes = 2 * MIB;
    await before.write(MIB, pattern(512));
    const after = await NbdClient.connect(served.address);
    expect(after.sizeBytes).toBe(2 * MIB);
    expect((await after.read(MIB, 512)).equals(pattern(512))).toBe(true);
    await Promise.all([before.disconnect(), after.disconnect()]);
  });
});

describe('addresses', () => {
  it('can be TCP, with a port of the system’s choice', async () => {
    const device = new MemoryDevice(MIB);
    const one = exportOf('a/b', '', device);
    const server = new NbdServer({
      find: (name) => (name === 'a/b' ? one : null),
      list: () => [one],
    });
    const address = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 });
    expect(address.kind === 'tcp' && address.port > 0).toBe(true);
    expect(nbdUri(address, 'a/b')).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/a%2Fb$/);
    const client = await NbdClient.connect(address, { exportName: 'a/b' });
    await client.write(5, Buffer.from('tcp'));
    expect((await client.read(5, 3)).toString()).toBe('tcp');
    await client.disconnect();
    await expect(server.listen(address)).rejects.toThrow(/something is there already/);
    await server.close();
    await expect(server.listen(address)).rejects.toSatisfy((e) => isChunkvolError(e, 'closed'));
  });

  it('list their exports, and refuse unknown ones with a reason', async () => {
    const device = new MemoryDevice(MIB);
    const more = [exportOf('disk@monday', 'a snapshot', device)];
    await using served = await startServer(device, {}, more);
    expect(await NbdClient.list(served.address)).toEqual([
      { name: 'disk', description: 'a disk for tests' },
      { name: 'disk@monday', description: 'a snapshot' },
    ]);
    const client = await NbdClient.connect(served.address, { exportName: 'disk@monday' });
    expect(client.negotiated.description).toBe('a snapshot');
    await client.disconnect();
    await expect(NbdClient.connect(served.address, { exportName: 'x' })).rejects.toThrow(
      /export "x": there is none of that name/,
    );
    const nowhere = { kind: 'unix', path: `${served.address.path}-not` } as const;
    await expect(NbdClient.connect(nowhere)).rejects.toSatisfy((e) => isChunkvolError(e, 'io'));
  });

  it('take the place of a dead server’s socket, and of nothing else', async () => {
    const folder = temporaryFolder();
    const socketPath = path.join(folder, 's');
    const options = { find: () => null, list: () => [] };
    const first = new NbdServer(options);
    await first.listen({ kind: 'unix', path: socketPath });
    const second = new NbdServer(options);
    const listening = second.listen({ kind: 'unix', path: socketPath });
    await expect(listening).rejects.toSatisfy((e) => isChunkvolError(e, 'exists'));
    fs.linkSync(socketPath, `${socketPath}.dead`);
    await first.close();
    expect(fs.existsSync(socketPath)).toBe(false);
    await second.listen({ kind: 'unix', path: `${socketPath}.dead` });
    await second.close();
    fs.writeFileSync(socketPath, 'precious');
    const third = new NbdServer(options).listen({ kind: 'unix', path: socketPath });
    await expect(third).rejects.toSatisfy((e) => isChunkvolError(e, 'exists'));
    expect(fs.readFileSync(socketPath, 'utf8')).toBe('precious');
    const long = path.join(folder, 'x'.repeat(107));
    const fourth = new NbdServer(options).listen({ kind: 'unix', path: long });
    await expect(fourth).rejects.toSatisfy((e) => isChunkvolError(e, 'usage'));
    fs.rmSync(folder, { recursive: true });
  });

  it('are written as other programs read them', () => {
    const unix = { kind: 'unix', path: '/run/user/0/a b&c?#' } as const;
    expect(nbdUri(unix, 'snäp@1')).toBe(
      'nbd+unix:///sn%C3%A4p%401?socket=/run/user/0/a%20b%26c%3F%23',
    );
    expect(nbdUri({ kind: 'tcp', host: '::1', port: 10809 })).toBe('nbd://[::1]:10809/');
  });
});

describe('the client', () => {
  /** A relay to `address` that says `nonsense` to the client when its first request comes. */
  async function startRelay(address: { path: string }, nonsense: Buffer) {
    const folder = temporaryFolder();
    const relayAddress = { kind: 'unix', path: path.join(folder, 'r') } as const;
    const relay = net.createServer((near) => {
      const far = net.connect({ path: address.path });
      far.pipe(near);
      near.on('error', () => undefined);
      near.on('data', (chunk) => {
        if ((chunk as Buffer).readUInt32BE(0) === 0x25609513) near.write(nonsense);
        else far.write(chunk);
      });
    });
    await new Promise<void>((resolve) => relay.listen(relayAddress, resolve));
    return {
      address: relayAddress,
      [Symbol.dispose]() {
        relay.close();
        fs.rmSync(folder, { recursive: true });
      },
    };
  }

  const cookie = { cookieHigh: 0, cookieLow: 1 };
  const chunk = (offset: number, dataBytes: number): Buffer => {
    const bytes = Buffer.alloc(28 + dataBytes);
    protocol.encodeDataChunk(bytes, 0, cookie, offset, dataBytes);
    return bytes;
  };
  const simple = Buffer.alloc(16 + 512);
  protocol.encodeSimpleReply(simple, 0, cookie, Errno.none);
  const none = Buffer.alloc(20);
  protocol.encodeLastChunk(none, 0, cookie, protocol.ChunkType.none, 0);
  const stranger = Buffer.alloc(16);
  protocol.encodeSimpleReply(stranger, 0, { cookieHigh: 0, cookieLow: 77 }, Errno.none);

  it.each([
    ['no reply at all', Buffer.alloc(64, 0x55)],
    ['an answer to nothing', stranger],
    ['a simple reply where a chunk is due', simple],
    ['data before the range', chunk(512, 512)],
    ['data beyond the range', chunk(1024 + 256, 512)],
    ['less than the range', chunk(1024, 511)],
    ['nothing of the range', none],
  ])('fails its requests when the server sends %s', async (_name, nonsense) => {
    await using served = await startServer(new MemoryDevice(MIB));
    using relay = await startRelay(served.address, nonsense);
    const client = await NbdClient.connect(relay.address);
    await expect(client.read(1024, 512)).rejects.toThrow(/does not keep to the protocol/);
    await expect(client.flush()).rejects.toThrow(/does not keep to the protocol/);
  });

  it('fails its requests when the connection is lost', async () => {
    const gate = new Gate();
    await using served = await startServer(new MemoryDevice(MIB, { before: () => gate.passed }));
    const client = await NbdClient.connect(served.address);
    const reading = client.read(0, 512);
    client.destroy();
    await expect(reading).rejects.toThrow(/lost/);
    gate.open();
  });
});
