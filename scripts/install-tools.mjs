// Installs the system programs that the demo, the tests and the benchmarks use.
//
//   node scripts/install-tools.mjs SET...        SET: demo, test, bench
//
// tools.json is the one list of them: the program, the Debian packages that may hold it (the first
// one that the mirror knows is taken), the sets that use it, where it lies if that is not $PATH, and the
// service that its package would start. With everything there this does nothing, fast. As root on a
// system with apt it installs what is missing; otherwise it says what is missing and how to get it.
// It ends with status 0 either way: who needs a program that is not there says so himself.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const TOOLS = JSON.parse(readFileSync(new URL('tools.json', import.meta.url), 'utf8'));
const SETS = [...new Set(Object.values(TOOLS).flatMap((tool) => tool.sets))];

/** Asked by Debian's maintainer scripts before they start a service; status 101 forbids it. */
const SERVICE_POLICY = '/usr/sbin/policy-rc.d';

const sets = process.argv.slice(2);
if (sets.length === 0 || sets.some((set) => !SETS.includes(set))) {
  console.error(`usage: node scripts/install-tools.mjs SET...   (sets: ${SETS.join(', ')})`);
  process.exit(2);
}

let missing = missingTools();
if (missing.length > 0 && canInstall()) {
  install(missing);
  missing = missingTools();
}
if (missing.length > 0) report(missing);

/** Names of the chosen sets' programs that are not on this machine. */
function missingTools() {
  return Object.keys(TOOLS).filter(
    (name) => TOOLS[name].sets.some((set) => sets.includes(set)) && !isThere(name),
  );
}

function isThere(name) {
  // A user's $PATH often leaves out the folders where mkfs and its like live.
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  const onPath = TOOLS[name].paths === undefined;
  const places = onPath ? folders.map((folder) => join(folder, name)) : TOOLS[name].paths;
  return places.some((place) => (onPath ? isExecutable(place) : existsSync(place)));
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function canInstall() {
  return process.getuid?.() === 0 && existsSync('/usr/bin/apt-get');
}

function install(tools) {
  console.log(`installing what provides: ${tools.join(' ')}`);
  apt('apt-get', 'update');
  const packages = [...new Set(tools.map(packageOf).filter((name) => name !== undefined))];
  const result = withoutServices(() =>
    // A package that would push another one off this machine is not worth it.
    apt('apt-get', 'install', '--yes', '--no-install-recommends', '--no-remove', ...packages),
  );
  if (result.status !== 0)
    console.error(`apt-get install failed:\n${result.stdout}${result.stderr}`);
  disableServices(tools.filter(isThere));
}

/** The first package holding a tool that this system's mirror knows, or undefined. */
function packageOf(tool) {
  return TOOLS[tool].packages.find((name) => apt('apt-cache', 'show', name).status === 0);
}

function apt(command, ...words) {
  // Another apt at work is waited for, and no question is ever asked.
  return spawnSync(command, ['-q', '-o', 'DPkg::Lock::Timeout=300', ...words], {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', NEEDRESTART_MODE: 'l' },
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 2 ** 26,
  });
}

/** Runs `work` while packages may not start their services. */
function withoutServices(work) {
  if (existsSync(SERVICE_POLICY)) return work();
  // With a handler of ours an interrupt ends apt first, and then the policy is removed below.
  process.once('SIGINT', () => process.exit(130));
  writeFileSync(SERVICE_POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return work();
  } finally {
    rmSync(SERVICE_POLICY, { force: true });
  }
}

/** Keeps the services of freshly installed packages from starting at the next boot, too. */
function disableServices(tools) {
  if (!existsSync('/usr/bin/systemctl')) return;
  for (const { service } of tools.map((name) => TOOLS[name])) {
    if (service !== undefined) spawnSync('systemctl', ['--quiet', 'disable', service]);
  }
}

function report(tools) {
  const packages = [...new Set(tools.map((name) => TOOLS[name].packages[0]))];
  console.log(`missing programs: ${tools.join(' ')}`);
  console.log(
    `on Debian or Ubuntu: sudo apt-get install --no-install-recommends ${packages.join(' ')}`,
  );
  console.log('what needs them is left out, and says so.');
}
