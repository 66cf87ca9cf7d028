// Plants each bug of test/planted/bugs.mjs in a copy of the tree, runs the tests named beside it, and
// shows that one fails. `npm run test:planted` plants all of them.
//
//   --only TEXT     those whose name or file has TEXT in it; may be given more than once
//   --share I/N     every N-th one, from the I-th on (I from 0)
//   --table FILE    writes the result as a Markdown table between the marks in FILE; bugs that were not
//                   planted this time keep what the table says of them
//
// Exit status 1 when a bug goes unnoticed, or does not find its place.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { PLANTED_BUGS } from '../test/planted/bugs.mjs';

const TREE = resolve(import.meta.dirname, '..');
const TIMEOUT_MS = 10 * 60_000;
const NOT_RUN = 'not run';
const MARKS = ['<!-- planted bugs: begin -->', '<!-- planted bugs: end -->'];

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    share: { type: 'string' },
    table: { type: 'string' },
  },
});

/** A copy of the tree as git knows it, with the modules and the built kernel of this one. */
function copyTree() {
  const copy = mkdtempSync(join(tmpdir(), 'chunkvol-planted-'));
  const { stdout } = spawnSync('git', ['ls-files', '-z'], { cwd: TREE, encoding: 'utf8' });
  for (const path of stdout.split('\0').filter((path) => path !== '')) {
    mkdirSync(dirname(join(copy, path)), { recursive: true });
    cpSync(join(TREE, path), join(copy, path));
  }
  cpSync(join(TREE, 'wasm/build'), join(copy, 'wasm/build'), { recursive: true });
  symlinkSync(join(TREE, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

/** The source with the bug in it. Throws when its place is not there exactly once. */
function planted(source, { name, file, find, put }) {
  const parts = source.split(find);
  if (parts.length === 2) return parts.join(put);
  throw new Error(`"${name}": its place is ${parts.length - 1} times in ${file}, not once`);
}

/** The names of tests that fail in the copy; null when the tests could not be run at all. */
function failingTests(copy, tests) {
  const report = join(copy, 'report.json');
  rmSync(report, { force: true });
  const vitest = join(copy, 'node_modules/.bin/vitest');
  const reporters = ['--reporter=json', `--outputFile=${report}`];
  const args = ['run', '--project', 'unit', '--bail=1', ...reporters, ...tests];
  spawnSync(vitest, args, { cwd: copy, timeout: TIMEOUT_MS, stdio: 'ignore' });
  try {
    const { testResults } = JSON.parse(readFileSync(report, 'utf8'));
    return testResults.flatMap(({ assertionResults, message }) => {
      // The program's own checks may be the first to notice.
      const isChecked =
        message !== '' &&
        !/SyntaxError|Transform failed|PARSE_ERROR|Cannot find module/.test(message);
      if (assertionResults.length === 0 && isChecked) return [message.split('\n')[0]];
      return assertionResults
        .filter(({ status }) => status === 'failed')
        .map(({ fullName }) => fullName);
    });
  } catch {
    return null;
  }
}

function chosenBugs() {
  const { only, share } = options;
  const named = PLANTED_BUGS.filter(
    ({ name, file }) => !only || only.some((text) => name.includes(text) || file.includes(text)),
  );
  if (!share) return named;
  const [index, count] = share.split('/').map(Number);
  return named.filter((_, at) => at % count === index);
}

function verdictOf(copy, bug) {
  const target = join(copy, bug.file);
  const source = readFileSync(target, 'utf8');
  writeFileSync(target, planted(source, bug));
  try {
    for (const test of bug.tests) {
      const failing = failingTests(copy, [test]);
      if (failing === null) return { caught: false, by: `${test} could not be run` };
      if (failing.length > 0) return { caught: true, by: `${test}: ${failing[0]}` };
    }
    return { caught: false, by: 'no test' };
  } finally {
    writeFileSync(target, source);
  }
}

/** By name of the bug what a table says it was caught by. */
function readTable(table) {
  const rows = table.matchAll(/^\| (.+?) +\| `.+?` +\| (.+?) +\|$/gm);
  return new Map([...rows].map(([, name, by]) => [name, by]));
}

function writeTable(file, planted) {
  const text = readFileSync(file, 'utf8');
  const [before, rest] = text.split(MARKS[0]);
  const [table, after] = rest?.split(MARKS[1]) ?? [];
  if (after === undefined) throw new Error(`${file} has no marks for the table`);
  const caughtBy = readTable(table);
  for (const { bug, verdict } of planted) {
    caughtBy.set(bug.name, verdict.caught ? `\`${verdict.by.split(': ')[0]}\`` : '**nothing**');
  }
  const lines = PLANTED_BUGS.map(({ name, file }) => {
    return `| ${name} | \`${file}\` | ${caughtBy.get(name) ?? NOT_RUN} |`;
  });
  const caught = lines.filter((line) => line.endsWith('` |')).length;
  const day = new Date().toISOString().slice(0, 10);
  const notRun = lines.filter((line) => line.endsWith(`| ${NOT_RUN} |`)).length;
  const others = notRun > 0 ? ` ${notRun} have not been run to the end yet on this list.` : '';
  const head = `${caught} of ${lines.length} caught (the last on ${day}).${others}\n\n| bug | planted in | caught by |\n| --- | --- | --- |`;
  writeFileSync(
    file,
    `${before}${MARKS[0]}\n\n${head}\n${lines.join('\n')}\n\n${MARKS[1]}${after}`,
  );
}

const copy = copyTree();
const rows = [];
try {
  for (const bug of chosenBugs()) {
    const verdict = verdictOf(copy, bug);
    rows.push({ bug, verdict });
    console.log(`${verdict.caught ? 'caught  ' : 'MISSED  '}${bug.name}  (${verdict.by})`);
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
if (options.table) writeTable(resolve(options.table), rows);
const missed = rows.filter(({ verdict }) => !verdict.caught);
console.log(`${rows.length - missed.length} of ${rows.length} planted bugs are caught`);
if (rows.length === 0 || missed.length > 0) process.exitCode = 1;
