/**
 * Clients that mean harm, or are broken: the server stays up, holds little for them, and serves others
 * as if they were not there.
 */
import { describe, expect, it } from 'vitest';
import type { NbdAddress } from '../../../src/nbd/address.js';
import { NbdClient } from '../../../src/nbd/client.js';
import * as protocol from '../../../src/nbd/protocol.js';
import { Command, Errno, Option, OptionReply } from '../../../src/nbd/protocol.js';
import { MemoryDevice } from '../../support/memory-device.js';
import {
  Gate,
  ManualClock,
  RawClient,
  eventually,
  exportOf,
  pattern,
  requestBytes,
  sleep,
  startServer,
} from '../../support/nbd-harness.js';

const MIB = 2 ** 20;
const WHOLE = 2 ** 32 - 1;

/** Somebody else's ordinary business. */
async function isServed(address: NbdAddress): Promise<void> {
  const client = await NbdClient.connect(address);
  const data = pattern(100_000, Math.floor(Math.random() * 1000));
  await client.write(4095, data);
  await client.flush();
  expect((await client.read(4095, data.length)).equals(data)).toBe(true);
  await client.disconnect();
}

describe('during the handshake', () => {
  it('a wrong magic, flag or name ends the connection', async () => {
    await using served = await startServer(new MemoryDevice(MIB));
    for (const bytes of [
      Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
      Buffer.alloc(1000),
      Buffer.alloc(1000, 0xff),
      Buffer.concat([protocol.encodeClientFlags(3), Buffer.alloc(16, 0x20)]),
      Buffer.concat([
        protocol.encodeClientFlags(3),
        protocol.encodeOption(Option.exportName, Buffer.alloc(4097, 0x61)),
      ]),
    ]) {
      using raw = await RawClient.connect(served.address);
      raw.send(bytes);
      await raw.take(protocol.GREETING_BYTES);
      await raw.closed;
    }
    await isServed(served.address);
    await eventually(() => served.server.connectionCount === 0);
    expect(served.errors).toEqual([]);
  });

  it('an option that claims 2^32-1 bytes takes no memory, and the time it has is limited', async () => {
    const clock = new ManualClock();
    await using served = await startServer(new MemoryDevice(MIB), { clock });
    using raw = await RawClient.connect(served.address);
    raw.send(protocol.encodeClientFlags(3));
    const header = protocol.encodeOption(Option.go);
    header.writeUInt32BE(WHOLE, 12);
    raw.send(header);
    const junk = Buffer.alloc(MIB);
    const before = process.memoryUsage().rss;
    for (let count = 0; count < 64; count++) await sent(raw, junk);
    expect(process.memoryUsage().rss - before).toBeLessThan(48 * MIB);
    await isServed(served.address);
    expect(served.server.connectionCount).toBeGreaterThanOrEqual(1);
    clock.advance(30_000);
    await raw.closed;
    await eventually(() => served.server.connectionCount === 0);
  });

  it('a client that asks without end and never reads is stopped by itself', async () => {
    const more = Array.from({ length: 100 }, (_, index) =>
      exportOf(`export-${index}`, 'd'.repeat(4000), new MemoryDevice(MIB)),
    );
    let lists = 0;
    await using served = await startServer(new MemoryDevice(MIB), {
      list: () => {
        lists += 1;
        return more;
      },
    });
    using raw = await RawClient.connect(served.address);
    raw.socket.pause();
    raw.send(protocol.encodeClientFlags(3));
    const flood = Buffer.concat(Array.from({ length: 10_000 }, () => protocol.encodeOption(3)));
    raw.send(flood);
    await sleep(200);
    expect(lists).toBeLessThan(10);
    await isServed(served.address);
  });

  it('half-open connections are dropped in time, and the established ones are not', async () => {
    const clock = new ManualClock();
    await using served = await startServer(new MemoryDevice(MIB), { clock });
    const established = await NbdClient.connect(served.address);
    const silent = await Promise.all(
      Array.from({ length: 50 }, () => RawClient.connect(served.address)),
    );
    silent.slice(0, 25).forEach((raw) => {
      raw.send(Buffer.from([0, 0]));
    });
    await eventually(() => served.server.connectionCount === 51);
    clock.advance(29_999);
    await sleep(20);
    expect(served.server.connectionCount).toBe(51);
    clock.advance(1);
    await Promise.all(silent.map((raw) => raw.closed));
    await eventually(() => served.server.connectionCount === 1);
    await established.flush();
    await established.disconnect();
  });

  it('connections beyond the limit are turned away, and there is room again after', async () => {
    await using served = await startServer(new MemoryDevice(MIB), { maxConnections: 3 });
    const three = await Promise.all(
      Array.from({ length: 3 }, () => NbdClient.connect(served.address)),
    );
    using fourth = await RawClient.connect(served.address);
    await fourth.closed;
    await three[1]!.flush();
    await three[0]!.disconnect();
    await eventually(() => served.server.connectionCount === 2);
    await isServed(served.address);
    await three[1]!.disconnect();
    await three[2]!.disconnect();
  });

  it('random bytes after the flags never crash it', async () => {
    await using served = await startServer(new MemoryDevice(MIB));
    for (let seed = 1; seed <= 30; seed++) {
      using raw = await RawClient.connect(served.address);
      const option = protocol.encodeOption(pattern(1, seed)[0]! % 12, pattern(seed * 7, seed));
      raw.send(Buffer.concat([protocol.encodeClientFlags(3), option, pattern(500, seed)]));
      raw.discard();
      await raw.closed;
    }
    await isServed(served.address);
  });
});

