/** `chunkvol snapshot diff`: which ranges of the disk have changed. */
import type { Command } from 'commander';
import { checkSnapshotName } from '../../../volume/snapshots.js';
import { withVolume } from '../../access.js';
import { print, type GlobalOptions } from '../../options.js';
import { addCredentialOptions, type CredentialSources } from '../../passphrase.js';
import { formatBytes } from '../../size.js';
import type { DiffArguments, DiffOutcome } from '../../snapshot-operations.js';
import type { DiskRange } from '../../verify.js';
import { existingVolume } from '../../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly json?: boolean;
}

const DIFF_SCHEMA = 1;

export function addSnapshotDiff(snapshot: Command): void {
  const command = snapshot
    .command('diff')
    .summary('list what has changed between two states')
    .description(
      'Lists the ranges of the disk that have been written or trimmed between snapshot A and snapshot ' +
        'B, or the disk as it is now, in whole blocks, and how many bytes these are. Reads none of the ' +
        'contents: a block that was written with what it held before is listed as well.',
    )
    .argument('<a>', 'a snapshot')
    .argument('[b]', 'another (default: the disk as it is now)')
    .option('--json', 'as JSON; docs/cli.md describes the schema');
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol -C backup snapshot diff monday tuesday')
    .action((from: string, to: string | undefined) =>
      runDiff({ from, to: to ?? null }, command.optsWithGlobals()),
    );
}

async function runDiff(args: DiffArguments, options: Options): Promise<void> {
  checkSnapshotName(args.from);
  if (args.to !== null) checkSnapshotName(args.to);
  const folder = existingVolume(options.volume);
  const report = options.json ? new JsonReport(args) : new TextReport(args);
  const outcome = await withVolume(folder, options, (call) =>
    call('diff', args, (part) => {
      report.add(part as DiskRange[]);
    }),
  );
  report.end(outcome as DiffOutcome);
}

/** Written as it comes: there may be millions of ranges. */
class TextReport {
  constructor(private readonly args: DiffArguments) {}

  add(ranges: readonly DiskRange[]): void {
    const lines = ranges.map(
      ({ offset, bytes }) => `bytes ${offset} to ${offset + bytes} (${formatBytes(bytes)})`,
    );
    print(lines.join('\n'));
  }

  end({ ranges, changedBytes }: DiffOutcome): void {
    const { from, to } = this.args;
    const count = ranges === 1 ? '1 range' : `${ranges} ranges`;
    const until = to ?? 'the disk as it is now';
    print(`${count}, ${formatBytes(changedBytes)} changed between ${from} and ${until}`);
  }
}

/** One JSON object, of which each range is a line. */
class JsonReport {
  #begun = false;

  constructor(private readonly args: DiffArguments) {}

  add(ranges: readonly DiskRange[]): void {
    this.#write(this.#begun ? ',\n' : `${this.#head()}\n`);
    this.#write(ranges.map((range) => `  ${JSON.stringify(range)}`).join(',\n'));
    this.#begun = true;
  }

  end({ changedBytes }: DiffOutcome): void {
    if (!this.#begun) this.#write(this.#head());
    this.#write(`\n], "changedBytes": ${changedBytes} }\n`);
  }

  #head(): string {
    const { from, to } = this.args;
    const names = `"from": ${JSON.stringify(from)}, "to": ${JSON.stringify(to)}`;
    return `{ "schema": ${DIFF_SCHEMA}, ${names}, "ranges": [`;
  }

  #write(text: string): void {
    process.stdout.write(text);
  }
}
