/** The client's side of the handshake, one option after the other. */
import type { Socket } from 'node:net';
import { ChunkvolError } from '../base/errors.js';
import type { Intake } from './intake.js';
import * as protocol from './protocol.js';
import { HandshakeFlag, Info, Option, OptionReply } from './protocol.js';

/** The longest data of one option reply that a server can have a reason to send. */
const MAX_REPLY_BYTES: number = 64 * 1024;

/** What the server says of the export that was chosen. */
export interface Negotiated extends protocol.ExportInfo {
  readonly structuredReplies: boolean;
  /** The id of base:allocation, null where the server has none. */
  readonly allocationContextId: number | null;
  /** Null where the server did not say. */
  readonly blockSizes: protocol.BlockSizes | null;
  readonly description: string;
}

interface Reply {
  readonly type: number;
  readonly data: Buffer;
}

export class Negotiation {
  constructor(
    private readonly socket: Socket,
    private readonly intake: Intake,
  ) {}

  /** Reads the greeting and answers it. */
  async greet(): Promise<void> {
    const flags = protocol.decodeGreeting(await this.#take(protocol.GREETING_BYTES));
    if (flags === null || (flags & HandshakeFlag.fixedNewstyle) === 0) {
      throw new ChunkvolError('io', 'the peer is not an NBD server of the fixed newstyle protocol');
    }
    const known = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;
    this.socket.write(protocol.encodeClientFlags(flags & known));
  }

  /** The server's exports. */
  async list(): Promise<protocol.ListEntry[]> {
    const replies = await this.#ask(Option.list);
    refuse(replies.at(-1)!, 'list its exports');
    return replies
      .filter((reply) => reply.type === OptionReply.server)
      .map((reply) => decoded(protocol.decodeListEntry(reply.data)));
  }

  /** Agrees on as much as wanted and the server can, and enters the transmission phase. */
  async go(exportName: string, structuredReplies: boolean): Promise<Negotiated> {
    const structured = structuredReplies && accepted(await this.#ask(Option.structuredReply));
    const allocationContextId = structured ? await this.#selectAllocation(exportName) : null;
    const infos = [Info.description, Info.blockSize];
    const replies = await this.#ask(Option.go, protocol.encodeInfoRequest({ exportName, infos }));
    refuse(replies.at(-1)!, `open the export ${JSON.stringify(exportName)}`);
    const sizes = findInfo(replies, Info.blockSize);
    return {
      ...decoded(protocol.decodeExportInfo(decoded(findInfo(replies, Info.export)))),
      structuredReplies: structured,
      allocationContextId,
      blockSizes: sizes && protocol.decodeBlockSizeInfo(sizes),
      description: findInfo(replies, Info.description)?.toString('utf8', 2) ?? '',
    };
  }

  /** Takes leave of a server whose export was not opened. */
  async abort(): Promise<void> {
    await this.#ask(Option.abort);
  }

  async #selectAllocation(exportName: string): Promise<number | null> {
    const request = { exportName, queries: [protocol.ALLOCATION_CONTEXT] };
    const replies = await this.#ask(
      Option.setMetaContext,
      protocol.encodeMetaContextRequest(request),
    );
    const context = replies.find((reply) => reply.type === OptionReply.metaContext);
    if (context === undefined || !accepted(replies)) return null;
    return decoded(protocol.decodeMetaContext(context.data)).id;
  }

  /** All replies to an option, the final one (ACK or an error) last. */
  async #ask(option: number, data?: Uint8Array): Promise<Reply[]> {
    this.socket.write(protocol.encodeOption(option, data));
    const replies: Reply[] = [];
    for (;;) {
      const header = decoded(
        protocol.decodeOptionReplyHeader(await this.#take(protocol.OPTION_REPLY_HEADER_BYTES)),
      );
      if (header.dataBytes > MAX_REPLY_BYTES || header.option !== option) throw outOfStep();
      const { type, dataBytes } = header;
      replies.push({ type, data: await this.#take(dataBytes) });
      if (type === OptionReply.ack || protocol.isErrorReply(type)) return replies;
    }
  }

  #take(bytes: number): Promise<Buffer> {
    return new Promise((resolve) => {
      const target = Buffer.alloc(bytes);
      this.intake.fill(target, () => {
        resolve(target);
      });
    });
  }
}

function accepted(replies: readonly Reply[]): boolean {
  return replies.at(-1)?.type === OptionReply.ack;
}

function findInfo(replies: readonly Reply[], info: number): Buffer | null {
  const found = replies.find(
    ({ type, data }) =>
      type === OptionReply.info && data.length >= 2 && data.readUInt16BE() === info,
  );
  return found?.data ?? null;
}

function refuse(final: Reply, operation: string): void {
  if (final.type === OptionReply.ack) return;
  const reasons: Partial<Record<number, string>> = {
    [OptionReply.errorUnsupported]: 'it does not know how',
    [OptionReply.errorPolicy]: 'it is not allowed',
    [OptionReply.errorUnknown]: 'there is none of that name',
    [OptionReply.errorShutdown]: 'it is shutting down',
    [OptionReply.errorTooBig]: 'the name is too long',
  };
  const reason = reasons[final.type] ?? `error ${final.type}`;
  throw new ChunkvolError('io', `the NBD server refused to ${operation}: ${reason}`);
}

function decoded<T>(value: T | null): T {
  if (value === null) throw outOfStep();
  return value;
}

function outOfStep(): ChunkvolError {
  return new ChunkvolError('io', 'the NBD server does not keep to the protocol');
}