describe('in the transmission phase', () => {
  it('a wrong magic ends the connection, and only this one', async () => {
    await using served = await startServer(new MemoryDevice(MIB));
    using raw = await RawClient.transmitting(served.address);
    raw.request({ command: Command.flush, cookieLow: 1 });
    expect(await raw.reply()).toEqual({ errno: Errno.none, cookie: 1 });
    raw.send(Buffer.alloc(28, 1));
    await raw.closed;
    await isServed(served.address);
  });

  it('refused requests of every kind leave the stream in step', async () => {
    await using served = await startServer(new MemoryDevice(MIB));
    using raw = await RawClient.transmitting(served.address);
    const top = 2 ** 53;
    const refused: [Partial<protocol.Request>, number][] = [
      [{ command: 77 }, Errno.invalid],
      [{ command: Command.read, bytes: 512, flags: 0x8000 }, Errno.invalid],
      [{ command: Command.read, bytes: WHOLE }, Errno.invalid],
      [{ command: Command.read, offset: top, bytes: 1 }, Errno.invalid],
      [{ command: Command.trim, offset: top, bytes: WHOLE }, Errno.invalid],
      [{ command: Command.writeZeroes, bytes: WHOLE }, Errno.noSpace],
      [{ command: Command.cache, bytes: WHOLE }, Errno.invalid],
      [{ command: Command.blockStatus, bytes: 512 }, Errno.invalid],
      [{ command: Command.flush, bytes: 1 }, Errno.invalid],
    ];
    for (const [request, errno] of refused) {
      raw.request({ ...request, cookieLow: 5 });
      expect([request, await raw.reply()]).toEqual([request, { errno, cookie: 5 }]);
    }
    // The payload of a refused write is made of requests: none of them may be taken for one.
    const trap = Buffer.concat(
      Array.from({ length: 50 }, () => requestBytes({ command: Command.disconnect })),
    );
    for (const [request, errno] of [
      [{ offset: MIB }, Errno.noSpace],
      [{ flags: 0x4000 }, Errno.invalid],
    ] as const) {
      const command = Command.write;
      raw.request({ command, ...request, bytes: trap.length, cookieLow: 6 }, trap);
      expect(await raw.reply()).toEqual({ errno, cookie: 6 });
    }
    raw.request({ command: Command.flush, cookieLow: 9 });
    expect(await raw.reply()).toEqual({ errno: Errno.none, cookie: 9 });
  });

  it('a write that claims 2^32-1 bytes takes no memory', async () => {
    const device = new MemoryDevice(2 ** 40);
    await using served = await startServer(device);
    using raw = await RawClient.transmitting(served.address);
    raw.request({ command: Command.write, bytes: WHOLE, cookieLow: 3 });
    let answered = false;
    void raw.reply().then(() => (answered = true));
    const junk = Buffer.alloc(MIB);
    const before = process.memoryUsage().rss;
    for (let count = 0; count < 64; count++) await sent(raw, junk);
    expect(process.memoryUsage().rss - before).toBeLessThan(48 * MIB);
    expect(device.blockCount).toBe(0);
    await isServed(served.address);
    // libnbd, for one, takes a reply that overtakes the payload for the answer to nothing.
    expect(answered).toBe(false);
  });

  it.each([
    ['small reads', { command: Command.read, bytes: 4096 }],
    ['the largest reads', { command: Command.read, bytes: protocol.MAX_PAYLOAD_BYTES }],
    ['refused requests', { command: 99 }],
    ['flushes', { command: Command.flush }],
  ])('a client that never reads its replies stops only itself: %s', async (_name, request) => {
    const device = new MemoryDevice(2 ** 40);
    await using served = await startServer(device);
    using raw = await RawClient.transmitting(served.address);
    raw.socket.pause();
    const flood = Buffer.concat(Array.from({ length: 1000 }, () => requestBytes(request)));
    const before = process.memoryUsage().arrayBuffers;
    let sentFloods = 0;
    const flooding = (async () => {
      for (; sentFloods < 200 && !raw.socket.destroyed; sentFloods++) await sent(raw, flood);
    })();
    await sleep(300);
    await isServed(served.address);
    // The server stopped reading: 200 floods (5.6 MB) do not fit into the socket and the limits.
    expect(sentFloods).toBeLessThan(200);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(48 * MIB);
    raw.socket.destroy();
    await flooding;
    await eventually(() => served.server.connectionCount === 0);
  });

  it('a client that stopped reading is served again when it reads', async () => {
    await using served = await startServer(new MemoryDevice(MIB));
    using raw = await RawClient.transmitting(served.address);
    raw.socket.pause();
    const count = 5000;
    const read = { command: Command.read, bytes: 1024 };
    for (let cookieLow = 0; cookieLow < count; cookieLow++) raw.request({ ...read, cookieLow });
    await sleep(100);
    raw.socket.resume();
    const seen = new Set<number>();
    for (let index = 0; index < count; index++) {
      seen.add((await raw.reply()).cookie);
      await raw.take(1024);
    }
    expect(seen.size).toBe(count);
  });

  it('a device that hangs holds a bounded number of requests', async () => {
    const gate = new Gate();
    let entered = 0;
    const device = new MemoryDevice(2 ** 40, {
      before: () => {
        entered += 1;
        return gate.passed;
      },
    });
    await using served = await startServer(device);
    using raw = await RawClient.transmitting(served.address);
    const flood = Array.from({ length: 2000 }, () =>
      requestBytes({ command: Command.trim, bytes: 512 }),
    );
    raw.send(Buffer.concat(flood));
    await sleep(100);
    expect(entered).toBe(256);
    gate.open();
    for (let count = 0; count < flood.length; count++) {
      expect((await raw.reply()).errno).toBe(Errno.none);
    }
  });

  it('closes in bounded time though a client reads nothing', async () => {
    const clock = new ManualClock();
    const device = new MemoryDevice(2 ** 40);
    await using served = await startServer(device, { clock });
    using raw = await RawClient.transmitting(served.address);
    raw.socket.pause();
    raw.request({ command: Command.read, bytes: protocol.MAX_PAYLOAD_BYTES });
    await eventually(() => device.counts.read === 1);
    let closed = false;
    const closing = served.server.close().then(() => (closed = true));
    await sleep(50);
    expect(closed).toBe(false);
    clock.advance(5_000);
    await closing;
  });
});

