/** The options that every command knows, and how a command gets at them. */
import { type Command, Option } from 'commander';
import { VOLUME_VARIABLE } from './volume-folder.js';

export interface GlobalOptions {
  readonly volume?: string;
  readonly quiet?: boolean;
}

/** Commander takes the program's options before and after the verb alike. */
export function addGlobalOptions(program: Command): Command {
  return program
    .addOption(
      new Option(
        '-C, --volume <dir>',
        `the volume's folder (default: $${VOLUME_VARIABLE}, else .)`,
      ),
    )
    .option('-q, --quiet', 'show no progress and no remarks');
}

/** Writes a line to standard output unless the user wants none. */
export function remark(options: GlobalOptions, line: string): void {
  if (!options.quiet) process.stdout.write(`${line}\n`);
}

/** Takes notices of a volume being opened: to standard error, unless the user wants none. */
export function remarkOn(options: GlobalOptions): (line: string) => void {
  return (line) => {
    if (!options.quiet) process.stderr.write(`chunkvol: ${line}\n`);
  };
}

/** Writes what the user asked for. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
