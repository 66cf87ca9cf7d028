/**
 * Asking on the terminal without showing what is typed. The question goes to the terminal itself, so
 * that it works while standard input and output are redirected.
 */
import * as fs from 'node:fs';
import * as tty from 'node:tty';
import { ChunkvolError } from '../base/errors.js';

const TERMINAL = '/dev/tty';

/**
 * What is typed after `question`, up to Enter. Throws ChunkvolError: 'usage' without a terminal, naming the
 * other `ways`; 'interrupted'.
 */
export async function askSecretly(question: string, ways: string): Promise<string> {
  const fd = openTerminal(ways);
  const input = new tty.ReadStream(fd);
  try {
    // Before the question: what is typed at once must not be shown either.
    input.setRawMode(true);
    fs.writeSync(fd, question);
    return await readLine(input);
  } finally {
    input.setRawMode(false);
    fs.writeSync(fd, '\n');
    input.destroy();
  }
}

function openTerminal(ways: string): number {
  try {
    return fs.openSync(TERMINAL, 'r+');
  } catch (error) {
    throw new ChunkvolError(
      'usage',
      `there is no terminal to ask for the passphrase; use ${ways}`,
      {
        cause: error,
      },
    );
  }
}

function readLine(input: tty.ReadStream): Promise<string> {
  const line = new SecretLine();
  input.setEncoding('utf8');
  return new Promise((resolve, reject) => {
    input.on('data', (text: string) => {
      const state = line.type(text);
      if (state === 'entered') resolve(line.text);
      if (state === 'interrupted') reject(interrupted());
    });
    input.once('error', reject);
    input.once('end', () => {
      reject(interrupted());
    });
  });
}

function interrupted(): ChunkvolError {
  return new ChunkvolError('interrupted', 'interrupted while asking for the passphrase');
}

/** The line being typed, with the editing keys that a terminal in raw mode leaves to us. */
export class SecretLine {
  #characters: string[] = [];

  get text(): string {
    return this.#characters.join('');
  }

  /** Takes what the terminal sent; what follows Enter is dropped. */
  type(text: string): 'open' | 'entered' | 'interrupted' {
    for (const character of text) {
      if (character === '\r' || character === '\n') return 'entered';
      if (character === CONTROL.c) return 'interrupted';
      if (character === CONTROL.d) {
        if (this.#characters.length === 0) return 'interrupted';
      } else if (character === CONTROL.u) this.#characters = [];
      else if (character === '\b' || character === '\x7f') this.#characters.pop();
      else this.#characters.push(character);
    }
    return 'open';
  }
}

const CONTROL = { c: '\x03', d: '\x04', u: '\x15' } as const;
