/**
 * Several connections to one disk, each with many requests in flight, against a model: an array of
 * bytes. Each connection owns every n-th stretch of the disk, so that what it must read is known.
 */
import { describe, expect, it } from 'vitest';
import type { NbdClient } from '../../../src/nbd/client.js';
import { NbdClient as Client } from '../../../src/nbd/client.js';
import { MemoryDevice } from '../../support/memory-device.js';
import { pattern, sleep, startServer } from '../../support/nbd-harness.js';

const CONNECTIONS = 6;
const STRETCHES = 24;
const STRETCH_BYTES = 100_000;
const ROUNDS = 60;

/** A repeatable source of numbers. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return state % limit;
  };
}

/** Changes and checks one stretch, request after request. */
async function exercise(client: NbdClient, start: number, model: Buffer, seed: number) {
  const next = generator(seed);
  for (let round = 0; round < ROUNDS; round++) {
    const at = next(STRETCH_BYTES);
    const bytes = 1 + next(Math.min(STRETCH_BYTES - at, round % 10 === 0 ? STRETCH_BYTES : 9000));
    const durable = next(4) === 0;
    switch (next(5)) {
      case 0:
        await client.writeZeroes(start + at, bytes, { durable });
        model.fill(0, at, at + bytes);
        break;
      case 1:
        await client.trim(start + at, bytes, { durable });
        model.fill(0, at, at + bytes);
        break;
      case 2:
      case 3: {
        const data = pattern(bytes, next(2 ** 30));
        await client.write(start + at, data, { durable });
        data.copy(model, at);
        break;
      }
      default: {
        const read = await client.read(start + at, bytes);
        expect(read.equals(model.subarray(at, at + bytes))).toBe(true);
      }
    }
    if (next(10) === 0) await client.flush();
  }
}

describe('connections side by side', () => {
  it.each([
    ['at once', false],
    ['after a random delay', true],
  ])('read what they wrote, when the device answers %s', async (_name, delayed) => {
    const random = generator(42);
    const device = new MemoryDevice(STRETCHES * STRETCH_BYTES, {
      before: () => (delayed && random(3) === 0 ? sleep(random(3)) : Promise.resolve()),
    });
    await using served = await startServer(device);
    const clients = await Promise.all(
      Array.from({ length: CONNECTIONS }, (_, index) =>
        Client.connect(served.address, { structuredReplies: index % 2 === 0 }),
      ),
    );
    const models = Array.from({ length: STRETCHES }, () => Buffer.alloc(STRETCH_BYTES));
    await Promise.all(
      models.map((model, stretch) =>
        exercise(clients[stretch % CONNECTIONS]!, stretch * STRETCH_BYTES, model, stretch + 1),
      ),
    );
    // Flushed on one connection, everything is seen on any other.
    await clients[0]!.flush();
    const whole = await clients.at(-1)!.read(0, STRETCHES * STRETCH_BYTES);
    expect(whole.equals(Buffer.concat(models))).toBe(true);
    const extents = await clients[0]!.blockStatus(0, whole.length);
    let at = 0;
    for (const extent of extents) {
      const part = whole.subarray(at, at + extent.bytes);
      if (extent.hole) expect(part.every((byte) => byte === 0)).toBe(true);
      at += extent.bytes;
    }
    expect(at).toBe(whole.length);
    await Promise.all(clients.map((client) => client.disconnect()));
    expect(served.errors).toEqual([]);
  });
});
