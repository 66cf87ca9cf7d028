/**
 * Conversations made up from the protocol's grammar and bent here and there: lengths of 2^32 - 1, names of
 * 4,096 bytes, wrong magics, requests beyond the disk, streams cut anywhere. Whatever comes, the server
 * stays up, holds a bounded amount of memory, and serves everybody else.
 */
import { describe, expect, it } from 'vitest';
import { NbdClient } from '../../../src/nbd/client.js';
import { COMMON_BYTES, STALL_MS } from '../../../src/nbd/memory-budget.js';
import * as protocol from '../../../src/nbd/protocol.js';
import { Command, Option } from '../../../src/nbd/protocol.js';
import { Dice } from '../../simulation/dice.js';
import { simulate } from '../../simulation/simulate.js';
import { MemoryDevice } from '../../support/memory-device.js';
import {
  eventually,
  ManualClock,
  pattern,
  RawClient,
  requestBytes,
  sleep,
  startServer,
  type TestServer,
} from '../../support/nbd-harness.js';

const MIB = 2 ** 20;
const DISK_BYTES = 4 * MIB;
const LENGTHS = [0, 1, 511, 4096, 4097, MIB, 2 ** 25, 2 ** 25 + 1, 2 ** 31, 2 ** 32 - 1];
const OFFSETS = [
  0,
  1,
  4096,
  DISK_BYTES - 1,
  DISK_BYTES,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 63,
  2 ** 64 - 2049,
];

/** One thing that a client may say in the handshake. */
function option(dice: Dice): Buffer {
  const known = Object.values(Option);
  const code = dice.chance(0.9) ? dice.pick(known) : dice.next();
  const bytes = Buffer.concat([protocol.encodeOption(code, optionData(dice))]);
  if (dice.chance(0.05)) bytes.writeUInt32BE(dice.next(), 0);
  if (dice.chance(0.15)) bytes.writeUInt32BE(dice.pick(LENGTHS), 12);
  return bytes;
}

function optionData(dice: Dice): Uint8Array {
  const name = dice.pick(['', 'disk', 'x'.repeat(4096), 'x'.repeat(4097), '\0', '@none']);
  switch (dice.below(5)) {
    case 0:
      return Buffer.from(name);
    case 1: {
      const request = protocol.encodeInfoRequest({ exportName: name, infos: [0, 1, 3, 99] });
      if (dice.chance(0.3)) request.writeUInt32BE(dice.pick(LENGTHS), 0);
      return request;
    }
    case 2: {
      const queries = Array.from({ length: dice.below(40) }, () =>
        dice.pick(['base:', 'a:b', name]),
      );
      const request = protocol.encodeMetaContextRequest({ exportName: 'disk', queries });
      if (dice.chance(0.3)) request.writeUInt32BE(dice.pick(LENGTHS), request.length - 4);
      return request;
    }
    case 3:
      return dice.bytes(dice.below(5000));
    default:
      return new Uint8Array(0);
  }
}

function request(dice: Dice): Buffer {
  const command = dice.chance(0.9) ? dice.below(8) : dice.below(65536);
  const bytes = dice.chance(0.6) ? dice.below(5000) : dice.pick(LENGTHS);
  const head = requestBytes({
    command: command === Command.disconnect && dice.chance(0.8) ? Command.flush : command,
    flags: dice.chance(0.7) ? 0 : dice.below(65536),
    bytes,
    cookieLow: dice.next(),
  });
  head.writeBigUInt64BE(BigInt(dice.pick(OFFSETS)), 16);
  if (dice.chance(0.03)) head.writeUInt32BE(dice.next(), 0);
  if (command !== Command.write) return head;
  const payload = dice.bytes(Math.min(bytes, 20_000));
  return Buffer.concat([
    head,
    dice.chance(0.1) ? payload.subarray(0, payload.length / 2) : payload,
  ]);
}

function conversation(dice: Dice): Buffer {
  const parts: Buffer[] = [protocol.encodeClientFlags(dice.chance(0.9) ? 3 : dice.next())];
  for (let i = dice.below(6); i > 0; i--) parts.push(option(dice));
  if (dice.chance(0.8)) {
    parts.push(protocol.encodeOption(Option.exportName, Buffer.from('disk')));
    for (let i = dice.below(40); i > 0; i--) parts.push(request(dice));
  }
  const whole = Buffer.concat(parts);
  return dice.chance(0.2) ? whole.subarray(0, dice.below(whole.length)) : whole;
}

/** Says all of it in pieces, reads or not, and goes away, politely or not. */
async function talk(served: TestServer, dice: Dice): Promise<void> {
  using raw = await RawClient.connect(served.address);
  if (dice.chance(0.7)) raw.discard();
  else raw.socket.pause();
  const bytes = conversation(dice);
  for (let at = 0; at < bytes.length && !raw.socket.destroyed;) {
    const piece = 1 + dice.below(dice.pick([3, 200, 100_000]));
    raw.send(bytes.subarray(at, at + piece));
    at += piece;
    if (dice.chance(0.1)) await new Promise((resolve) => setImmediate(resolve));
  }
  if (dice.chance(0.5)) raw.socket.end();
  await Promise.race([raw.closed, sleep(dice.below(8))]);
}

async function isServed({ address }: TestServer): Promise<void> {
  const client = await NbdClient.connect(address);
  const data = pattern(300_000, 7);
  await client.write(4095, data);
  expect((await client.read(4095, data.length)).equals(data)).toBe(true);
  await client.disconnect();
}

