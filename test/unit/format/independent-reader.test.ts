/**
 * docs/format.md is enough to read a volume: a reader that was written from it alone reads what src/
 * has written, whole, damaged, and copied while in use.
 */
import * as fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { KIB, MIB } from '../../../src/base/bytes.js';
import type { Volume } from '../../../src/volume/volume.js';
import { IndependentReader, type Credential } from '../../support/independent-reader.js';
import { makeVolume, open, passphrase, patterned, temporaryFolder } from '../../support/volumes.js';

const SIZE_BYTES = 4 * 1024 * MIB;
const secret: Credential = { kind: 'secret', secret: Buffer.alloc(32, 7) };
const spoken: Credential = { kind: 'passphrase', passphrase: 'correct horse battery staple' };
const cheapest = { memoryKiB: 8192, iterations: 1, lanes: 1 };

/** Where the test writes: a tail of a block, the border of two map nodes, the end of the disk. */
const REGIONS = [
  { offset: 3 * KIB + 5, bytes: 3 * MIB },
  { offset: 2 * MIB * 512 - 300 * KIB, bytes: 2 * MIB },
  { offset: SIZE_BYTES - MIB, bytes: MIB },
];

/** What the disk must hold, as far as the regions reach. */
class Expected {
  readonly images: Buffer[] = REGIONS.map(({ bytes }) => Buffer.alloc(bytes));

  async write(volume: Volume, region: number, at: number, bytes: Uint8Array): Promise<void> {
    this.images[region]!.set(bytes, at);
    await volume.write(REGIONS[region]!.offset + at, bytes);
  }

  async zero(volume: Volume, region: number, at: number, bytes: number): Promise<void> {
    this.images[region]!.fill(0, at, at + bytes);
    await volume.zero(REGIONS[region]!.offset + at, bytes);
  }

  check(reader: IndependentReader): void {
    expect(reader.sizeBytes).toBe(SIZE_BYTES);
    for (const [index, { offset, bytes }] of REGIONS.entries()) {
      const got = reader.read(offset, bytes);
      expect(Buffer.compare(got, this.images[index]!), `region ${index}`).toBe(0);
    }
    expect(reader.read(1000 * MIB, 64 * KIB).every((byte) => byte === 0)).toBe(true);
  }
}

/** Two sessions, several full and short groups, overwrites, zeroed ranges. */
async function fill(folder: string): Promise<Expected> {
  const expected = new Expected();
  let volume = await open(folder);
  for (const [region, { bytes }] of REGIONS.entries()) {
    await expected.write(volume, region, 0, patterned(bytes, region));
  }
  await volume.close();
  volume = await open(folder);
  await expected.zero(volume, 0, MIB, 600 * KIB);
  await expected.write(volume, 0, MIB + 100 * KIB, patterned(50_001, 9));
  await expected.write(volume, 2, 4 * KIB, patterned(8 * KIB, 10));
  await volume.close();
  return expected;
}

/** Members to lose, a pair for each group in turn: data only, parity only, and both. */
const PAIRS = [
  [0, 1],
  [1, 3],
  [2, 4],
  [2, 3],
  [4, 5],
  [0, 5],
];

/** Removes two chunk files of every group; returns the number of groups. */
async function loseTwoOfEachGroup(folder: string): Promise<number> {
  const volume = await open(folder, { readOnly: true });
  const members = volume.groups().map(({ paths }) => paths);
  await volume.close();
  for (const [index, paths] of members.entries()) {
    for (const place of PAIRS[index % PAIRS.length]!) fs.rmSync(paths[place]!);
  }
  return members.length;
}

function copyOf(folder: string): string {
  const copy = temporaryFolder();
  fs.cpSync(folder, copy, { recursive: true });
  return copy;
}

