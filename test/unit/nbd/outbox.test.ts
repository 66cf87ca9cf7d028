/** The outbox on a scripted socket, whose writes are taken when the test says so. */
import { Writable } from 'node:stream';
import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { Outbox } from '../../../src/nbd/outbox.js';

/** Collects what is written in batches; a batch is done when `take` is called. */
class ScriptedSocket extends Writable {
  readonly batches: string[] = [];
  #taken: (() => void) | null = null;

  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this.batches.push(Buffer.concat(chunks.map(({ chunk }) => chunk)).toString());
    this.#taken = callback;
  }

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this._writev([{ chunk }], callback);
  }

  async take(): Promise<void> {
    this.#taken?.();
    await turn();
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 1);
  });
}

function start(): { socket: ScriptedSocket; outbox: Outbox<string>; sent: string[] } {
  const socket = new ScriptedSocket();
  const sent: string[] = [];
  const outbox = new Outbox<string>(socket as unknown as Socket, (tickets) => {
    sent.push(tickets.join('+'));
  });
  return { socket, outbox, sent };
}

function sendShort(outbox: Outbox<string>, text: string): void {
  const at = outbox.reserve(text.length, text);
  outbox.strip.write(text, at);
}

describe('Outbox', () => {
  it('sends what one turn brought as one batch, and hands back its tickets when it has left', async () => {
    const { socket, outbox, sent } = start();
    outbox.send(Buffer.from('long'), 'a');
    sendShort(outbox, 'b');
    sendShort(outbox, 'c');
    expect(socket.batches).toEqual([]);
    await turn();
    expect([socket.batches, sent]).toEqual([['longbc'], []]);
    await socket.take();
    expect(sent).toEqual(['a+b+c']);
  });

  it('has one batch under way at a time', async () => {
    const { socket, outbox, sent } = start();
    sendShort(outbox, 'a');
    await turn();
    sendShort(outbox, 'b');
    await turn();
    outbox.send(Buffer.from('c'), 'c');
    await turn();
    expect(socket.batches).toEqual(['a']);
    expect(outbox.empty).toBe(false);
    await socket.take();
    expect([socket.batches, sent]).toEqual([['a', 'cb'], ['a']]);
    await socket.take();
    expect(sent).toEqual(['a', 'b+c']);
    expect(outbox.empty).toBe(true);
  });

  it('tells when it is empty', async () => {
    const { socket, outbox } = start();
    let told = 0;
    outbox.whenEmpty(() => (told += 1));
    expect(told).toBe(1);
    outbox.send(Buffer.from('x'));
    outbox.whenEmpty(() => (told += 1));
    await turn();
    expect(told).toBe(1);
    await socket.take();
    expect(told).toBe(2);
  });

  it('keeps short replies whole over many strips', async () => {
    const { socket, outbox } = start();
    const texts = Array.from({ length: 3000 }, (_, index) => `reply ${index};`);
    for (const text of texts) sendShort(outbox, text);
    await turn();
    expect(socket.batches).toEqual([texts.join('')]);
  });
});
