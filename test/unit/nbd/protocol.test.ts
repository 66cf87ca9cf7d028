import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as protocol from '../../../src/nbd/protocol.js';

const uint16 = fc.integer({ min: 0, max: 0xffff });
const uint32 = fc.integer({ min: 0, max: 0xffffffff });
const offset = fc.maxSafeNat();
const text = fc.string({ unit: 'grapheme' });

describe('transmission structures', () => {
  it('are the bytes of the specification', () => {
    const request = Buffer.alloc(28);
    protocol.encodeRequest(request, 0, {
      flags: protocol.CommandFlag.fua,
      command: protocol.Command.write,
      cookieHigh: 0x01020304,
      cookieLow: 0x05060708,
      offset: 2 ** 40 + 512,
      bytes: 4096,
    });
    expect(request.toString('hex')).toBe(
      '25609513' + '0001' + '0001' + '0102030405060708' + '0000010000000200' + '00001000',
    );
    const reply = Buffer.alloc(16);
    protocol.encodeSimpleReply(reply, 0, { cookieHigh: 1, cookieLow: 2 }, protocol.Errno.noSpace);
    expect(reply.toString('hex')).toBe('67446698' + '0000001c' + '0000000100000002');
    const chunk = Buffer.alloc(28);
    protocol.encodeDataChunk(chunk, 0, { cookieHigh: 0, cookieLow: 9 }, 4096, 512);
    expect(chunk.toString('hex')).toBe(
      '668e33ef' + '0001' + '0001' + '0000000000000009' + '00000208' + '0000000000001000',
    );
    const error = Buffer.alloc(26);
    protocol.encodeErrorChunk(error, 0, { cookieHigh: 0, cookieLow: 9 }, protocol.Errno.io);
    expect(error.toString('hex')).toBe(
      '668e33ef' + '0001' + '8001' + '0000000000000009' + '00000006' + '00000005' + '0000',
    );
  });

  it('come back from their bytes', () => {
    const anyRequest = fc.record({
      flags: uint16,
      command: uint16,
      cookieHigh: uint32,
      cookieLow: uint32,
      offset,
      bytes: uint32,
    });
    fc.assert(
      fc.property(anyRequest, fc.nat(8), (request, at) => {
        const bytes = Buffer.alloc(at + protocol.REQUEST_BYTES);
        protocol.encodeRequest(bytes, at, request);
        expect(protocol.decodeRequest(bytes.subarray(at))).toEqual(request);
      }),
    );
  });

  it('are refused under another magic', () => {
    expect(protocol.decodeRequest(Buffer.alloc(28))).toBeNull();
    expect(protocol.decodeReplyHead(Buffer.alloc(16))).toBeNull();
  });

  it('keep extents in a status chunk', () => {
    const extents = fc.array(fc.record({ bytes: uint32, flags: uint32 }), { minLength: 1 });
    fc.assert(
      fc.property(extents, uint32, (list, id) => {
        const chunk = protocol.encodeStatusChunk({ cookieHigh: 7, cookieLow: 8 }, id, list);
        expect(protocol.decodeReplyHead(chunk)).toMatchObject({
          kind: 'chunk',
          flags: protocol.CHUNK_DONE,
          type: protocol.ChunkType.blockStatus,
          cookieLow: 8,
        });
        const payload = chunk.subarray(protocol.CHUNK_HEADER_BYTES);
        expect(chunk.readUInt32BE(16)).toBe(payload.length);
        expect(payload.readUInt32BE(0)).toBe(id);
        expect(protocol.decodeStatusPayload(payload)).toEqual(list);
      }),
    );
    expect(protocol.decodeStatusPayload(Buffer.alloc(4))).toBeNull();
    expect(protocol.decodeStatusPayload(Buffer.alloc(13))).toBeNull();
  });

  it('show an offset beyond 2^53 as larger than any disk', () => {
    const request = Buffer.alloc(28);
    protocol.encodeRequest(request, 0, {
      flags: 0,
      command: 0,
      cookieHigh: 0,
      cookieLow: 0,
      offset: 0,
      bytes: 1,
    });
    request.fill(0xff, 16, 24);
    expect(protocol.decodeRequest(request)?.offset).toBeGreaterThanOrEqual(2 ** 63);
  });
});

