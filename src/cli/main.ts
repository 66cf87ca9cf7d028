#!/usr/bin/env node
/** The program: runs the command line that it is given and ends with its exit status. */
import { watchOutput, runToEnd } from './exit.js';
import { takePassphrase } from './passphrase.js';
import { makeProgram } from './program.js';

takePassphrase();
watchOutput();
await runToEnd(async () => {
  await makeProgram().parseAsync();
});
