/** The handshake against a scripted client: what is sent in, what comes out, and when it ends. */
import { describe, expect, it } from 'vitest';
import { ChunkvolError } from '../../../src/base/errors.js';
import type { NbdExport, Session } from '../../../src/nbd/exports.js';
import { Handshake } from '../../../src/nbd/handshake.js';
import { Intake } from '../../../src/nbd/intake.js';
import * as protocol from '../../../src/nbd/protocol.js';
import { Info, Option, OptionReply, TransmissionFlag } from '../../../src/nbd/protocol.js';
import { MemoryDevice } from '../../support/memory-device.js';
import { exportOf } from '../../support/nbd-harness.js';

const SIZE = 5_000_000;
const disk = exportOf('disk', 'Ein Daten­träger', device());
const frozen = exportOf('frozen', '', device(true));

function device(readOnly = false): MemoryDevice {
  return new MemoryDevice(SIZE, { blockBytes: 16384, readOnly });
}

/** One client's script: `sent` is everything the server said since it was last looked at. */
class Script {
  session: Session | null = null;
  closed = false;
  #sent: Buffer[] = [];
  /** With `manual`, what the server sends is not taken off its hands until `drain`. */
  #waiting: (() => void) | null = null;
  readonly #intake = new Intake(() => undefined);

  constructor(
    private readonly manual = false,
    exports: readonly NbdExport[] = [disk, frozen],
  ) {
    const handshake = new Handshake(
      {
        intake: this.#intake,
        send: (bytes) => this.#sent.push(Buffer.from(bytes)),
        whenSent: (then) => {
          if (this.manual) this.#waiting = then;
          else then();
        },
        close: () => (this.closed = true),
      },
      {
        find: (name) => exports.find((one) => one.name === (name || 'disk')) ?? null,
        list: () => [...exports],
      },
      (session) => (this.session = session),
    );
    handshake.start();
  }

  static afterFlags(flags = 3, exports?: readonly NbdExport[]): Script {
    const script = new Script(false, exports);
    script.push(protocol.encodeClientFlags(flags));
    script.sent();
    return script;
  }

  push(bytes: Buffer): void {
    this.#intake.push(bytes);
  }

