import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readCredential, readNewCredential } from '../../../src/cli/passphrase.js';
import { SecretLine } from '../../../src/cli/terminal.js';

let folder: string;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chunkvol-passphrase-'));
});

afterEach(() => {
  vi.unstubAllEnvs();
  fs.rmSync(folder, { recursive: true });
});

function file(contents: string | Uint8Array): string {
  const place = path.join(folder, 'secret');
  fs.writeFileSync(place, contents);
  return place;
}

function passphrase(text: string): object {
  return { kind: 'passphrase', passphrase: new TextEncoder().encode(text) };
}

describe('readCredential', () => {
  it.each([
    ['secret\n', 'secret'],
    ['secret\r\n', 'secret'],
    ['secret', 'secret'],
    ['two\nlines\n', 'two\nlines'],
    ['line end\n\n', 'line end\n'],
    ['  spaces ', '  spaces '],
  ])('takes one line end off the passphrase file %j', async (contents, text) => {
    expect(await readCredential({ passphraseFile: file(contents) })).toEqual(passphrase(text));
  });

  it('normalises to NFC, whatever the keyboard sent', async () => {
    const composed = await readCredential({ passphraseFile: file('\u00e9t\u00e9') });
    const decomposed = await readCredential({ passphraseFile: file('e\u0301te\u0301') });
    expect(decomposed).toEqual(composed);
  });

  it.each([
    ['an empty passphrase', ''],
    ['nothing but a line end', '\n'],
    ['bytes that are not UTF-8', Uint8Array.of(0x61, 0xff, 0x62)],
    ['more than 4096 bytes', 'x'.repeat(5000)],
  ])('refuses %s', async (_, contents) => {
    await expect(readCredential({ passphraseFile: file(contents) })).rejects.toMatchObject({
      code: 'usage',
    });
  });

  it('reads a key file as it is', async () => {
    const bytes = Uint8Array.from({ length: 64 }, (_, index) => 255 - index);
    expect(await readCredential({ keyFile: file(bytes) })).toEqual({
      kind: 'key-file',
      secret: bytes,
    });
  });

  it('says which file is missing', async () => {
    await expect(readCredential({ keyFile: path.join(folder, 'none') })).rejects.toMatchObject({
      code: 'io',
      message: expect.stringContaining('none') as string,
    });
  });

  it.each([
    ['the file before the environment', 'from the file'],
    ['the environment', null],
  ])('takes %s, and leaves nothing in the environment', async (_, inFile) => {
    vi.stubEnv('CHUNKVOL_PASSPHRASE', 'from the environment');
    const sources = inFile === null ? {} : { passphraseFile: file(inFile) };
    const expected = passphrase(inFile ?? 'from the environment');
    expect(await readCredential(sources)).toEqual(expected);
    expect(process.env).not.toHaveProperty('CHUNKVOL_PASSPHRASE');
  });
});

describe('readNewCredential', () => {
  it('does not take the present passphrase for the new one', async () => {
    vi.stubEnv('CHUNKVOL_PASSPHRASE', 'present');
    const source = { passphraseFile: file('new') };
    const options = { question: 'New', useEnvironment: false };
    expect(await readNewCredential(source, options)).toEqual(passphrase('new'));
  });
});

describe('SecretLine', () => {
  it.each([
    [['secret\r'], 'secret'],
    [['sec', 'ret\n'], 'secret'],
    [['secrex\x7ft\r'], 'secret'],
    [['wrong\x15right\r'], 'right'],
    [['\u00e9\u{1f511}x\b\r'], '\u00e9\u{1f511}'],
    [['first\nsecond'], 'first'],
    [['a\x04b\r'], 'ab'],
  ])('reads %j as %j', (pieces, text) => {
    const line = new SecretLine();
    const states = pieces.map((piece) => line.type(piece));
    expect(states.at(-1)).toBe('entered');
    expect(line.text).toBe(text);
  });

  it.each(['abc\x03', '\x04'])('is interrupted by %j', (keys) => {
    expect(new SecretLine().type(keys)).toBe('interrupted');
  });
});
