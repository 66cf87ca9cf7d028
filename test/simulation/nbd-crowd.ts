/** A crowd (crowd.ts) whose ways to the disk are NBD connections, to a server on a real socket. */
import { NbdClient } from '../../src/nbd/client.js';
import { startServer } from '../support/nbd-harness.js';
import { Crowd, type CrowdedDisk } from './crowd.js';
import { SHAPES, World } from './world.js';

export interface NbdCrowdSize {
  readonly operations: number;
  readonly connections: number;
  /** Requests in flight on each connection. */
  readonly atOnce: number;
  /** How much of the disk they share. */
  readonly bytes: number;
}

/** Throws when no order of the operations explains what was read. */
export async function crowdOverNbd(seed: number, size: NbdCrowdSize): Promise<void> {
  const world = await World.create(seed, SHAPES[seed % SHAPES.length]!);
  await world.reopen();
  await using served = await startServer(world.volume!);
  const clients = await Promise.all(
    Array.from({ length: size.connections }, (_, index) =>
      NbdClient.connect(served.address, { structuredReplies: index % 2 === 0 }),
    ),
  );
  const crowd = new Crowd(clients.map(diskOf), size.bytes, world.dice);
  await world.clock.during(crowd.run(size.operations, size.atOnce));
  await Promise.all(clients.map((client) => client.disconnect()));
  await world.volume!.close();
  if (served.errors.length > 0) throw new Error(served.errors.join(', '));
  crowd.check();
}

function diskOf(client: NbdClient): CrowdedDisk {
  return {
    read: async (offset, into) => {
      into.set(await client.read(offset, into.length));
    },
    write: (offset, bytes, options) => client.write(offset, bytes, options),
    zero: (offset, bytes, options) => client.writeZeroes(offset, bytes, options),
    trim: (offset, bytes, options) => client.trim(offset, bytes, options),
    flush: () => client.flush(),
  };
}
