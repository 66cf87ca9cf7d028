/**
 * The server's side of the handshake: fixed newstyle negotiation, up to the moment when a client has
 * chosen an export.
 *
 * Whatever a client sends, at most MAX_OPTION_BYTES of it are held, a longer option is skipped and
 * refused, and no option is read before the answers to the earlier ones have left: a client that asks
 * and never reads is stopped by its own silence. How long all this may take is the connection's affair.
 */
import { isChunkvolError } from '../base/errors.js';
import { blockSizes, transmissionFlags } from './exports.js';
import type { ExportDirectory, NbdExport, OpenDisk, Session } from './exports.js';
import type { Intake } from './intake.js';
import * as protocol from './protocol.js';
import { HandshakeFlag, Info, Option, OptionReply } from './protocol.js';

/** Enough for a name of the longest kind and thousands of information requests. */
const MAX_OPTION_BYTES: number = 64 * 1024;

const SERVER_FLAGS = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;

/** What the handshake needs of the connection it runs on. */
export interface HandshakeLink {
  readonly intake: Intake;
  send(bytes: Uint8Array): void;
  /** Calls `then` when everything sent so far has left. */
  whenSent(then: () => void): void;
  /** Ends the connection after what was sent. */
  close(): void;
}

export class Handshake {
  #structuredReplies = false;
  #noZeroes = false;
  #fixedNewstyle = false;
  /** The name of the export for which base:allocation was last selected. */
  #contextExport: string | null = null;

  constructor(
    private readonly link: HandshakeLink,
    private readonly directory: ExportDirectory,
    private readonly onReady: (session: Session, disk: OpenDisk) => void,
  ) {}

  start(): void {
    this.link.send(protocol.encodeGreeting(SERVER_FLAGS));
    const flags = Buffer.alloc(protocol.CLIENT_FLAGS_BYTES);
    this.link.intake.fill(flags, () => {
      this.#onClientFlags(protocol.decodeClientFlags(flags));
    });
  }

