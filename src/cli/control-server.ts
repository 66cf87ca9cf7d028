/**
 * The control socket of a serving process: runs operations on the open volume for other processes of
 * the same user. The socket's folder is what keeps others out (runtime-folder.ts).
 */
import * as fs from 'node:fs';
import * as net from 'node:net';
import { ChunkvolError, fromSystem } from '../base/errors.js';
import {
  CONTROL_PROTOCOL,
  decodeRequest,
  encodeError,
  encodeLine,
  MAX_REQUEST_CHARS,
  readLines,
} from './control-protocol.js';
import type { ControlReply, ControlRequest, Progress } from './control-protocol.js';

export interface OperationContext {
  readonly onProgress: (progress: Progress) => void;
  /** Hands over a piece of a result that may be long; resolves when there is room for the next one. */
  readonly send: (part: unknown) => Promise<void>;
  /** Aborted when the client goes away, or the server stops. */
  readonly signal: AbortSignal;
}

/** Arguments and results are JSON. */
export type Operation = (args: unknown, context: OperationContext) => Promise<unknown>;

/** Not more often than this, whatever the operation reports. */
const PROGRESS_INTERVAL_MS = 100;

export class ControlServer {
  readonly #running = new Map<AbortController, Promise<void>>();
  readonly #sockets = new Set<net.Socket>();

  private constructor(
    private readonly listener: net.Server,
    private readonly operations: Readonly<Record<string, Operation>>,
  ) {}

  /**
   * Listens at `path`. The caller holds the folder's lock, so what is there is a killed server's.
   * Throws ChunkvolError('io').
   */
  static async start(
    path: string,
    operations: Readonly<Record<string, Operation>>,
  ): Promise<ControlServer> {
    fs.rmSync(path, { force: true });
    const listener = net.createServer();
    const server = new ControlServer(listener, operations);
    listener.on('connection', (socket) => {
      server.#accept(socket);
    });
    await new Promise<void>((resolve, reject) => {
      listener.once('error', (error) => {
        reject(fromSystem(error, 'listen at', path));
      });
      listener.listen(path, resolve);
    });
    return server;
  }

  /** Aborts all operations but the one with the signal `except`, and waits for them. */
  async abortOperations(except?: AbortSignal): Promise<void> {
    const others = [...this.#running].filter(([controller]) => controller.signal !== except);
    for (const [controller] of others) controller.abort();
    await Promise.all(others.map(([, done]) => done));
  }

  /** Accepts no more; connections end when what was said last has been sent. */
  close(): void {
    this.listener.close();
    for (const socket of this.#sockets) socket.destroySoon();
  }

  #accept(socket: net.Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
    let asked = false;
    const onLine = (line: string): void => {
      if (asked) return;
      asked = true;
      const controller = new AbortController();
      socket.on('close', () => {
        controller.abort();
      });
      const done = this.#answer(socket, line, controller).finally(() => {
        this.#running.delete(controller);
      });
      this.#running.set(controller, done);
    };
    readLines(socket, onLine, MAX_REQUEST_CHARS);
  }

  /** Never rejects. */
  async #answer(socket: net.Socket, line: string, controller: AbortController): Promise<void> {
    const say = (reply: ControlReply): void => {
      if (!socket.destroyed) socket.write(encodeLine(reply));
    };
    const context: OperationContext = {
      signal: controller.signal,
      onProgress: atMostEvery(PROGRESS_INTERVAL_MS, (progress) => {
        say({ progress });
      }),
      send: async (part) => {
        say({ part });
        if (socket.writableNeedDrain) await drained(socket);
      },
    };
    try {
      const request = checkRequest(line);
      const result = await this.#find(request)(request.arguments, context);
      say({ result: result ?? null });
    } catch (error) {
      say(encodeError(error));
    }
    socket.end();
  }

  #find(request: ControlRequest): Operation {
    const known = Object.hasOwn(this.operations, request.operation);
    if (known) return this.operations[request.operation]!;
    throw new ChunkvolError('usage', `the server knows no operation ${request.operation}`);
  }
}

/** Waits until the client has taken what was sent, or is gone. */
function drained(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done);
      resolve();
    };
    socket.on('drain', done).on('close', done);
  });
}

function checkRequest(line: string): ControlRequest {
  const request = decodeRequest(line);
  if (request?.protocol === CONTROL_PROTOCOL) return request;
  throw new ChunkvolError(
    'usage',
    'the server is of another version of chunkvol; detach with that version, and attach with this one',
  );
}

function atMostEvery(
  intervalMs: number,
  report: (progress: Progress) => void,
): (progress: Progress) => void {
  let next = 0;
  return (progress) => {
    const now = performance.now();
    if (now < next) return;
    next = now + intervalMs;
    report(progress);
  };
}
