/** Servers on sockets in a temporary folder, and a client that says what it is told to, for NBD tests. */
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import type { BlockDevice } from '../../src/base/block-device.js';
import type { Clock } from '../../src/base/clock.js';
import type { NbdAddress } from '../../src/nbd/address.js';
import type { NbdExport } from '../../src/nbd/exports.js';
import { Intake } from '../../src/nbd/intake.js';
import * as protocol from '../../src/nbd/protocol.js';
import { NbdServer } from '../../src/nbd/server.js';
import type { NbdServerOptions } from '../../src/nbd/server.js';

export interface TestServer extends AsyncDisposable {
  readonly server: NbdServer;
  readonly address: NbdAddress & { kind: 'unix' };
  /** What the server reported through onError. */
  readonly errors: string[];
}

/** A device that is always open. */
export function exportOf(name: string, description: string, device: BlockDevice): NbdExport {
  return { name, description, facts: device, open: () => ({ device, close: () => undefined }) };
}

/** Serves `device` as "" and "disk", and what `more` holds under its names. */
export async function startServer(
  device: BlockDevice,
  options: Partial<NbdServerOptions> = {},
  more: readonly NbdExport[] = [],
): Promise<TestServer> {
  const folder = temporaryFolder();
  const all = [exportOf('disk', 'a disk for tests', device), ...more];
  const errors: string[] = [];
  const server = new NbdServer({
    find: (name) => all.find((one) => one.name === (name === '' ? 'disk' : name)) ?? null,
    list: () => all,
    onError: (message) => errors.push(message),
    ...options,
  });
  const address = { kind: 'unix', path: path.join(folder, 's') } as const;
  await server.listen(address);
  return {
    server,
    address,
    errors,
    async [Symbol.asyncDispose]() {
      await server.close();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A folder whose path leaves room for a socket's name. */
export function temporaryFolder(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'nbd-'));
}

/** A client without manners: sends any bytes, reads exactly what is asked for. */
export class RawClient implements Disposable {
  readonly #intake: Intake;
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>;

  private constructor(readonly socket: net.Socket) {
    this.#intake = new Intake(() => socket.resume());
    socket.on('data', (chunk) => {
      this.#intake.push(chunk);
      if (this.#intake.idle) socket.pause();
    });
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) =>
      socket.once('close', () => {
        resolve();
      }),
    );
  }

  static async connect(address: NbdAddress): Promise<RawClient> {
    const socket =
      address.kind === 'unix'
        ? net.connect({ path: address.path })
        : net.connect({ host: address.host, port: address.port });
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  /** A client in the transmission phase, by EXPORT_NAME: simple replies. */
  static async transmitting(address: NbdAddress, exportName = 'disk'): Promise<RawClient> {
    const client = await RawClient.connect(address);
    client.send(protocol.encodeClientFlags(3));
    client.send(protocol.encodeOption(protocol.Option.exportName, Buffer.from(exportName)));
    await client.take(protocol.GREETING_BYTES + protocol.EXPORT_NAME_REPLY_BYTES);
    return client;
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  request(request: Partial<protocol.Request>, payload?: Uint8Array): void {
    this.send(requestBytes(request));
    if (payload) this.send(payload);
  }

  /** The next `bytes` bytes; never resolves when they do not come. */
  take(bytes: number): Promise<Buffer> {
    return new Promise((resolve) => {
      const target = Buffer.alloc(bytes);
      this.#intake.fill(target, () => {
        resolve(target);
      });
    });
  }

  /** Reads whatever comes and drops it. */
  discard(): void {
    this.#intake.skip(Infinity, () => undefined);
  }

  /** Error number and low half of the cookie of the next simple reply. */
  async reply(): Promise<{ errno: number; cookie: number }> {
    const head = protocol.decodeReplyHead(await this.take(protocol.SIMPLE_REPLY_BYTES));
    if (head?.kind !== 'simple') throw new Error('not a simple reply');
    return { errno: head.errno, cookie: head.cookieLow };
  }

  /** The data of an option's next reply, and its type. */
  async optionReply(): Promise<{ type: number; data: Buffer }> {
    const header = protocol.decodeOptionReplyHeader(
      await this.take(protocol.OPTION_REPLY_HEADER_BYTES),
    );
    if (header === null) throw new Error('not an option reply');
    return { type: header.type, data: await this.take(header.dataBytes) };
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export function requestBytes(request: Partial<protocol.Request>): Buffer {
  const bytes = Buffer.alloc(protocol.REQUEST_BYTES);
  const none = { flags: 0, command: 0, offset: 0, bytes: 0, cookieHigh: 0, cookieLow: 0 };
  protocol.encodeRequest(bytes, 0, { ...none, ...request });
  return bytes;
}

/** Bytes that differ everywhere and are the same at every run. */
export function pattern(bytes: number, seed = 1): Buffer {
  const pattern = Buffer.alloc(bytes);
  let state = seed;
  for (let at = 0; at < bytes; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    pattern[at] = state >>> 24;
  }
  return pattern;
}

/** Waits until `condition` holds; throws after `limitMs`. */
export async function eventually(condition: () => boolean, limitMs = 5000): Promise<void> {
  const end = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not so after ${limitMs} ms: ${condition.toString()}`);
    await sleep(5);
  }
}

export function sleep(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, delayMs);
  });
}

/** A gate that holds whoever waits at it until it is opened. */
export class Gate {
  open: () => void = () => undefined;
  readonly passed: Promise<void> = new Promise((resolve) => {
    this.open = resolve;
  });
}

/** Time that passes when a test says so. */
export class ManualClock implements Clock {
  #nowMs = 0;
  readonly #timers = new Set<{ atMs: number; callback: () => void }>();

  now(): number {
    return this.#nowMs;
  }

  monotonic(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  advance(byMs: number): void {
    this.#nowMs += byMs;
    for (const timer of [...this.#timers]) {
      if (timer.atMs > this.#nowMs) continue;
      this.#timers.delete(timer);
      timer.callback();
    }
  }
}
