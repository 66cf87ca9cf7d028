// Runs the simulator for a time: `npm run soak -- --what lives --minutes 60 --first 1`. See test/soak/.
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    what: { type: 'string', default: 'crashes' },
    minutes: { type: 'string', default: '60' },
    first: { type: 'string', default: '1' },
  },
});
const root = resolve(import.meta.dirname, '..');
const { status } = spawnSync('npx', ['vitest', 'run', '--project', 'soak'], {
  cwd: root,
  stdio: 'inherit',
  env: {
    ...process.env,
    CHUNKVOL_SOAK_WHAT: values.what,
    CHUNKVOL_SOAK_MINUTES: values.minutes,
    CHUNKVOL_SOAK_FIRST: values.first,
  },
});
process.exitCode = status ?? 1;
