/**
 * The functions of OpenSSL's libcrypto that the node binary itself exports, bound through koffi.
 *
 * Pointers are plain numbers (addresses below 2^53, 0 for NULL): the cheapest form to pass, and the
 * one that allows arithmetic. Whoever takes an address must keep the buffer referenced until the call
 * that uses it has returned.
 */
import { createRequire } from 'node:module';

type Address = number;

/** `params` is always NULL; it is part of the C signature. */
type Init = (
  context: Address,
  cipher: Address,
  key: Address,
  iv: Address,
  params: Address,
) => number;

/** With `out` NULL the input is associated data. `outBytes` is the address of a C int. */
type Update = (
  context: Address,
  out: Address,
  outBytes: Address,
  input: Address,
  bytes: number,
) => number;

type Final = (context: Address, out: Address, outBytes: Address) => number;

/** Those that return a status return 1 for success, and nothing else. */
export interface OpensslFunctions {
  readonly newContext: () => Address;
  readonly freeContext: (context: Address) => void;
  readonly aes256Gcm: () => Address;
  readonly aes256Ctr: () => Address;
  readonly encryptInit: Init;
  readonly decryptInit: Init;
  readonly encryptUpdate: Update;
  readonly decryptUpdate: Update;
  readonly encryptFinal: Final;
  /** Succeeds only when the tag matches. */
  readonly decryptFinal: Final;
  readonly control: (
    context: Address,
    command: number,
    argument: number,
    pointer: Address,
  ) => number;
  /** Empties the thread's queue of errors, where node:crypto would find ours. */
  readonly clearErrors: () => void;
  readonly addressOf: (bytes: Uint8Array) => Address;
}

/** Commands of `control`. */
export const GET_TAG = 0x10;
export const SET_TAG = 0x11;

const POINTER = 'uintptr_t';

/** Throws when koffi has no binary for this platform or a function is not exported. */
export function loadOpenssl(): OpensslFunctions {
  const { default: koffi } = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const program = koffi.load(null);
  const bind = (name: string, result: string, ...types: string[]): unknown =>
    program.func(name, result, types);
  const pointers = (count: number): string[] => new Array<string>(count).fill(POINTER);
  return {
    newContext: bind('EVP_CIPHER_CTX_new', POINTER),
    freeContext: bind('EVP_CIPHER_CTX_free', 'void', POINTER),
    aes256Gcm: bind('EVP_aes_256_gcm', POINTER),
    aes256Ctr: bind('EVP_aes_256_ctr', POINTER),
    encryptInit: bind('EVP_EncryptInit_ex2', 'int', ...pointers(5)),
    decryptInit: bind('EVP_DecryptInit_ex2', 'int', ...pointers(5)),
    encryptUpdate: bind('EVP_EncryptUpdate', 'int', ...pointers(4), 'int'),
    decryptUpdate: bind('EVP_DecryptUpdate', 'int', ...pointers(4), 'int'),
    encryptFinal: bind('EVP_EncryptFinal_ex', 'int', ...pointers(3)),
    decryptFinal: bind('EVP_DecryptFinal_ex', 'int', ...pointers(3)),
    control: bind('EVP_CIPHER_CTX_ctrl', 'int', POINTER, 'int', 'int', POINTER),
    clearErrors: bind('ERR_clear_error', 'void'),
    addressOf: (bytes: Uint8Array): Address => exactAddress(koffi.address(bytes)),
  } as OpensslFunctions;
}

/** Throws RangeError for an address that no number holds exactly. */
export function exactAddress(address: bigint): Address {
  const exact = Number(address);
  if (Number.isSafeInteger(exact)) return exact;
  throw new RangeError('the buffer lies above 2^53, out of the reach of exact numbers');
}
