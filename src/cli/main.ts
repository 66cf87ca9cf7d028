#!/usr/bin/env node
/** The program: runs the command line that it is given and ends with its exit status. */
import { watchOutput, runToEnd } from './exit.js';
import { makeProgram } from './program.js';

watchOutput();
await runToEnd(async () => {
  await makeProgram().parseAsync();
});