  sent(): Buffer {
    const all = Buffer.concat(this.#sent);
    this.#sent = [];
    return all;
  }

  drain(): void {
    this.#waiting?.();
  }

  /** Sends an option and takes its replies apart. */
  ask(option: number, data?: Uint8Array): { type: number; data: Buffer }[] {
    this.push(protocol.encodeOption(option, data));
    const bytes = this.sent();
    const replies: { type: number; data: Buffer }[] = [];
    for (let at = 0; at < bytes.length;) {
      const header = protocol.decodeOptionReplyHeader(bytes.subarray(at))!;
      expect(header.option).toBe(option);
      at += protocol.OPTION_REPLY_HEADER_BYTES;
      replies.push({ type: header.type, data: bytes.subarray(at, at + header.dataBytes) });
      at += header.dataBytes;
    }
    return replies;
  }

  types(option: number, data?: Uint8Array): number[] {
    return this.ask(option, data).map((reply) => reply.type);
  }
}

function goData(exportName: string, ...infos: number[]): Buffer {
  return protocol.encodeInfoRequest({ exportName, infos });
}

function metaData(exportName: string, ...queries: string[]): Buffer {
  return protocol.encodeMetaContextRequest({ exportName, queries });
}

describe('greeting', () => {
  it('offers fixed newstyle and no zeroes', () => {
    expect(protocol.decodeGreeting(new Script().sent())).toBe(3);
  });

  it('ends when the client sets an unknown flag', () => {
    expect(Script.afterFlags(4).closed).toBe(true);
    expect(Script.afterFlags(0x80000001).closed).toBe(true);
  });

  it('ends at a wrong magic', () => {
    const script = Script.afterFlags();
    script.push(Buffer.alloc(16, 0x41));
    expect(script.closed).toBe(true);
    expect(script.sent()).toHaveLength(0);
  });

  it('gives a client without fixed newstyle EXPORT_NAME and nothing else', () => {
    const script = Script.afterFlags(0);
    script.push(protocol.encodeOption(Option.exportName, Buffer.from('disk')));
    expect(script.sent()).toHaveLength(134);
    expect(script.session).not.toBeNull();
    const other = Script.afterFlags(0);
    other.push(protocol.encodeOption(Option.list));
    expect(other.closed).toBe(true);
  });
});

describe('EXPORT_NAME', () => {
  it('answers with size and flags and enters the transmission phase', () => {
    const script = Script.afterFlags();
    script.push(protocol.encodeOption(Option.exportName, Buffer.from('frozen')));
    const reply = script.sent();
    expect(reply).toHaveLength(protocol.EXPORT_NAME_REPLY_BYTES);
    const info = protocol.decodeExportNameReply(reply);
    expect(info.sizeBytes).toBe(SIZE);
    const { hasFlags, readOnly, sendFlush, sendFua, sendCache, canMultiConn } = TransmissionFlag;
    expect(info.transmissionFlags).toBe(
      hasFlags | readOnly | sendFlush | sendFua | sendCache | canMultiConn,
    );
    expect(script.session).toEqual({
      device: frozen.facts,
      structuredReplies: false,
      allocationContext: false,
    });
  });

  it('ends the connection when there is no such export, or the name is too long', () => {
    for (const name of ['none', 'x'.repeat(4097), 'x'.repeat(70_000)]) {
      const script = Script.afterFlags();
      script.push(protocol.encodeOption(Option.exportName, Buffer.from(name)));
      expect([script.closed, script.session]).toEqual([true, null]);
      expect(script.sent()).toHaveLength(0);
    }
  });
});

describe('a disk that cannot be opened', () => {
  const gone = {
    ...frozen,
    name: 'gone',
    open: () => {
      throw new ChunkvolError('not-found', 'there is no snapshot gone');
    },
  };

  it('is answered like one that was never there', () => {
    const script = Script.afterFlags(3, [disk, gone]);
    expect(script.types(Option.go, goData('gone'))).toEqual([OptionReply.errorUnknown]);
    expect([script.session, script.closed]).toEqual([null, false]);
    expect(script.types(Option.go, goData('disk'))).toEqual([OptionReply.info, OptionReply.ack]);
  });

  it('ends the connection of a client that asks by EXPORT_NAME', () => {
    const script = Script.afterFlags(3, [disk, gone]);
    script.push(protocol.encodeOption(Option.exportName, Buffer.from('gone')));
    expect([script.session, script.closed]).toEqual([null, true]);
  });
});

describe('GO and INFO', () => {
  it('give what is asked for, once', () => {
    const script = Script.afterFlags();
    const infos = [Info.blockSize, Info.name, Info.description, Info.name, 99, Info.export];
    const replies = script.ask(Option.info, goData('', ...infos));
    expect(replies.map((reply) => reply.type)).toEqual([3, 3, 3, 3, OptionReply.ack]);
    const [exported, sizes, name, description] = replies.map((reply) => reply.data);
    expect(protocol.decodeExportInfo(exported!)?.sizeBytes).toBe(SIZE);
    expect(protocol.decodeBlockSizeInfo(sizes!)).toEqual({
      minimumBytes: 1,
      preferredBytes: 16384,
      maximumBytes: 32 * 1024 * 1024,
    });
    expect(name!.toString('utf8', 2)).toBe('disk');
    expect(description!.toString('utf8', 2)).toBe('Ein Daten­träger');
    expect(script.session).toBeNull();
    expect(script.types(Option.go, goData('disk'))).toEqual([OptionReply.info, OptionReply.ack]);
    expect(script.session?.device).toBe(disk.facts);
  });

  it('show DF only after structured replies', () => {
    const script = Script.afterFlags();
    const flagsOf = (): number =>
      protocol.decodeExportInfo(script.ask(Option.info, goData('disk'))[0]!.data)!
        .transmissionFlags;
    const before = flagsOf();
    expect(before & TransmissionFlag.sendDontFragment).toBe(0);
    expect(script.types(Option.structuredReply)).toEqual([OptionReply.ack]);
    expect(flagsOf()).toBe(before | TransmissionFlag.sendDontFragment);
    const { sendTrim, sendWriteZeroes, sendFastZero } = TransmissionFlag;
    const writing = sendTrim | sendWriteZeroes | sendFastZero;
    expect(before & writing).toBe(writing);
  });

  it('refuse unknown names, long names and broken requests, and go on', () => {
    const script = Script.afterFlags();
    expect(script.types(Option.go, goData('none'))).toEqual([OptionReply.errorUnknown]);
    expect(script.types(Option.go, goData('x'.repeat(4096)))).toEqual([OptionReply.errorUnknown]);
    expect(script.types(Option.go, goData('x'.repeat(4097)))).toEqual([OptionReply.errorTooBig]);
    expect(script.types(Option.go, Buffer.alloc(3))).toEqual([OptionReply.errorInvalid]);
    const cut = goData('disk', 1, 2);
    expect(script.types(Option.go, cut.subarray(0, -1))).toEqual([OptionReply.errorInvalid]);
    expect(script.types(Option.go, goData('disk')).at(-1)).toBe(OptionReply.ack);
  });
});

describe('other options', () => {
  it('LIST names every export', () => {
    const script = Script.afterFlags();
    const replies = script.ask(Option.list);
    expect(replies.map((reply) => reply.type)).toEqual([2, 2, OptionReply.ack]);
    expect(protocol.decodeListEntry(replies[1]!.data)).toEqual({ name: 'frozen', description: '' });
    expect(script.types(Option.list, Buffer.from('x'))).toEqual([OptionReply.errorInvalid]);
    expect(script.types(Option.structuredReply, Buffer.from('x'))).toEqual([
      OptionReply.errorInvalid,
    ]);
  });

  it('unknown ones, and TLS, are unsupported', () => {
    const script = Script.afterFlags();
    for (const option of [0, 4, Option.startTls, 11, 12, 0xffffffff]) {
      expect(script.types(option, Buffer.from('data'))).toEqual([OptionReply.errorUnsupported]);
    }
  });

  it('ABORT is acknowledged, and the end', () => {
    const script = Script.afterFlags();
    expect(script.types(Option.abort, Buffer.from('why'))).toEqual([OptionReply.ack]);
    expect(script.closed).toBe(true);
  });

  it('a long one is skipped and refused, and the next is understood', () => {
    const script = Script.afterFlags();
    const long = Buffer.alloc(65537);
    expect(script.types(Option.info, long)).toEqual([OptionReply.errorTooBig]);
    expect(script.types(Option.info, goData('disk')).at(-1)).toBe(OptionReply.ack);
  });

  it('none is read before the answers to the last have left', () => {
    const script = new Script(true);
    script.push(protocol.encodeClientFlags(3));
    for (let count = 0; count < 100; count++) script.push(protocol.encodeOption(Option.list));
    script.sent();
    script.drain();
    const one = script.sent().length;
    expect(one).toBeGreaterThan(0);
    script.drain();
    expect(script.sent()).toHaveLength(one);
  });
});

describe('metadata contexts', () => {
  const allocation = 'base:allocation';

  function negotiated(): Script {
    const script = Script.afterFlags();
    script.ask(Option.structuredReply);
    return script;
  }

  it('need structured replies', () => {
    const script = Script.afterFlags();
    for (const option of [Option.listMetaContext, Option.setMetaContext]) {
      expect(script.types(option, metaData('disk', allocation))).toEqual([
        OptionReply.errorInvalid,
      ]);
    }
  });

  it.each([
    ['everything', [], 1, 0],
    ['the namespace', ['base:'], 1, 0],
    ['the context', [allocation], 1, 1],
    ['the context twice', [allocation, allocation], 1, 1],
    ['foreign namespaces', ['qemu:dirty-bitmap:x', 'base:other'], 0, 0],
    ['foreign and ours', ['qemu:x', allocation], 1, 1],
  ])('list and select: %s', (_name, queries, listed, selected) => {
    const script = negotiated();
    const data = metaData('disk', ...queries);
    const count = (option: number): number => {
      const replies = script.ask(option, data);
      expect(replies.at(-1)!.type).toBe(OptionReply.ack);
      return replies.length - 1;
    };
    expect([count(Option.listMetaContext), count(Option.setMetaContext)]).toEqual([
      listed,
      selected,
    ]);
    script.ask(Option.go, goData(''));
    expect(script.session?.allocationContext).toBe(selected === 1);
  });

  it('name the context and its id', () => {
    const [reply] = negotiated().ask(Option.setMetaContext, metaData('disk', allocation));
    expect(protocol.decodeMetaContext(reply!.data)).toEqual({ id: 1, name: allocation });
  });

  it('hold for the export they were selected for, until the next selection, even a failed one', () => {
    const other = negotiated();
    other.ask(Option.setMetaContext, metaData('disk', allocation));
    other.ask(Option.go, goData('frozen'));
    expect(other.session?.allocationContext).toBe(false);
    for (const [spoiler, answer] of [
      [metaData('disk'), OptionReply.ack],
      [metaData('none', allocation), OptionReply.errorUnknown],
      [Buffer.alloc(2), OptionReply.errorInvalid],
    ] as const) {
      const script = negotiated();
      script.ask(Option.setMetaContext, metaData('disk', allocation));
      expect(script.types(Option.setMetaContext, spoiler)).toEqual([answer]);
      script.ask(Option.go, goData('disk'));
      expect(script.session?.allocationContext).toBe(false);
    }
  });

  it('bound what a query may claim', () => {
    const data = metaData('disk', allocation);
    data.writeUInt32BE(0xffffffff, 8);
    expect(negotiated().types(Option.setMetaContext, data)).toEqual([OptionReply.errorInvalid]);
    const long = metaData('disk', allocation);
    long.writeUInt32BE(0xffffffff, 12);
    expect(negotiated().types(Option.setMetaContext, long)).toEqual([OptionReply.errorInvalid]);
  });
});
