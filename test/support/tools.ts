/**
 * What a test needs of the machine: programs, the right to mount, devices of the kernel.
 *
 * A suite that needs something says so with `describeWith`. Where it is missing the suite is skipped
 * with the reason in its name, which the summary at the end collects (test/support/summary.ts); where
 * nothing may be missing, as in CI, the summary makes a failure of it.
 */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { describe } from 'vitest';
import tools from '../../scripts/tools.json' with { type: 'json' };
import { NEEDS_MARK } from './summary.js';

/** A program of scripts/tools.json, or a property of the machine that no package brings. */
export type Need = keyof typeof tools | Facility;
type Facility = 'root' | 'fuse' | 'apt' | 'loop';

const FACILITIES: Readonly<Record<Facility, () => boolean>> = {
  root: () => process.getuid?.() === 0,
  fuse: () => isAccessible('/dev/fuse', constants.R_OK | constants.W_OK),
  apt: () => isAccessible('/usr/bin/apt-get', constants.X_OK),
  loop: () => isAccessible('/dev/loop-control', constants.R_OK | constants.W_OK),
};

/** Those of `needs` that this machine does not have. */
export function missing(...needs: readonly Need[]): Need[] {
  return needs.filter((need) => !isThere(need));
}

/** True if nothing of `needs` is missing. */
export function has(...needs: readonly Need[]): boolean {
  return missing(...needs).length === 0;
}

/** A suite that runs only where everything it needs is there, and else says what was missing. */
export function describeWith(needs: readonly Need[], name: string, body: () => void): void {
  const lacking = missing(...needs);
  if (lacking.length === 0) describe(name, body);
  else describe.skip(`${name} [${NEEDS_MARK}${lacking.join(', ')}]`, body);
}

/** Where a program of scripts/tools.json lies (which may be outside of $PATH). */
export function pathOf(tool: keyof typeof tools): string {
  const found = placesOf(tool).find((place) => isAccessible(place, constants.R_OK));
  if (found === undefined) throw new Error(`${tool} is not installed`);
  return found;
}

function isThere(need: Need): boolean {
  if (need in FACILITIES) return FACILITIES[need as Facility]();
  return placesOf(need as keyof typeof tools).some((place) => isAccessible(place, constants.R_OK));
}

function placesOf(tool: keyof typeof tools): readonly string[] {
  const entry: { packages: string[]; sets: string[]; paths?: string[] } = tools[tool];
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return entry.paths ?? folders.map((folder) => join(folder, tool));
}

function isAccessible(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
