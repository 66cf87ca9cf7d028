/**
 * The last lines of a test run: how many tests passed, failed and were skipped, and for want of what.
 *
 * A skipped test is easily overlooked, and a suite that skips itself proves nothing. So each is named,
 * and where nothing may be skipped (CI) one is enough to make the run fail. With
 * $CHUNKVOL_TEST_COUNTS naming a file, `PASSED FAILED SKIPPED` is appended to it as one line, and a line
 * `failed: NAME: REASON` for each test that failed.
 */
import { appendFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule, TestSuite } from 'vitest/node';

/** Set by CI: a test that is skipped counts as failed. */
const requiresAll: boolean =
  process.env.CHUNKVOL_TESTS_REQUIRE_ALL === '1' || process.env.CI === 'true';

/** Marks, in the name of a suite that describeWith skipped, what it was skipped for. */
export const NEEDS_MARK = 'needs ';

interface Counts {
  passed: number;
  failed: number;
  /** Name and reason of each test that failed. */
  readonly failures: string[];
  /** Names of the tests that were skipped, by what they were skipped for. */
  readonly skipped: Map<string, string[]>;
}

export class Summary implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const counts = count(modules);
    // A run that died on an unhandled error, or a file that did not even load, is a failure as well.
    counts.failed += errors.length;
    const skippedCount = [...counts.skipped.values()].flat().length;

    for (const [reason, names] of counts.skipped) {
      console.log(`skipped, ${reason}:${names.map((name) => `\n  ${name}`).join('')}`);
    }
    console.log(`${counts.passed} passed, ${counts.failed} failed, ${skippedCount} skipped`);
    if (skippedCount > 0 && requiresAll) {
      console.log('Nothing may be skipped here: the run counts as failed.');
      process.exitCode = 1;
    }
    const path = process.env.CHUNKVOL_TEST_COUNTS;
    if (!path) return;
    const lines = counts.failures.map((failure) => `failed: ${failure}\n`);
    const sums = `${counts.passed} ${counts.failed} ${skippedCount}\n`;
    appendFileSync(path, sums + lines.join(''));
  }
}

function count(modules: readonly TestModule[]): Counts {
  const counts: Counts = { passed: 0, failed: 0, failures: [], skipped: new Map() };
  for (const module of modules) {
    counts.failed += loadFailures(module);
    for (const test of module.children.allTests()) {
      const { state, errors } = test.result();
      if (state === 'passed') counts.passed++;
      else if (state === 'failed') {
        counts.failed++;
        counts.failures.push(`${test.fullName}: ${firstLine(errors[0]?.message)}`);
      } else note(counts.skipped, reasonOf(test), test.fullName);
    }
  }
  return counts;
}

function firstLine(message: string | undefined): string {
  return message?.split('\n', 1)[0] ?? 'no reason given';
}

/** Files and suites that failed outside of any test: at import, in a hook. */
function loadFailures(module: TestModule): number {
  const suites = [...module.children.allSuites()].filter((suite) => suite.errors().length > 0);
  return (module.errors().length > 0 ? 1 : 0) + suites.length;
}

function note(skipped: Map<string, string[]>, reason: string, name: string): void {
  const names = skipped.get(reason);
  if (names) names.push(name);
  else skipped.set(reason, [name]);
}

/** `needs fio` from the mark that describeWith left in a suite's name. */
function reasonOf(test: TestCase): string {
  for (const suite of suitesOf(test)) {
    const start = suite.name.lastIndexOf(`[${NEEDS_MARK}`);
    if (start >= 0 && suite.name.endsWith(']')) return suite.name.slice(start + 1, -1);
  }
  return 'no reason given';
}

function* suitesOf(test: TestCase): Generator<TestSuite> {
  let parent = test.parent;
  while (parent.type === 'suite') {
    yield parent;
    parent = parent.parent;
  }
}
