/** The command line as a whole: its verbs, its help, its usage errors. */
import * as fs from 'node:fs';
import { Command } from 'commander';
import { EXIT_STATUSES } from './exit.js';
import { addGlobalOptions } from './options.js';
import { addAttach } from './verbs/attach.js';
import { addClone } from './verbs/clone.js';
import { addCreate } from './verbs/create.js';
import { addDetach } from './verbs/detach.js';
import { addGc } from './verbs/gc.js';
import { addHold } from './verbs/hold.js';
import { addKey } from './verbs/key.js';
import { addRemote } from './verbs/remote.js';
import { addRepair } from './verbs/repair.js';
import { addResize } from './verbs/resize.js';
import { addRestore } from './verbs/restore.js';
import { addScrub } from './verbs/scrub.js';
import { addServe } from './verbs/serve.js';
import { addSnapshot } from './verbs/snapshot.js';
import { addStatus } from './verbs/status.js';
import { addSync } from './verbs/sync.js';

/** In the order of the help. */
const VERBS = [
  addCreate,
  addAttach,
  addDetach,
  addServe,
  addStatus,
  addSnapshot,
  addClone,
  addResize,
  addGc,
  addKey,
  addRemote,
  addSync,
  addRestore,
  addScrub,
  addRepair,
  addHold,
];

/** Commander's own failures come as CommanderError; the process is never ended from within. */
export function makeProgram(): Command {
  const program = new Command('chunkvol');
  program
    .description('A virtual disk kept as encrypted, parity-protected chunk files.')
    .version(readVersion(), '--version', 'show the version')
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      outputError: (text, write) => {
        write(text.replace(/^error: /, 'chunkvol: '));
      },
    })
    .addHelpText('after', epilogue());
  addGlobalOptions(program);
  for (const add of VERBS) add(program);
  return program;
}

function epilogue(): string {
  const rows = EXIT_STATUSES.map(([status, meaning]) => `  ${status}  ${meaning}`);
  const example = '  chunkvol create backup --size 100G && chunkvol -C backup attach /dev/nbd0';
  return `\nExit status:\n${rows.join('\n')}\n\nExample:\n${example}`;
}

function readVersion(): string {
  const text = fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