describe('many clients at once', () => {
  it('200 of them are all served', async () => {
    await using served = await startServer(new MemoryDevice(200 * 65536));
    const clients = await Promise.all(
      Array.from({ length: 200 }, () => NbdClient.connect(served.address)),
    );
    expect(served.server.connectionCount).toBe(200);
    await Promise.all(
      clients.map(async (client, index) => {
        const data = pattern(65536, index);
        await client.write(index * 65536, data);
        expect((await client.read(index * 65536, 65536)).equals(data)).toBe(true);
        await client.disconnect();
      }),
    );
    await eventually(() => served.server.connectionCount === 0);
  });

  it('200 that connect and vanish at every point of the protocol leave nothing behind', async () => {
    const gate = new Gate();
    await using served = await startServer(new MemoryDevice(MIB, { before: () => gate.passed }));
    const go = protocol.encodeInfoRequest({ exportName: '', infos: [] });
    const write = requestBytes({ command: Command.write, bytes: 1000 });
    const script = Buffer.concat([
      protocol.encodeClientFlags(3),
      protocol.encodeOption(Option.list),
      protocol.encodeOption(Option.go, go),
      requestBytes({ command: Command.read, bytes: 65536 }),
      Buffer.concat([write, pattern(1000)]),
      requestBytes({ command: Command.disconnect }),
    ]);
    await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        using raw = await RawClient.connect(served.address);
        await sent(raw, script.subarray(0, Math.floor((script.length * index) / 199)));
      }),
    );
    await sleep(50);
    gate.open();
    await eventually(() => served.server.connectionCount === 0);
  });

  it('INFO before GO costs nothing but its answers', async () => {
    await using served = await startServer(new MemoryDevice(MIB));
    using raw = await RawClient.connect(served.address);
    raw.send(protocol.encodeClientFlags(3));
    await raw.take(protocol.GREETING_BYTES);
    const info = protocol.encodeInfoRequest({ exportName: 'disk', infos: [] });
    for (let count = 0; count < 500; count++) raw.send(protocol.encodeOption(Option.info, info));
    for (let count = 0; count < 500; count++) {
      expect((await raw.optionReply()).type).toBe(OptionReply.info);
      expect((await raw.optionReply()).type).toBe(OptionReply.ack);
    }
  });
});

/** Resolves when the kernel has the bytes, or the socket is gone. */
function sent(raw: RawClient, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    raw.socket.write(bytes, () => {
      resolve();
    });
    void raw.closed.then(resolve);
  });
}