describe('a reader that knows docs/format.md alone', () => {
  it('imports nothing from src/', () => {
    const support = fileURLToPath(new URL('../../support/', import.meta.url));
    const parts = fs.readdirSync(`${support}/independent-reader`);
    const paths = ['independent-reader.ts', ...parts.map((name) => `independent-reader/${name}`)];
    const imports = paths.flatMap((path) => {
      const source = fs.readFileSync(`${support}/${path}`, 'utf8');
      return Array.from(source.matchAll(/from '([^']+)'/g), ([, name]) => name!);
    });
    const primitives = ['node:crypto', 'node:fs', '@noble/ciphers/chacha.js', 'hash-wasm'];
    const others = imports.filter((name) => !/^\.\/[a-z/-]+\.js$/.test(name));
    expect(new Set(others)).toEqual(new Set(primitives));
  });

  it('reads a closed volume, whole and with two members of each group gone', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE_BYTES });
    const expected = await fill(folder);
    expected.check(await IndependentReader.open(folder, secret, { closedOnly: true }));
    expect(await loseTwoOfEachGroup(folder)).toBeGreaterThanOrEqual(3);
    expected.check(await IndependentReader.open(folder, secret, { closedOnly: true }));
  });

  it('verifies every byte of every chunk file, and finds one that was changed', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE_BYTES });
    await fill(folder);
    const reader = await IndependentReader.open(folder, secret);
    expect(reader.damagedFiles()).toEqual([]);
    const names = fs.readdirSync(`${folder}/chunks`);
    expect(names).toHaveLength(6 * reader.groupCount);
    for (const [index, name] of names.entries()) {
      const path = `${folder}/chunks/${name}`;
      const bytes = fs.readFileSync(path);
      // From the first byte behind the header to the last of the file.
      const at = 512 + Math.floor(((bytes.length - 513) * index) / (names.length - 1));
      bytes[at]! ^= 1;
      fs.writeFileSync(path, bytes);
    }
    expect(reader.damagedFiles().sort()).toEqual(names);
  });

  it('reads it through the replica of a root when roots/ is lost', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE_BYTES });
    const expected = await fill(folder);
    await loseTwoOfEachGroup(folder);
    fs.rmSync(`${folder}/roots`, { recursive: true });
    expected.check(await IndependentReader.open(folder, secret));
  });

  it('opens with a passphrase, and not with another', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE_BYTES, credential: passphrase, argon2: cheapest });
    expect((await IndependentReader.open(folder, spoken)).sizeBytes).toBe(SIZE_BYTES);
    const wrong: Credential = { kind: 'passphrase', passphrase: 'incorrect horse' };
    await expect(IndependentReader.open(folder, wrong)).rejects.toThrow('opens no slot');
    await expect(IndependentReader.open(folder, secret)).rejects.toThrow('opens no slot');
  });

  it('rolls forward through a copy of a folder in use', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE_BYTES });
    const expected = await fill(folder);
    const closed = await IndependentReader.open(folder, secret, { closedOnly: true });
    const volume = await open(folder);
    await expected.write(volume, 1, 512 * KIB, patterned(300_000, 11));
    await expected.zero(volume, 1, 700 * KIB, 200 * KIB);
    await volume.flush();
    await expected.write(volume, 0, 200 * KIB, patterned(77_777, 12));
    await expected.write(volume, 2, 0, patterned(MIB, 13));
    await volume.flush();

    const copy = copyOf(folder);
    const suffixes = fs.readdirSync(`${copy}/chunks`).filter((name) => name.endsWith('.open'));
    expect(suffixes).toHaveLength(6);
    const reader = await IndependentReader.open(copy, secret);
    expect(reader.rolledForward).toBeGreaterThanOrEqual(2);
    expected.check(reader);
    const older = await IndependentReader.open(copy, secret, { closedOnly: true });
    expect(older.generation).toBe(closed.generation);
    expect(() => {
      expected.check(older);
    }).toThrow();
    await volume.close();
  });

  it('goes on from an older root through groups that were sealed since, members lost', async () => {
    const folder = temporaryFolder();
    await makeVolume(folder, { sizeBytes: SIZE_BYTES });
    const first = fs.readdirSync(`${folder}/roots`);
    const expected = await fill(folder);
    for (const name of fs.readdirSync(`${folder}/roots`)) {
      if (!first.includes(name)) fs.rmSync(`${folder}/roots/${name}`);
    }
    await loseTwoOfEachGroup(folder);
    const reader = await IndependentReader.open(folder, secret);
    expect(reader.generation).toBe(1);
    expect(reader.rolledForward).toBeGreaterThanOrEqual(3);
    expected.check(reader);
  });
});