  #onClientFlags(flags: number): void {
    if ((flags & ~SERVER_FLAGS) !== 0) {
      this.link.close();
      return;
    }
    this.#fixedNewstyle = (flags & HandshakeFlag.fixedNewstyle) !== 0;
    this.#noZeroes = (flags & HandshakeFlag.noZeroes) !== 0;
    this.#nextOption();
  }

  #nextOption(): void {
    this.link.whenSent(() => {
      const header = Buffer.alloc(protocol.OPTION_HEADER_BYTES);
      this.link.intake.fill(header, () => {
        this.#onOptionHeader(protocol.decodeOptionHeader(header));
      });
    });
  }

  #onOptionHeader(header: protocol.OptionHeader | null): void {
    // A client of the older, non-fixed kind knows EXPORT_NAME alone and understands no refusal.
    if (header === null || (!this.#fixedNewstyle && header.option !== Option.exportName)) {
      this.link.close();
      return;
    }
    const { option, dataBytes } = header;
    if (dataBytes > MAX_OPTION_BYTES) {
      this.#skipOption(option, dataBytes);
      return;
    }
    const data = Buffer.alloc(dataBytes);
    this.link.intake.fill(data, () => {
      this.#onOption(option, data);
    });
  }

  #skipOption(option: number, dataBytes: number): void {
    if (option === Option.exportName) {
      this.link.close();
      return;
    }
    this.link.intake.skip(dataBytes, () => {
      this.#answer(option, OptionReply.errorTooBig);
    });
  }

  #onOption(option: number, data: Buffer): void {
    switch (option) {
      case Option.exportName:
        this.#onExportName(data);
        break;
      case Option.abort:
        this.#reply(option, OptionReply.ack);
        this.link.close();
        break;
      case Option.list:
        this.#onList(data);
        break;
      case Option.info:
      case Option.go:
        this.#onInfo(option, data);
        break;
      case Option.structuredReply:
        this.#onStructuredReply(data);
        break;
      case Option.listMetaContext:
      case Option.setMetaContext:
        this.#onMetaContext(option, data);
        break;
      default:
        // STARTTLS among them: a server without TLS knows the option no more than any other.
        this.#answer(option, OptionReply.errorUnsupported);
    }
  }

  /** The one option that has no way to say no. */
  #onExportName(data: Buffer): void {
    const tooLong = data.length > protocol.MAX_STRING_BYTES;
    const found = tooLong ? null : this.directory.find(data.toString('utf8'));
    const disk = found && openOrNull(found);
    if (disk === null) {
      this.link.close();
      return;
    }
    this.link.send(protocol.encodeExportNameReply(this.#exportInfo(found!), this.#noZeroes));
    this.#enter(found!, disk);
  }

  #onList(data: Buffer): void {
    if (data.length > 0) {
      this.#answer(Option.list, OptionReply.errorInvalid);
      return;
    }
    for (const entry of this.directory.list()) {
      this.#reply(Option.list, OptionReply.server, protocol.encodeListEntry(entry));
    }
    this.#answer(Option.list, OptionReply.ack);
  }

  #onInfo(option: number, data: Buffer): void {
    const request = protocol.decodeInfoRequest(data);
    const found = this.#findOrRefuse(option, request);
    if (request === null || found === null) return;
    const disk = option === Option.go ? openOrNull(found) : null;
    if (option === Option.go && disk === null) {
      this.#answer(option, OptionReply.errorUnknown);
      return;
    }
    this.#reply(option, OptionReply.info, protocol.encodeExportInfo(this.#exportInfo(found)));
    for (const info of new Set(request.infos)) {
      const payload = encodeInfo(info, found);
      if (payload !== null) this.#reply(option, OptionReply.info, payload);
    }
    if (disk === null) {
      this.#answer(option, OptionReply.ack);
    } else {
      this.#reply(option, OptionReply.ack);
      this.#enter(found, disk);
    }
  }

  #onStructuredReply(data: Buffer): void {
    if (data.length > 0) {
      this.#answer(Option.structuredReply, OptionReply.errorInvalid);
      return;
    }
    this.#structuredReplies = true;
    this.#answer(Option.structuredReply, OptionReply.ack);
  }

  #onMetaContext(option: number, data: Buffer): void {
    const selecting = option === Option.setMetaContext;
    // Whatever comes of it, SET ends what an earlier SET had selected.
    if (selecting) this.#contextExport = null;
    const request = this.#structuredReplies ? protocol.decodeMetaContextRequest(data) : null;
    const found = this.#findOrRefuse(option, request);
    if (request === null || found === null) return;
    if (namesAllocation(request.queries, selecting)) {
      const id = selecting ? protocol.ALLOCATION_CONTEXT_ID : 0;
      const context = { id, name: protocol.ALLOCATION_CONTEXT };
      this.#reply(option, OptionReply.metaContext, protocol.encodeMetaContext(context));
      if (selecting) this.#contextExport = found.name;
    }
    this.#answer(option, OptionReply.ack);
  }

  /** The export that a decoded request names; null after the client has been told what is wrong. */
  #findOrRefuse(option: number, request: { readonly exportName: string } | null): NbdExport | null {
    if (request === null) {
      this.#answer(option, OptionReply.errorInvalid);
      return null;
    }
    if (Buffer.byteLength(request.exportName) > protocol.MAX_STRING_BYTES) {
      this.#answer(option, OptionReply.errorTooBig);
      return null;
    }
    const found = this.directory.find(request.exportName);
    if (found === null) this.#answer(option, OptionReply.errorUnknown);
    return found;
  }

  #exportInfo(found: NbdExport): protocol.ExportInfo {
    return {
      sizeBytes: found.facts.sizeBytes,
      transmissionFlags: transmissionFlags(found.facts, this.#structuredReplies),
    };
  }

  #enter(found: NbdExport, disk: OpenDisk): void {
    const session = {
      device: disk.device,
      structuredReplies: this.#structuredReplies,
      allocationContext: this.#contextExport === found.name,
    };
    this.onReady(session, disk);
  }

  #reply(option: number, type: number, data?: Uint8Array): void {
    this.link.send(protocol.encodeOptionReply(option, type, data));
  }

  /** The last reply to an option. */
  #answer(option: number, type: number): void {
    this.#reply(option, type);
    this.#nextOption();
  }
}

/** Null for a disk that went away between being found and being opened. */
function openOrNull(found: NbdExport): OpenDisk | null {
  try {
    return found.open();
  } catch (error) {
    if (isChunkvolError(error)) return null;
    throw error;
  }
}

/** Null for information that this server does not have, or has sent already. */
function encodeInfo(info: number, found: NbdExport): Buffer | null {
  switch (info) {
    case Info.name:
      return protocol.encodeTextInfo(info, found.name);
    case Info.description:
      return protocol.encodeTextInfo(info, found.description);
    case Info.blockSize:
      return protocol.encodeBlockSizeInfo(blockSizes(found.facts));
    default:
      return null;
  }
}

/** A list may ask for everything, or for all of "base:"; a selection names the context in full. */
function namesAllocation(queries: readonly string[], selecting: boolean): boolean {
  if (queries.includes(protocol.ALLOCATION_CONTEXT)) return true;
  return !selecting && (queries.length === 0 || queries.includes('base:'));
}
