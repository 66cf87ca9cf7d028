import * as fs from 'node:fs';
import { CommanderError } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi, type MockInstance } from 'vitest';
import { ChunkvolError, exitStatus, type ErrorCode } from '../../../src/base/errors.js';
import { EXIT_STATUSES, report, ToldFailure } from '../../../src/cli/exit.js';
import { makeProgram } from '../../../src/cli/program.js';

let errorOutput: MockInstance<typeof process.stderr.write>;
let output: MockInstance<typeof process.stdout.write>;

beforeEach(() => {
  errorOutput = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  output = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

function said(): string {
  return errorOutput.mock.calls.map(([text]) => String(text)).join('');
}

describe('report', () => {
  it.each<[ErrorCode, number]>([
    ['io', 1],
    ['usage', 2],
    ['wrong-key', 3],
    ['lost', 4],
    ['flushed-data-missing', 4],
    ['not-found', 1],
    ['in-use', 5],
    ['fork', 6],
    ['rollback', 6],
    ['missing-tool', 7],
  ])('says one line for %s and gives the status %d', (code, status) => {
    expect(report(new ChunkvolError(code, 'first line\nsecond line'))).toBe(status);
    expect(said()).toBe('chunkvol: first line\n');
  });

  it('gives the status of a failure that was told already, in silence', () => {
    expect(report(new ToldFailure(4))).toBe(4);
    expect(said()).toBe('');
  });

  it('says that an unexpected error is unexpected, without its stack', () => {
    expect(report(new TypeError('x is not a function'))).toBe(1);
    expect(said()).toMatch(/^chunkvol: unexpected failure .*x is not a function\n$/);
  });

  it('adds stack and causes when $CHUNKVOL_DEBUG is set', () => {
    vi.stubEnv('CHUNKVOL_DEBUG', '1');
    report(new ChunkvolError('io', 'outer', { cause: new Error('inner') }));
    expect(said()).toMatch(/at .*exit\.test\.ts/);
    expect(said()).toContain('caused by Error: inner');
  });
});

describe('the statuses', () => {
  it('are those of the table in docs/cli.md', () => {
    const page = fs.readFileSync(new URL('../../../docs/cli.md', import.meta.url), 'utf8');
    for (const [status, meaning] of EXIT_STATUSES) {
      expect(page).toMatch(new RegExp(`^\\| ${status} +\\| ${meaning}`, 'm'));
    }
  });

  it('are seven besides success, and every code has one of them', () => {
    expect(EXIT_STATUSES.map(([status]) => status)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(exitStatus(new Error('anything else'))).toBe(1);
  });
});

async function statusOf(...words: string[]): Promise<number> {
  try {
    await makeProgram().parseAsync(words, { from: 'user' });
    return 0;
  } catch (error) {
    return report(error);
  }
}

describe('the command line', () => {
  it.each([
    ['an unknown verb', ['bogus']],
    ['an unknown option', ['status', '--bogus']],
    ['a missing argument', ['attach']],
    ['a missing option', ['create']],
    ['a word too many', ['status', 'more']],
    ['two ways to give a key', ['status', '--key-file', 'a', '--passphrase-file', 'b']],
    ['a socket and a port', ['serve', '--socket', 'a', '--port', '1']],
    ['no verb', []],
    ['a size that is none', ['create', '/nonexistent/x', '--size', 'big']],
    ['a size beyond 1P', ['create', '/nonexistent/x', '--size', '2P']],
    ['too many data files', ['create', '/nonexistent/x', '--size', '1G', '--data', '33']],
    [
      'chunks that are too small',
      ['create', '/nonexistent/x', '--size', '1G', '--chunk-size', '1K'],
    ],
    ['a snapshot without a name', ['snapshot', 'create', '']],
    ['a snapshot with a slash in its name', ['snapshot', 'create', 'a/b']],
    ['a snapshot named like an export', ['snapshot', 'create', '@monday']],
    ['a snapshot with a line end in its name', ['snapshot', 'create', 'a\nb']],
    ['a snapshot with 4,096 bytes of name', ['snapshot', 'create', 'ä'.repeat(2048)]],
    ['no snapshot to delete', ['snapshot', 'delete']],
    ['one snapshot of several that cannot be', ['snapshot', 'delete', 'monday', '..']],
    ['rolling back to nothing', ['snapshot', 'rollback', '']],
    ['a difference to what cannot be', ['snapshot', 'diff', 'monday', 'a/b']],
    ['attaching a snapshot without a name', ['attach', '--snapshot', '', '/nonexistent/x']],
    ['cloning a snapshot without a name', ['clone', '', '/nonexistent/x']],
    ['a clone with a bad name', ['clone', 'monday', '/nonexistent/x', '--name', 'a\nb']],
    ['pruning without a policy', ['snapshot', 'prune']],
    ['pruning that keeps nothing', ['snapshot', 'prune', '--keep-last', '0']],
    ['pruning that keeps what is no number', ['snapshot', 'prune', '--keep-daily', 'some']],
    ['pruning with an age that is none', ['snapshot', 'prune', '--keep-within', '1w']],
    ['a disk of no size', ['resize', '0']],
    ['a disk larger than 1P', ['resize', '1.5P']],
    ['a new size that is none', ['resize', 'larger']],
    ['holding for nothing', ['hold']],
    ['a generation that is none', ['restore', '/a', '/b', '--expect-generation', 'x']],
  ])('ends with status 2 for %s', async (_, words) => {
    expect(await statusOf(...words)).toBe(2);
  });

  it('says the reason once, in the words of the program', async () => {
    await statusOf('bogus');
    expect(said()).toBe("chunkvol: unknown command 'bogus'\n");
  });

  it('ends with status 0 for help and version', async () => {
    expect(await statusOf('--help')).toBe(0);
    expect(await statusOf('--version')).toBe(0);
    expect(report(new CommanderError(0, 'commander.help', ''))).toBe(0);
  });

  it('lists the exit statuses in its help', async () => {
    await statusOf('--help');
    const help = output.mock.calls.map(([text]) => String(text)).join('');
    for (const [status, meaning] of EXIT_STATUSES) expect(help).toContain(`${status}  ${meaning}`);
  });

  it('shows an example in the help of every verb', async () => {
    const verbs = makeProgram().commands.flatMap((verb) =>
      verb.commands.length === 0
        ? [[verb.name()]]
        : verb.commands.map((part) => [verb.name(), part.name()]),
    );
    expect(verbs.length).toBe(26);
    for (const words of verbs) {
      output.mockClear();
      await statusOf(...words, '--help');
      const help = output.mock.calls.map(([text]) => String(text)).join('');
      expect(help, words.join(' ')).toMatch(/Examples?:\n {2}(\S+ && )?\S*.*chunkvol /);
    }
  });

  it('takes -C before and after the verb', async () => {
    expect(await statusOf('-C', '/nonexistent/before', 'remote', 'list')).toBe(1);
    expect(await statusOf('remote', 'list', '-C', '/nonexistent/after')).toBe(1);
    expect(said()).toMatch(/nonexistent\/before[^]*nonexistent\/after/);
  });

  it('takes the folder from $CHUNKVOL_VOLUME', async () => {
    vi.stubEnv('CHUNKVOL_VOLUME', '/nonexistent/variable');
    expect(await statusOf('remote', 'list')).toBe(1);
    expect(said()).toContain('/nonexistent/variable');
  });
});