describe('any conversation', () => {
  it('leaves the server up, and others served', async () => {
    await simulate(20, async (seed) => {
      const dice = new Dice(seed);
      await using served = await startServer(new MemoryDevice(DISK_BYTES));
      await Promise.all(Array.from({ length: 20 }, () => talk(served, dice.fork())));
      await isServed(served);
      await eventually(() => served.server.connectionCount === 0);
    });
  });
});

describe('many clients that ask for much and read nothing', () => {
  const LARGEST = protocol.MAX_PAYLOAD_BYTES;

  it('hold a bounded amount of memory together, and are cut off when others wait', async () => {
    const clock = new ManualClock();
    const device = new MemoryDevice(2 ** 40);
    await using served = await startServer(device, { clock });
    const hostile = await Promise.all(
      Array.from({ length: 40 }, () => RawClient.transmitting(served.address)),
    );
    for (const raw of hostile) {
      raw.socket.pause();
      raw.request({ command: Command.read, bytes: LARGEST });
    }
    await eventually(() => device.counts.read >= COMMON_BYTES / LARGEST);
    await sleep(100);
    expect(device.counts.read).toBe(COMMON_BYTES / LARGEST);
    // Small requests are served all the same; large ones when those who stand still are gone.
    const client = await NbdClient.connect(served.address);
    await client.write(0, pattern(100_000));
    const progress = { isRead: false };
    const large = client.read(0, LARGEST).then(() => (progress.isRead = true));
    await sleep(50);
    expect(progress.isRead).toBe(false);
    // As many at a time as there is memory for.
    for (let round = 0; round < 20 && !progress.isRead; round++) {
      clock.advance(STALL_MS);
      await sleep(50);
    }
    await large;
    await client.disconnect();
    for (const raw of hostile) raw.socket.destroy();
    await eventually(() => served.server.connectionCount === 0);
  });

  it.each([
    ['stay', () => undefined],
    [
      'say goodbye',
      (raw: RawClient): void => {
        raw.request({ command: Command.disconnect });
      },
    ],
    ['send nothing more', (raw: RawClient) => void raw.socket.end()],
  ])('keep nobody waiting longer than they may stand still, when they %s', async (_, leave) => {
    const clock = new ManualClock();
    const device = new MemoryDevice(2 ** 40);
    await using served = await startServer(device, { clock });
    const holders = await Promise.all(
      Array.from({ length: COMMON_BYTES / LARGEST }, () => RawClient.transmitting(served.address)),
    );
    for (const raw of holders) {
      raw.socket.pause();
      raw.request({ command: Command.read, bytes: LARGEST });
      leave(raw);
    }
    await eventually(() => device.counts.read >= COMMON_BYTES / LARGEST);
    await sleep(100);
    clock.advance(STALL_MS - 1000);
    const client = await NbdClient.connect(served.address);
    const progress = { isRead: false };
    const large = client.read(0, LARGEST).then(() => (progress.isRead = true));
    await sleep(100);
    expect(progress.isRead).toBe(false);
    clock.advance(1000);
    await eventually(() => progress.isRead);
    await large;
    await client.disconnect();
    for (const raw of holders) raw.socket.destroy();
    await eventually(() => served.server.connectionCount === 0);
  });

  it('are not charged with the time that the device takes', async () => {
    const clock = new ManualClock();
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const device = new MemoryDevice(2 ** 40, { before: () => gate });
    await using served = await startServer(device, { clock });
    const count = COMMON_BYTES / LARGEST;
    const holders = await Promise.all(
      Array.from({ length: count }, () => RawClient.transmitting(served.address)),
    );
    for (const raw of holders) {
      raw.socket.pause();
      raw.request({ command: Command.read, bytes: LARGEST });
    }
    await sleep(100);
    const client = await NbdClient.connect(served.address);
    const large = client.read(0, LARGEST);
    await sleep(100);
    clock.advance(2 * STALL_MS);
    release();
    await eventually(() => device.counts.read === count);
    await sleep(100);
    clock.advance(STALL_MS / 2);
    await sleep(100);
    expect(served.server.connectionCount).toBe(count + 1);
    clock.advance(STALL_MS / 2);
    await large;
    await client.disconnect();
    for (const raw of holders) raw.socket.destroy();
  });

  it('may be a thousand', async () => {
    await using served = await startServer(new MemoryDevice(DISK_BYTES));
    const crowd: RawClient[] = [];
    for (let i = 0; i < 10; i++) {
      crowd.push(
        ...(await Promise.all(
          Array.from({ length: 100 }, () => RawClient.transmitting(served.address)),
        )),
      );
    }
    expect(served.server.connectionCount).toBe(1000);
    const before = process.memoryUsage().arrayBuffers;
    for (const raw of crowd) {
      raw.socket.pause();
      for (let i = 0; i < 8; i++) raw.request({ command: Command.read, bytes: MIB });
    }
    await sleep(300);
    // What they hold beyond their own share, what is theirs, and what they themselves were sent.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 * COMMON_BYTES);
    const client = await NbdClient.connect(served.address);
    await client.write(0, pattern(100_000));
    await client.disconnect();
    for (const raw of crowd) raw.socket.destroy();
    await eventually(() => served.server.connectionCount === 0);
  });
});
