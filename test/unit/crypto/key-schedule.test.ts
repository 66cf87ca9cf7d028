import { describe, expect, it } from 'vitest';
import { toHex } from '../../../src/base/bytes.js';
import { derive } from '../../../src/crypto/derive.js';
import { DataKeys, MaintenanceKeys, VolumeKeys } from '../../../src/crypto/key-schedule.js';

const range = (start: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => start + i);

const VOLUME_KEY = range(0, 32);
const GROUP = range(0x40, 16);
const SEAL = range(0x50, 16);

// All vectors of this file were computed by another implementation (Python's hmac and hashlib).
describe('derive', () => {
  it.each([
    ['slot', [], 'bab189495a70f14beefd2f4096d86e5783ef679a6638e86cd42f5f972ccd9e1e'],
    ['slot', [GROUP], '7115d17ae238d37fa09c55097802557ee6fe7e8a3b088949ab99825af04ff91c'],
    [
      'slot',
      [new Uint8Array(0)],
      '4a9d190ac1a80db5cbabf935db9992e356ed4589df1a0efd469fc8cd5ffc7306',
    ],
    ['parity', [GROUP, SEAL], 'e6da64118499b464703e53a4a33db7c437ed3370958d0c12d8bfac89bffd31e3'],
  ])('has a fixed answer for %s and a list of contexts', (label, context, expected) => {
    expect(toHex(derive(VOLUME_KEY, label, ...context))).toBe(expected);
  });

  it('keeps lists of contexts apart that hold the same bytes', () => {
    const all = range(1, 4);
    const keys = [
      derive(VOLUME_KEY, 'x', all),
      derive(VOLUME_KEY, 'x', all.subarray(0, 1), all.subarray(1)),
      derive(VOLUME_KEY, 'x', all.subarray(0, 3), all.subarray(3)),
      derive(VOLUME_KEY, 'x', all, new Uint8Array(0)),
      derive(VOLUME_KEY, 'x', new Uint8Array(0), all),
      derive(VOLUME_KEY, 'x'),
    ];
    expect(new Set(keys.map(toHex)).size).toBe(keys.length);
  });

  it('refuses labels that could run into a context, and contexts beyond measure', () => {
    for (const label of ['', 'a\0b', 'grün']) {
      expect(() => derive(VOLUME_KEY, label)).toThrow(RangeError);
    }
    expect(() => derive(VOLUME_KEY, 'x', new Uint8Array(1024))).toThrow(RangeError);
  });
});

/** Interfaces have no index signature, so that Object.values loses their type. */
const valuesOf = (keys: object): Uint8Array[] => Object.values(keys) as Uint8Array[];

