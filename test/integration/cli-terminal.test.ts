/** The passphrase asked for on a real terminal (a pseudo-terminal of Python's), without echo. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CliWorld } from '../support/cli.js';
import { describeWith } from '../support/tools.js';

let world: CliWorld;

beforeEach(() => {
  world = new CliWorld();
});

afterEach(() => {
  world.releaseAll();
});

/**
 * Runs the words after two arguments on a terminal: answers each prompt (text that ends in ": ") with
 * the next of the answers, prints all that the terminal showed, and ends with the program's status.
 */
const DRIVER = `
import json, os, pty, sys
answers = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
shown = b''
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    shown += data
    if shown.endswith(b': ') and answers:
        os.write(terminal, answers.pop(0).encode())
_, status = os.waitpid(pid, 0)
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(status))
`;

async function onTerminal(
  answers: readonly string[],
  ...words: readonly string[]
): Promise<{ status: number; shown: string }> {
  const child = spawn(
    'python3',
    ['-c', DRIVER, JSON.stringify(answers), process.execPath, world.program, ...words],
    { env: world.environment, cwd: world.folder, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let shown = '';
  child.stdout.on('data', (bytes: Buffer) => (shown += bytes.toString()));
  const [status] = (await once(child, 'close')) as [number];
  return { status, shown };
}

const CREATE = ['create', 'disk', '--size', '1M', '--quiet'];

describeWith(['python3'], 'the passphrase on a terminal', () => {
  it('is asked for twice at create and once after, and never shown', async () => {
    const created = await onTerminal(['pass wörd\r', 'pass wörd\r'], ...CREATE);
    expect(created).toEqual({
      status: 0,
      shown: 'Passphrase for the new volume: \r\nPassphrase for the new volume again: \r\n',
    });
    const listed = await onTerminal(['pass worr\x7f\x7f\x7förd\r'], '-C', 'disk', 'key', 'list');
    expect(listed.shown).toMatch(/^Passphrase: \r\n[0-9a-f]{16} {2}passphrase .*\r\n$/);
    expect(listed.status).toBe(0);
  });

  it('must be typed the same twice', async () => {
    const { status, shown } = await onTerminal(['one\r', 'other\r'], ...CREATE);
    expect(status).toBe(2);
    expect(shown).toMatch(/chunkvol: the two passphrases are not the same; try again\r\n$/);
  });

  it('is given up with Ctrl-C, with status 1 and the terminal as it was', async () => {
    const { status, shown } = await onTerminal(['half\x03'], ...CREATE);
    expect(status).toBe(1);
    expect(shown).toMatch(/chunkvol: interrupted while asking for the passphrase\r\n$/);
  });

  it('is refused with status 3 when it is wrong', async () => {
    await onTerminal(['right\r', 'right\r'], ...CREATE);
    const { status, shown } = await onTerminal(['wrong\r'], '-C', 'disk', 'status');
    expect(status).toBe(3);
    expect(shown).toContain('chunkvol: wrong passphrase');
  });
});

it('without a terminal: says what else there is, with status 2', async () => {
  const words = ['-w', process.execPath, world.program, ...CREATE];
  const child = spawn('setsid', words, {
    env: world.environment,
    cwd: world.folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()));
  const [status] = (await once(child, 'close')) as [number];
  expect(status).toBe(2);
  expect(said).toMatch(/^chunkvol: there is no terminal .*--passphrase-file.*\n$/);
});
