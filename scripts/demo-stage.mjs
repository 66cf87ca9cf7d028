// The stage of the demo: says what happens, runs programs as a user would type them, and leaves nothing behind.
//
// Everything lives in one temporary folder. Whoever makes something that has to be undone says how
// before making it (`undoLater`); `clearUp` undoes all of it, the newest first, whatever has happened. A
// signal ends the program that runs, and with it the play. Programs run in process groups of their
// own, so that Ctrl-C reaches this process alone.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clearTimeout, setTimeout } from 'node:timers';
import { fileURLToPath } from 'node:url';

const PROJECT = fileURLToPath(new URL('..', import.meta.url));
const PACKAGE = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
const PROGRAM = join(PROJECT, PACKAGE.bin.chunkvol);

/** Where mkfs and its like live, which a user's $PATH often leaves out. */
const SYSTEM_FOLDERS = '/usr/local/sbin:/usr/sbin:/sbin';
/** The path of a socket has 107 bytes at most; the program's take 50 below $XDG_RUNTIME_DIR. */
const MAX_RUNTIME_CHARS = 57;
const UNDO_TIMEOUT_MS = 30_000;
const FORCE_MS = 10_000;

export class Stage {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'chunkvol-demo-')));
  /** The name of the signal that ends the play, once one has come. */
  interruptedBy = null;
  environment = {
    ...process.env,
    PATH: `${process.env.PATH ?? ''}:${SYSTEM_FOLDERS}`,
    LC_ALL: 'C',
    // What the program remembers of remotes goes with the demo, and so do its sockets.
    XDG_STATE_HOME: join(this.folder, 'state'),
    ...(this.folder.length <= MAX_RUNTIME_CHARS && { XDG_RUNTIME_DIR: this.folder }),
  };
  #undo = [];
  #children = new Set();

  constructor() {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
      process.on(name, () => {
        if (this.interruptedBy !== null) return;
        this.interruptedBy = name;
        for (const child of this.#children) child.kill('SIGTERM');
      });
    }
    // A reader that is gone (`npm run demo | head`) ends the play as well.
    process.stdout.on('error', () => {
      this.interruptedBy ??= 'SIGPIPE';
    });
  }

  path(...names) {
    return join(this.folder, ...names);
  }

  chapter(title) {
    this.checkSignal();
    console.log(`\n== ${title}`);
  }

  say(...lines) {
    this.checkSignal();
    for (const line of lines) console.log(`   ${line}`);
  }

  /** Throws when a signal has come; long work calls it now and then. */
  checkSignal() {
    if (this.interruptedBy !== null) throw new Error('interrupted');
  }

  /** Runs `chunkvol` with these words, and shows the command line and what it prints. */
  async chunkvol(...words) {
    const { status, output } = await this.show('chunkvol', words);
    if (status !== 0) throw new Error(`chunkvol ended with status ${status}`);
    return output;
  }

  /** Runs any other program in the same way. */
  async tool(program, ...words) {
    const { status, output } = await this.show(program, words);
    if (status !== 0) throw new Error(`${program} ended with status ${status}`);
    return output;
  }

  async show(program, words) {
    this.checkSignal();
    console.log(` $ ${[program, ...words].join(' ')}`);
    const result = await this.run(program, words);
    for (const line of result.output.split('\n')) if (line !== '') console.log(`   ${line}`);
    this.checkSignal();
    return result;
  }

  /** Runs a program to its end without a word. `status` is null when it could not run or was killed. */
  run(program, words, { timeoutMs = null } = {}) {
    return new Promise((resolve) => {
      const child = this.start(program, words, ['ignore', 'pipe', 'pipe']);
      const timer = timeoutMs && setTimeout(() => child.kill('SIGKILL'), timeoutMs);
      let output = '';
      const collect = (text) => (output += text);
      child.stdout.on('data', collect);
      child.stderr.on('data', collect);
      child.on('error', (error) => collect(error.message));
      child.on('close', (status) => {
        if (timer) clearTimeout(timer);
        resolve({ status: child.pid === undefined ? null : status, output });
      });
    });
  }

  /** Starts a program in the demo's folder; `chunkvol` is the one that this repository has built. */
  start(program, words, stdio) {
    const [file, all] =
      program === 'chunkvol' ? [process.execPath, [PROGRAM, ...words]] : [program, words];
    const child = spawn(file, all, {
      cwd: this.folder,
      env: this.environment,
      stdio,
      detached: true,
    });
    this.#children.add(child);
    child.once('close', () => this.#children.delete(child));
    return child;
  }

  /** Has `undo` called by `clearUp`, and remembers nothing else: it must cope with what is not there. */
  undoLater(undo) {
    this.#undo.push(undo);
  }

  /** Undoes everything; each step has its time, and what fails keeps no other from its turn. */
  async clearUp() {
    for (const child of this.#children) await end(child);
    for (const undo of this.#undo.reverse()) {
      await undo().catch((error) => console.error(`while clearing up: ${error.message}`));
    }
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** A step of clearing up: runs a program with a time limit and ignores its result. */
  quietly(program, ...words) {
    return this.run(program, words, { timeoutMs: UNDO_TIMEOUT_MS });
  }
}

/** Ends a program and waits until it is gone. */
export async function end(child) {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('close', resolve));
  const force = setTimeout(() => child.kill('SIGKILL'), FORCE_MS);
  child.kill('SIGTERM');
  await gone;
  clearTimeout(force);
}
