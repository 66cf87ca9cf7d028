import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ChunkvolError } from '../../../src/base/errors.js';
import { ControlClient } from '../../../src/cli/control-client.js';
import { decodeError, type Progress } from '../../../src/cli/control-protocol.js';
import { ControlServer, type Operation } from '../../../src/cli/control-server.js';

let folder: string;
let socket: string;
let server: ControlServer | null;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chunkvol-control-'));
  socket = path.join(folder, 'control');
  server = null;
});

afterEach(async () => {
  await server?.abortOperations();
  server?.close();
  fs.rmSync(folder, { recursive: true });
});

async function serve(operations: Record<string, Operation>): Promise<ControlClient> {
  server = await ControlServer.start(socket, operations);
  return ControlClient.at(socket);
}

/** An operation that goes on until it is aborted. */
function endless(onStart: () => void): Operation {
  return (_, { signal }) =>
    new Promise((_resolve, reject) => {
      onStart();
      signal.addEventListener('abort', () => {
        reject(new ChunkvolError('interrupted', 'stopped half-way'));
      });
    });
}

/** Sends raw bytes and returns everything that comes back. */
function say(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const connection = net.connect(socket, () => connection.write(text));
    let heard = '';
    connection.on('data', (bytes) => (heard += bytes.toString()));
    connection.on('close', () => {
      resolve(heard);
    });
    connection.on('error', reject);
  });
}

describe('the control socket', () => {
  it('carries arguments there and the result back', async () => {
    const client = await serve({ double: (args) => Promise.resolve({ got: args, twice: 'ü\n' }) });
    expect(await client.call('double', { of: [1, null, 'ä'] })).toEqual({
      got: { of: [1, null, 'ä'] },
      twice: 'ü\n',
    });
  });

  it('carries large results', async () => {
    const large = 'x'.repeat(5_000_000);
    const client = await serve({ large: () => Promise.resolve(large) });
    expect(await client.call('large')).toBe(large);
  });

  it('reports progress, but not every step of it', async () => {
    const steps = 10_000;
    const seen: Progress[] = [];
    const client = await serve({
      work: (_, { onProgress }) => {
        for (let step = 0; step < steps; step++) {
          onProgress({ phase: 'work', doneBytes: step, totalBytes: steps });
        }
        return Promise.resolve(null);
      },
    });
    await client.call('work', {}, { onProgress: (progress) => seen.push(progress) });
    expect(seen[0]).toEqual({ phase: 'work', doneBytes: 0, totalBytes: steps });
    expect(seen.length).toBeLessThan(100);
  });

  it('carries parts of a result, in order, before the result', async () => {
    const client = await serve({
      count: async (args, { send }) => {
        const { to } = args as { to: number };
        for (let number = 0; number < to; number++) await send([number]);
        return 'done';
      },
    });
    const parts: unknown[] = [];
    const onPart = (part: unknown): number => parts.push(part);
    expect(await client.call('count', { to: 5000 }, { onPart })).toBe('done');
    expect(parts).toEqual(Array.from({ length: 5000 }, (_, number) => [number]));
    expect(await client.call('count', { to: 3 })).toBe('done');
  });

  it('sends no further part before a slow client has taken those before', async () => {
    let sent = 0;
    await serve({
      flood: async (_, { send, signal }) => {
        while (!signal.aborted) {
          await send('x'.repeat(100_000));
          sent += 1;
        }
      },
    });
    const connection = net.connect(socket);
    connection.pause();
    connection.write('{"protocol": 1, "operation": "flood"}\n');
    await expect.poll(() => sent).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    // What the kernel's buffers hold, and not what fits into memory.
    expect(sent).toBeLessThan(200);
    connection.destroy();
    await server!.abortOperations();
  });

  it('carries errors with their code', async () => {
    const client = await serve({
      fail: () => Promise.reject(new ChunkvolError('lost', 'group 3 is lost')),
      crash: () => Promise.reject(new TypeError('a bug')),
    });
    await expect(client.call('fail')).rejects.toMatchObject({
      code: 'lost',
      message: 'group 3 is lost',
    });
    await expect(client.call('crash')).rejects.toMatchObject({ code: 'internal' });
  });

  it('refuses operations that it does not know, inherited names included', async () => {
    const client = await serve({});
    await expect(client.call('bogus')).rejects.toMatchObject({ code: 'usage' });
    await expect(client.call('toString')).rejects.toMatchObject({ code: 'usage' });
  });

  it('refuses other versions and nonsense with an answer', async () => {
    await serve({ status: () => Promise.resolve(1) });
    for (const text of ['{"protocol": 2, "operation": "status"}', 'GET / HTTP/1.1', 'null', '[]']) {
      expect(await say(`${text}\n`)).toContain('"code":"usage"');
    }
  });

  it('hangs up on a request without end', async () => {
    await serve({});
    const heard = await say('x'.repeat(2 ** 21)).catch((error: unknown) => {
      expect(error).toMatchObject({ code: expect.stringMatching('ECONNRESET|EPIPE') as string });
      return '';
    });
    expect(heard).toBe('');
  });

  it('aborts the operation of a client that goes away', async () => {
    const stop = new AbortController();
    const aborted = new Promise<void>((resolve) => {
      void serve({
        wait: (_, { signal }) => {
          stop.abort();
          return new Promise((done) => {
            signal.addEventListener('abort', () => {
              resolve();
              done(null);
            });
          });
        },
      }).then((client) =>
        client.call('wait', {}, { signal: stop.signal }).catch((error: unknown) => {
          expect(error).toMatchObject({ code: 'interrupted' });
        }),
      );
    });
    await aborted;
  });

  it('aborts everything but the operation that ends the server', async () => {
    let started!: () => void;
    const running = new Promise<void>((resolve) => (started = resolve));
    const client = await serve({
      long: endless(() => {
        started();
      }),
      stop: async (_, { signal }) => {
        await server!.abortOperations(signal);
        return 'stopped';
      },
    });
    const long = client.call('long');
    const failure = expect(long).rejects.toMatchObject({ code: 'interrupted' });
    await running;
    expect(await client.call('stop')).toBe('stopped');
    await failure;
  });

  it('tells when the server dies under an operation', async () => {
    const client = await serve({
      die: (_, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', reject);
          server!.close();
        }),
    });
    await expect(client.call('die')).rejects.toMatchObject({ code: 'closed' });
  });

  it('is not there when nobody listens', async () => {
    expect(await ControlClient.at(socket).answers()).toBe(false);
    const client = await serve({});
    expect(await client.answers()).toBe(true);
  });

  it('takes the place of the socket that a killed server left', async () => {
    fs.writeFileSync(socket, '');
    const client = await serve({ status: () => Promise.resolve('new') });
    expect(await client.call('status')).toBe('new');
  });
});

describe('decodeError', () => {
  it('makes an unknown code of a newer server a failure, never a success', () => {
    const error = decodeError({ code: 'from-the-future' as 'io', message: 'what happened' });
    expect(error).toMatchObject({ code: 'internal', message: 'what happened' });
  });
});
