import * as net from 'node:net';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/bytes.js';
import { Intake } from '../../../src/nbd/intake.js';
import { receive } from '../../../src/nbd/receive.js';
import { temporaryFolder } from '../../support/nbd-harness.js';
import { patterned } from '../../support/volumes.js';

/** Ends a server, and what is connected to it, with the test. */
async function connected(
  use: (accepted: net.Socket, client: net.Socket) => Promise<void>,
): Promise<void> {
  const folder = temporaryFolder();
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen(join(folder, 's'));
  await once(server, 'listening');
  const client = net.connect(join(folder, 's'));
  const [accepted] = (await once(server, 'connection')) as [net.Socket];
  try {
    await use(accepted, client);
  } finally {
    client.destroy();
    server.close();
    rmSync(folder, { recursive: true });
  }
}

/** Takes pieces of these lengths, one after the other, as a server does. */
function take(intake: Intake, lengths: readonly number[]): Promise<Buffer[]> {
  return new Promise((resolve) => {
    const taken: Buffer[] = [];
    const next = (): void => {
      const bytes = lengths[taken.length];
      if (bytes === undefined) {
        resolve(taken);
        return;
      }
      const target = Buffer.alloc(bytes);
      intake.fill(target, () => {
        taken.push(target);
        // A device may be busy for a while.
        if (taken.length % 5 === 0) setTimeout(next, 2);
        else next();
      });
    };
    next();
  });
}

describe('what arrives on a socket', () => {
  it.each([
    ['where it belongs', true],
    ['in events where that is not possible', false],
  ])('comes %s', async (_, direct) => {
    await connected(async (accepted, client) => {
      if (!direct) Object.assign(accepted, { _handle: handleWithoutUserBuffer(accepted) });
      const intake = new Intake(() => {
        if (socket.isPaused()) socket.resume();
      });
      let moved = 0;
      const socket = receive(accepted, intake, () => moved++);
      expect(socket !== accepted).toBe(direct);
      const lengths = [28, MIB, 28, 4096, 28, 28, 40_000, 28, 300_000, 1, 2 * MIB];
      const all = patterned(
        lengths.reduce((sum, bytes) => sum + bytes, 0),
        1,
      );
      const ended = once(socket, 'end');
      client.end(all);
      const taken = await take(intake, lengths);
      expect(Buffer.compare(Buffer.concat(taken), all)).toBe(0);
      expect(moved).toBeGreaterThan(0);
      intake.fill(Buffer.alloc(1), () => undefined);
      await ended;
      socket.end('bye');
      const [answer] = (await once(client, 'data')) as [Buffer];
      expect(answer.toString()).toBe('bye');
    });
  });
});

/** As Node may make them one day. */
function handleWithoutUserBuffer(socket: net.Socket): object {
  const { _handle: handle } = socket as unknown as { _handle: object };
  return Object.assign(handle, { useUserBuffer: undefined });
}
