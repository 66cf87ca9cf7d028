import { afterEach, describe, expect, it, vi } from 'vitest';
import { isChunkvolError } from '../../../src/base/errors.js';
import type { CryptoEngine, SlotBatch, SlotKey } from '../../../src/crypto/engine.js';
import { chooseEngine, engineByName } from '../../../src/crypto/engines.js';
import { NodeEngine } from '../../../src/crypto/engine-node.js';
import * as ffi from '../../../src/crypto/openssl-ffi.js';
import { selfTest } from '../../../src/crypto/self-test.js';
import { engineNames, engines } from './batches.js';

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  vi.resetModules();
});

describe('chooseEngine', () => {
  it('takes the fastest by default, and always the same object', () => {
    vi.stubEnv('CHUNKVOL_CRYPTO_ENGINE', '');
    expect(chooseEngine().name).toBe('openssl');
    expect(chooseEngine()).toBe(engineByName('openssl'));
  });

  it.each(engineNames)('is told %s by argument and by environment', (name) => {
    expect(chooseEngine(name).name).toBe(name);
    vi.stubEnv('CHUNKVOL_CRYPTO_ENGINE', name);
    expect(chooseEngine().name).toBe(name);
  });

  it('refuses unknown names as wrong usage, in one line', () => {
    vi.stubEnv('CHUNKVOL_CRYPTO_ENGINE', 'rot13');
    const error = thrownBy(() => chooseEngine());
    expect(isChunkvolError(error, 'usage')).toBe(true);
    expect((error as Error).message).toMatch(/^[^\n]*"rot13"[^\n]*openssl, node, noble[^\n]*$/);
  });

  it('goes on without the FFI, and says so to whoever insists', async () => {
    const fresh = await enginesWith(() => {
      throw new Error('Cannot find the native Koffi module\nand more lines');
    });
    expect(fresh.chooseEngine('').name).toBe('node');
    const error = thrownBy(() => fresh.chooseEngine('openssl')) as Error & { code: string };
    expect(error.code).toBe('usage');
    expect(error.message).toMatch(/^[^\n]*Cannot find the native Koffi module\)[^\n]*$/);
  });

  it('passes over an engine that fails its self-test', async () => {
    const fresh = await enginesWith(() => ({ ...ffi.loadOpenssl(), decryptFinal: () => 1 }));
    expect(fresh.chooseEngine('').name).toBe('node');
    expect(() => fresh.engineByName('openssl')).toThrow(/accepts a wrong tag/);
  });
});

describe('the engine on OpenSSL', () => {
  const key = new Uint8Array(32);
  const seal = (engine: CryptoEngine): void => {
    const batch: SlotBatch = {
      count: 1,
      plainBytes: 64,
      plain: new Uint8Array(64),
      plainAt: new Uint32Array(1),
      slots: new Uint8Array(64 + 24),
      slotAt: new Uint32Array(1),
      positions: new Uint32Array(1),
      numbers: new Float64Array(1),
      kind: 1,
    };
    engine.sealSlots(engine.slotKey(key), batch, new Uint8Array(8));
  };
  const ctr = (engine: CryptoEngine): void => {
    engine.ctr(key, new Uint8Array(16), new Uint8Array(64), 0);
  };
  const gmac = (engine: CryptoEngine): void => {
    engine.gmac(key, new Uint8Array(12), [new Uint8Array(64)]);
  };

  it.each<[string, keyof ffi.OpensslFunctions, (engine: CryptoEngine) => void]>([
    ['start', 'newContext', () => undefined],
    ['take a key', 'encryptInit', ctr],
    ['encrypt', 'encryptFinal', seal],
    ['encrypt', 'encryptUpdate', ctr],
    ['authenticate', 'control', gmac],
  ])('says that it failed to %s, when %s does', async (what, name, work) => {
    const functions = { ...ffi.loadOpenssl() };
    const honest = functions[name] as (...words: number[]) => number;
    // The cipher is named first, and may be: it is the key that is refused then.
    const fails = (...words: number[]): number =>
      name === 'encryptInit' && words[1] !== 0 ? honest(...words) : 0;
    Object.assign(functions, { [name]: fails });
    vi.doMock('../../../src/crypto/openssl-ffi.js', () => ({
      ...ffi,
      loadOpenssl: () => functions,
    }));
    vi.resetModules();
    const { OpensslEngine } = await import('../../../src/crypto/engine-openssl.js');
    vi.doUnmock('../../../src/crypto/openssl-ffi.js');
    const error = thrownBy(() => {
      work(new OpensslEngine());
    });
    expect(String(error)).toContain(`failed to ${what}`);
  });

  it('takes no more bytes at a time than OpenSSL can count', () => {
    const many = { length: 2 ** 30 + 1 } as Uint8Array;
    expect(() => {
      engineByName('openssl').ctr(key, new Uint8Array(16), many, 0);
    }).toThrow(RangeError);
  });
});

