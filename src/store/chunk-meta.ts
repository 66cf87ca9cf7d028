/**
 * Headers and footers of chunk files, sealed and opened: format/chunk-header.ts and format/footer.ts
 * under the keys of crypto/. Whatever does not authenticate, or does not decode, is null: a file
 * counts as damaged, never as an error that stops the program. Only a newer format version is thrown.
 */
import { equalBytes, fromHex } from '../base/bytes.js';
import { ChunkvolError } from '../base/errors.js';
import type { OpenFile } from '../base/files.js';
import { HEADER_BYTES } from '../base/geometry.js';
import { derive } from '../crypto/derive.js';
import type { MaintenanceKeys } from '../crypto/key-schedule.js';
import { openRecord, sealRecord } from '../crypto/sealing.js';
import {
  decodeChunkHeader,
  encodeChunkHeader,
  HEADER_ID_BYTES,
  type ChunkHeader,
} from '../format/chunk-header.js';
import { FormatError, NewerFormatError } from '../format/codec.js';
import {
  decodeFooterBody,
  decodeTrailer,
  encodeFooterBody,
  encodeTrailer,
  TRAILER_BYTES,
  type FooterBody,
} from '../format/footer.js';

const NONCE_BYTES = 12;
const AAD = {
  header: Buffer.from('chunk header'),
  body: Buffer.from('chunk footer'),
  trailer: Buffer.from('chunk trailer'),
};

export function sealHeader(keys: MaintenanceKeys, header: ChunkHeader): Uint8Array {
  const id = headerId(keys, header.groupId, header.place);
  const sealed = sealRecord(
    keys.header,
    id.subarray(0, NONCE_BYTES),
    encodeChunkHeader(header),
    AAD.header,
  );
  const bytes = new Uint8Array(HEADER_BYTES);
  bytes.set(id, 0);
  bytes.set(sealed, HEADER_ID_BYTES);
  return bytes;
}

export function openHeader(keys: MaintenanceKeys, bytes: Uint8Array): ChunkHeader | null {
  if (bytes.length < HEADER_BYTES) return null;
  const id = bytes.subarray(0, HEADER_ID_BYTES);
  const sealed = bytes.subarray(HEADER_ID_BYTES, HEADER_BYTES);
  const plain = openRecord(keys.header, id.subarray(0, NONCE_BYTES), sealed, AAD.header);
  const header = plain && decodeOrNull(() => decodeChunkHeader(plain));
  if (!header) return null;
  return equalBytes(id, headerId(keys, header.groupId, header.place)) ? header : null;
}

/** Derived, not drawn: a rebuilt file has the same header. */
function headerId(keys: MaintenanceKeys, groupId: Uint8Array, place: number): Uint8Array {
  const full = derive(keys.headerId, 'header id', groupId, Uint8Array.of(place));
  return full.subarray(0, HEADER_ID_BYTES);
}

/** Body and trailer, sealed: what follows data and fill in the file that will bear `name`. */
export function sealFooter(
  keys: MaintenanceKeys,
  name: string,
  manifest: Uint8Array,
  macs: readonly Uint8Array[],
  fileBytes: number,
): Uint8Array {
  const nonce = nameNonce(name);
  const body = sealRecord(keys.footer, nonce, encodeFooterBody(manifest, macs), AAD.body);
  const trailer = encodeTrailer({ bodyBytes: body.length, fileBytes });
  return Buffer.concat([body, sealRecord(keys.trailer, nonce, trailer, AAD.trailer)]);
}

/**
 * The footer of an open file that should have the final name `name`, and end at `fileBytes`; null when it
 * does not hold one.
 */
export async function readFooter(
  keys: MaintenanceKeys,
  file: OpenFile,
  name: string,
  fileBytes: number,
): Promise<FooterBody | null> {
  const nonce = nameNonce(name);
  const sealedTrailer = await readExactly(file, fileBytes - TRAILER_BYTES, TRAILER_BYTES);
  const trailerPlain = sealedTrailer && openRecord(keys.trailer, nonce, sealedTrailer, AAD.trailer);
  const trailer = trailerPlain && decodeOrNull(() => decodeTrailer(trailerPlain));
  if (trailer?.fileBytes !== fileBytes) return null;
  const bodyAt = fileBytes - TRAILER_BYTES - trailer.bodyBytes;
  const sealedBody = await readExactly(file, bodyAt, trailer.bodyBytes);
  const plain = sealedBody && openRecord(keys.footer, nonce, sealedBody, AAD.body);
  return plain && decodeOrNull(() => decodeFooterBody(plain));
}

/** Reads a header through an open file. */
export async function readHeader(
  keys: MaintenanceKeys,
  file: OpenFile,
): Promise<ChunkHeader | null> {
  const bytes = await readExactly(file, 0, HEADER_BYTES);
  return bytes && openHeader(keys, bytes);
}

/** Whether a header is that of the member at `place` of a group. */
export function isHeaderOf(
  header: ChunkHeader | null,
  group: { readonly id: Uint8Array },
  place: number,
): header is ChunkHeader {
  return header?.place === place && equalBytes(header.groupId, group.id);
}

export async function readExactly(
  file: OpenFile,
  position: number,
  length: number,
): Promise<Uint8Array | null> {
  if (position < 0) return null;
  const bytes = new Uint8Array(length);
  return (await file.read(bytes, position)) === length ? bytes : null;
}

function nameNonce(name: string): Uint8Array {
  const binary = fromHex(name);
  if (!binary || binary.length < NONCE_BYTES) throw new RangeError(`not a file name: ${name}`);
  return binary.subarray(0, NONCE_BYTES);
}

/** null for what is corrupt; a newer version is for the user to know. */
export function decodeOrNull<T>(decode: () => T): T | null {
  try {
    return decode();
  } catch (error) {
    if (error instanceof NewerFormatError) {
      throw new ChunkvolError('newer-format', `${error.message}; use a newer chunkvol`, {
        cause: error,
      });
    }
    if (error instanceof FormatError) return null;
    throw error;
  }
}