describe('handshake structures', () => {
  it('are the bytes of the specification', () => {
    expect(protocol.encodeGreeting(3).toString('hex')).toBe(
      Buffer.from('NBDMAGICIHAVEOPT').toString('hex') + '0003',
    );
    expect(protocol.encodeOption(protocol.Option.list).toString('hex')).toBe(
      Buffer.from('IHAVEOPT').toString('hex') + '00000003' + '00000000',
    );
    expect(
      protocol.encodeOptionReply(3, protocol.OptionReply.errorUnsupported).toString('hex'),
    ).toBe('0003e889045565a9' + '00000003' + '80000001' + '00000000');
    expect(protocol.encodeInfoRequest({ exportName: 'ab', infos: [1, 3] }).toString('hex')).toBe(
      '00000002' + '6162' + '0002' + '0001' + '0003',
    );
    const info = { sizeBytes: 2 ** 50, transmissionFlags: 0x0d6d };
    expect(protocol.encodeExportInfo(info).toString('hex')).toBe(
      '0000' + '0004000000000000' + '0d6d',
    );
    expect(protocol.encodeExportNameReply(info, true)).toHaveLength(10);
    expect(protocol.encodeExportNameReply(info, false)).toHaveLength(134);
  });

  it('come back from their bytes', () => {
    fc.assert(
      fc.property(text, fc.array(uint16), (exportName, infos) => {
        const request = { exportName, infos };
        expect(protocol.decodeInfoRequest(protocol.encodeInfoRequest(request))).toEqual(request);
      }),
    );
    fc.assert(
      fc.property(text, fc.array(text), (exportName, queries) => {
        const request = { exportName, queries };
        const bytes = protocol.encodeMetaContextRequest(request);
        expect(protocol.decodeMetaContextRequest(bytes)).toEqual(request);
      }),
    );
    fc.assert(
      fc.property(text, text, uint32, (name, description, id) => {
        const entry = { name, description };
        expect(protocol.decodeListEntry(protocol.encodeListEntry(entry))).toEqual(entry);
        const context = { id, name };
        expect(protocol.decodeMetaContext(protocol.encodeMetaContext(context))).toEqual(context);
      }),
    );
    fc.assert(
      fc.property(offset, uint16, (sizeBytes, transmissionFlags) => {
        const info = { sizeBytes, transmissionFlags };
        expect(protocol.decodeExportInfo(protocol.encodeExportInfo(info))).toEqual(info);
      }),
    );
  });

  it('are null, never an exception, when cut, extended or random', () => {
    const whole = protocol.encodeMetaContextRequest({ exportName: 'x', queries: ['a:b', 'c:'] });
    const info = protocol.encodeInfoRequest({ exportName: 'x', infos: [1, 2] });
    for (let length = 0; length < whole.length; length++) {
      expect(protocol.decodeMetaContextRequest(whole.subarray(0, length))).toBeNull();
    }
    for (let length = 0; length < info.length; length++) {
      expect(protocol.decodeInfoRequest(info.subarray(0, length))).toBeNull();
    }
    const extra = Buffer.from([0]);
    expect(protocol.decodeMetaContextRequest(Buffer.concat([whole, extra]))).toBeNull();
    expect(protocol.decodeInfoRequest(Buffer.concat([info, extra]))).toBeNull();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const buffer = Buffer.from(bytes);
        protocol.decodeMetaContextRequest(buffer);
        protocol.decodeInfoRequest(buffer);
        protocol.decodeListEntry(buffer);
        protocol.decodeExportInfo(buffer);
      }),
    );
  });
});