/** The module with nothing tried yet, on another binding of OpenSSL. */
async function enginesWith(
  loadOpenssl: typeof ffi.loadOpenssl,
): Promise<typeof import('../../../src/crypto/engines.js')> {
  vi.doMock('../../../src/crypto/openssl-ffi.js', () => ({ ...ffi, loadOpenssl }));
  vi.resetModules();
  try {
    return await import('../../../src/crypto/engines.js');
  } finally {
    vi.doUnmock('../../../src/crypto/openssl-ffi.js');
  }
}

describe('selfTest', () => {
  it('passes the three engines', () => {
    for (const engine of engines) {
      expect(() => {
        selfTest(engine);
      }).not.toThrow();
    }
  });

  const honest = new NodeEngine();
  const swindles: [string, RegExp, Partial<CryptoEngine>][] = [
    ['ctr does nothing', /CTR/, { ctr: () => undefined }],
    [
      'ctr ignores the skip',
      /CTR from within/,
      {
        ctr: (key, counter, bytes) => {
          honest.ctr(key, counter, bytes, 0);
        },
      },
    ],
    [
      'gmac forgets a part',
      /GMAC/,
      { gmac: (key, nonce, parts) => honest.gmac(key, nonce, parts.slice(0, 1)) },
    ],
    [
      'the salt is not in the nonce',
      /slot ciphertext/,
      {
        sealSlots: (key, batch, salt) => {
          honest.sealSlots(key, batch, new Uint8Array(8));
          batch.slots.set(salt, batch.slots.length - 8);
        },
      },
    ],
    [
      'the salt is not stored',
      /slot salt/,
      {
        sealSlots: (key, batch, salt) => {
          honest.sealSlots(key, batch, salt);
          batch.slots.fill(0, batch.slots.length - 8);
        },
      },
    ],
    [
      'the number is not bound',
      /slot has/,
      {
        sealSlots: (key, batch, salt) => {
          honest.sealSlots(key, { ...batch, numbers: new Float64Array(1) }, salt);
        },
      },
    ],
    [
      'the tag is not checked',
      /accepts a wrong tag/,
      {
        openSlots: (key: SlotKey, batch: SlotBatch, failed: Uint8Array) => {
          honest.openSlots(key, batch, failed);
          failed[0] = 0;
          return 0;
        },
      },
    ],
    [
      'what is right is refused',
      /refuses a slot of its own/,
      {
        openSlots: (_key: SlotKey, batch: SlotBatch, failed: Uint8Array) => {
          failed.fill(1);
          return batch.count;
        },
      },
    ],
    [
      'unverified plaintext is left behind',
      /wiped plaintext/,
      {
        openSlots: (key: SlotKey, batch: SlotBatch, failed: Uint8Array) => {
          const failures = honest.openSlots(key, batch, failed);
          if (failures > 0) batch.plain[0] = 1;
          return failures;
        },
      },
    ],
  ];

  it.each(swindles)('catches it when %s', (_, complaint, parts) => {
    const broken: CryptoEngine = {
      name: 'node',
      slotKey: (raw) => honest.slotKey(raw),
      sealSlots: (key, batch, salt) => {
        honest.sealSlots(key, batch, salt);
      },
      openSlots: (key, batch, failed) => honest.openSlots(key, batch, failed),
      gmac: (key, nonce, all) => honest.gmac(key, nonce, all),
      ctr: (key, counter, bytes, skip) => {
        honest.ctr(key, counter, bytes, skip);
      },
      ...parts,
    };
    expect(() => {
      selfTest(broken);
    }).toThrow(complaint);
  });
});

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

it('addresses of OpenSSL are exact, or none', () => {
  expect(ffi.exactAddress(2n ** 53n - 1n)).toBe(Number.MAX_SAFE_INTEGER);
  expect(() => ffi.exactAddress(2n ** 53n)).toThrow(RangeError);
});
