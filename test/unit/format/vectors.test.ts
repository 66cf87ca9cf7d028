/** The examples of docs/format.md: kept for ever, true of src/, and word for word on the page. */
import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { computeFormatVectors } from '../../support/format-vectors.js';
import { keystream } from '../../support/independent-reader/ciphers.js';
import { BLOCK, COMMIT_BODY, NODE, openPiece } from '../../support/independent-reader/group.js';
import { Keys } from '../../support/independent-reader/keys.js';
import { codingMatrix, unitCounter } from '../../support/independent-reader/parity.js';
import { unitMac } from '../../support/independent-reader/verify.js';

const read = (path: string): string =>
  readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');

const vectors = JSON.parse(read('test/fixtures/format-vectors.json')) as Record<string, string>;
/** The page breaks long values into lines. */
const page = read('docs/format.md').replaceAll(/\s/g, '');
let computed: Record<string, string>;

beforeAll(async () => {
  computed = await computeFormatVectors();
});

describe('the examples of the format page', () => {
  it.each(Object.entries(vectors))('has %s as src/ computes it, and on the page', (name, value) => {
    expect(computed[name]).toBe(value);
    expect(page.includes(value), 'it stands on the page').toBe(true);
  });

  it('leaves none out', () => {
    expect(Object.keys(computed)).toEqual(Object.keys(vectors));
  });
});

/** The inputs as the page states them. */
const counting = (first: number, length: number): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, index) => first + index));
const bytesOf = (name: string): Buffer => Buffer.from(vectors[name]!, 'hex');

describe('the independent reader', () => {
  const keys = new Keys(counting(0, 32));
  const group = counting(0xb0, 16);
  const seal = counting(0xc0, 16);

  it('derives the keys and names of the examples', () => {
    const byGroup = ['pad', 'root replica'];
    const bySeal = ['parity', 'mac', 'fill'];
    const contextsOf = (label: string): Buffer[] =>
      byGroup.includes(label) ? [group] : bySeal.includes(label) ? [group, seal] : [];
    const plain = ['name', 'header id', 'header', 'footer', 'trailer', 'outer root'];
    for (const label of [...plain, ...byGroup, ...bySeal]) {
      expect(keys.m(label, ...contextsOf(label)), label).toEqual(bytesOf(`key ${label}`));
    }
    for (const label of ['slot', 'record']) {
      expect(keys.d(label, group), label).toEqual(bytesOf(`key ${label}`));
    }
    expect(keys.d('inner root')).toEqual(bytesOf('key inner root'));
    const name = keys.fileName('chunk', group, seal, Buffer.of(5));
    expect(name).toBe(vectors['name of the chunk file']);
  });

  it('authenticates the key file of the examples', () => {
    const file = bytesOf('key file');
    const mac = createHmac('sha256', keys.d('key file')).update(file.subarray(0, -32)).digest();
    expect(mac).toEqual(file.subarray(-32));
  });

  it('opens the slots and follows the chain of the examples', () => {
    const first = bytesOf('first chain hash');
    const [header, body] = [bytesOf('commit header, slot'), bytesOf('commit body, slot')];
    const record = keys.d('record', group);
    expect(openPiece(record, 81, COMMIT_BODY(1), body)).toEqual(bytesOf('commit body, plain'));
    expect(openPiece(record, 81, COMMIT_BODY(2), body)).toBeNull();
    const slot = keys.d('slot', group);
    expect(openPiece(slot, 96, BLOCK(7), bytesOf('block slot'))).toEqual(counting(0, 32));
    expect(openPiece(slot, 103, NODE(1, 3), bytesOf('node slot'))).toEqual(counting(0, 32));
    expect(openPiece(slot, 103, NODE(0, 3), bytesOf('node slot'))).toBeNull();
    const chain = createHash('sha256').update(first).update(header).update(body).digest();
    expect(chain).toEqual(bytesOf('second chain hash'));
  });

  it('computes the padding, the parity matrix and the unit MAC of the examples', () => {
    const padding = keystream(keys.m('pad', group), Buffer.alloc(16), 4104, 32);
    expect(padding).toEqual(bytesOf('padding'));
    expect(codingMatrix(4, 2).slice(4)).toEqual([
      [27, 28, 18, 20],
      [28, 27, 20, 18],
    ]);
    const stored = bytesOf('parity, stored').subarray(8);
    const stream = keystream(keys.m('parity', group, seal), unitCounter(5, 3), 0, 8);
    const plain = stored.map((byte, at) => byte ^ stream[at]!);
    expect(Buffer.from(plain)).toEqual(bytesOf('parity, plain').subarray(8));
    expect(unitMac(keys.m('mac', group, seal), 5, 3, stored)).toEqual(bytesOf('unit MAC'));
  });
});
