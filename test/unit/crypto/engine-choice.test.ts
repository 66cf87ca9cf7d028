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