describe('the key schedule', () => {
  const keys = new VolumeKeys(VOLUME_KEY);

  const everyKey = (maintenance: MaintenanceKeys, data: DataKeys): Record<string, Uint8Array> => {
    const { name, headerId, header, footer, trailer, outerRoot } = maintenance;
    const { innerRoot, keyFile } = data;
    return {
      name,
      headerId,
      header,
      footer,
      trailer,
      outerRoot,
      ...maintenance.group(GROUP),
      ...maintenance.seal(GROUP, SEAL),
      innerRoot,
      keyFile,
      ...data.group(GROUP),
    };
  };

  it('gives these keys for ever', () => {
    expect(toHex(keys.maintenance.raw)).toBe(
      '9d66f3a1c5d40875797269ddb1a19584b28069fcd6846265e2cffa8ea724b0f8',
    );
    const all = Object.entries(everyKey(keys.maintenance, keys.data));
    expect(Object.fromEntries(all.map(([name, key]) => [name, toHex(key)]))).toEqual({
      name: '3680de6858ea2b5a75e59fc3ff51f5769c9ac6926c7b4aa5440c46ad08824b1d',
      headerId: 'dffdeded8a277f30ad60073de6d5d3124059b074ead9fcdbe01ecf55f678f868',
      header: '6ebc6d5023f424088870553b769867201472d91ec502b1acf32b6ccf4319f6cc',
      footer: '8907b9d03b0cca2cb9f0d230906833daeaa5d01f4a493e93e83bd6a671d48568',
      trailer: 'dd8dd8dd91619dfbb687aa6d03149ac1c306de932fcf34efa5c2aee44eae95c9',
      outerRoot: 'ddc3b5b2e3b91b97b3ef20fa30be64641ba4996d5133f662e9fe42c0804d78b2',
      pad: 'db04ec9128d4e6727853374d65f00f790421a8d74576081eff19fc09bf597efc',
      rootReplica: '697be884771ab19f74278b21a2603bae830ce814dc40612894d3bcdeace0b6ed',
      parity: 'f3e5e7b1c79aed4291f459ee74683e0b616e92ef8ae0e8b443f0dd6e20184265',
      mac: 'a6c60c7fe2d7206e30c51be2bb3e60063b2081e39b0daa7035b6053d4291e8c7',
      fill: 'e14a26df0310bb2cd92e1d1bd2139f2c0beaf0be009aaa9e520aa91a55c7985e',
      innerRoot: '5b6f47ec21a76a051e120c86e0a40f7ba7efdf67edc6d7af5e28865e3682d187',
      keyFile: '354c29af512403d9052e631bf0c52b2598246e9220e1a1e2c759aff2d21cbf50',
      slot: '8acb9e2169b104e3507c3cf66ef7bbe1e28a245ebcead7525bbf44c029b73a1a',
      record: 'f765b0152e95b539d1054d9f8b7a94019d7b1f1322a91be8c578316d3ba5ba9b',
    });
  });

  it('gives the same maintenance keys from the exported key alone', () => {
    const exported = new MaintenanceKeys(keys.maintenance.raw);
    expect(everyKey(exported, keys.data)).toEqual(everyKey(keys.maintenance, keys.data));
    expect(exported.fileName('chunk', GROUP)).toBe(keys.maintenance.fileName('chunk', GROUP));
  });

  it('reaches no data key from the exported key', () => {
    const raw = keys.maintenance.raw;
    const data = [...valuesOf(keys.data.group(GROUP)), keys.data.innerRoot, keys.data.keyFile];
    const reachable = ['data', 'slot', 'record', 'inner root', 'key file'].flatMap((label) => [
      derive(raw, label),
      derive(raw, label, GROUP),
    ]);
    const fromExport = DataKeys.derive(raw);
    reachable.push(...valuesOf(fromExport.group(GROUP)), fromExport.innerRoot);
    const shut = new Set(data.map(toHex));
    expect(reachable.some((key) => shut.has(toHex(key)))).toBe(false);
  });

  it('has no two equal keys, across groups and seals and volumes', () => {
    const other = new VolumeKeys(range(1, 32));
    const all = [keys, other].flatMap(({ maintenance, data }) => [
      ...valuesOf(everyKey(maintenance, data)),
      ...valuesOf(maintenance.group(SEAL)),
      ...valuesOf(maintenance.seal(SEAL, GROUP)),
      ...valuesOf(maintenance.seal(GROUP, GROUP)),
      ...valuesOf(data.group(SEAL)),
    ]);
    expect(new Set(all.map(toHex)).size).toBe(all.length);
  });

  it('names files by kind and parts', () => {
    const { maintenance } = keys;
    expect(maintenance.fileName('chunk', GROUP, SEAL)).toBe('06b5a98dbd21332dcfc34081fed7673b');
    expect(maintenance.fileName('root', GROUP, SEAL)).toBe('3932af91f85102b4ce2e5ce5c3c1e0e8');
    expect(maintenance.fileName('key', GROUP, SEAL)).toBe('c88ecac4943e1ec1ad76a688cb82d0ea');
    expect(maintenance.fileName('chunk', Buffer.concat([GROUP, SEAL]))).not.toBe(
      maintenance.fileName('chunk', GROUP, SEAL),
    );
  });

  it('takes keys of 32 bytes only', () => {
    expect(() => new VolumeKeys(range(0, 31))).toThrow(RangeError);
    expect(() => new MaintenanceKeys(range(0, 33))).toThrow(RangeError);
    expect(() => DataKeys.derive(range(0, 16))).toThrow(RangeError);
  });
});
