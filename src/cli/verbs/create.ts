/** `chunkvol create`: a new volume in an empty folder. */
import * as path from 'node:path';
import type { Command } from 'commander';
import { alignUp } from '../../base/bytes.js';
import { ChunkvolError } from '../../base/errors.js';
import { makeGeometry } from '../../base/geometry.js';
import { createVolume, type CreateOptions } from '../../volume/create.js';
import { newArgon2Parameters, systemEnvironment } from '../environment.js';
import { remark, type GlobalOptions } from '../options.js';
import { addCredentialOptions, readNewCredential, type CredentialSources } from '../passphrase.js';
import { formatBytes, parseSize } from '../size.js';
import { checkVolumeName, parseDiskSize } from '../volume-arguments.js';
import { chosenFolder, requireEmpty } from '../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly size: string;
  readonly data: string;
  readonly parity: string;
  readonly chunkSize: string;
  readonly blockSize: string;
  readonly name?: string;
}

export function addCreate(program: Command): void {
  const command = program
    .command('create')
    .summary('make a new volume')
    .description(
      'Makes a new volume in DIR, which must be empty or not be there. Sizes are written with K, M, ' +
        'G, T or P (powers of 1024). Nothing is reserved: chunk files grow with what is written.',
    )
    .argument('[dir]', "the new volume's folder (default: as -C)")
    .requiredOption('--size <size>', 'size of the disk, up to 1P; rounded up to whole blocks')
    .option('--data <n>', 'data files of a group, 1 to 32', '4')
    .option('--parity <n>', 'parity files of a group, 0 to 8: so many of a group may be lost', '2')
    .option('--chunk-size <size>', 'size of a chunk file, 1M to 16G', '1G')
    .option('--block-size <size>', 'unit of the disk, 4K to 64K', '4K')
    .option('--name <name>', "the volume's name (default: that of its folder)");
  addCredentialOptions(command)
    .addHelpText('after', '\nExample:\n  chunkvol create backup --size 100G')
    .action((folder: string | undefined) => runCreate(folder, command.optsWithGlobals()));
}

async function runCreate(argument: string | undefined, options: Options): Promise<void> {
  const folder = chosenFolder(argument ?? options.volume);
  const { sizeBytes, blockBytes, ...layout } = checkLayout(options);
  const name = checkVolumeName(options.name ?? path.basename(folder));
  requireEmpty(folder);
  const question = { question: 'Passphrase for the new volume', useEnvironment: true };
  const settings: CreateOptions = {
    name,
    sizeBytes,
    blockBytes,
    geometry: layout.geometry,
    argon2: newArgon2Parameters(),
    credential: await readNewCredential(options, question),
  };
  await createVolume(systemEnvironment(), folder, settings);
  const { data, parity, chunkBytes } = layout.geometry;
  remark(
    options,
    `created ${name} in ${folder}: ${formatBytes(sizeBytes)}, groups of ${data} + ${parity} files of ${formatBytes(chunkBytes)}`,
  );
  if (sizeBytes !== layout.askedBytes) {
    remark(options, `the size was rounded up from ${layout.askedBytes} to ${sizeBytes} bytes`);
  }
}

function checkLayout(options: Options): {
  geometry: CreateOptions['geometry'];
  blockBytes: number;
  sizeBytes: number;
  askedBytes: number;
} {
  const blockBytes = parseSize(options.blockSize, '--block-size');
  const chunkBytes = parseSize(options.chunkSize, '--chunk-size');
  const data = parseCount(options.data, '--data');
  const parity = parseCount(options.parity, '--parity');
  const geometry = makeGeometry(data, parity, chunkBytes, blockBytes);
  const askedBytes = parseDiskSize(options.size, '--size');
  return { geometry, blockBytes, sizeBytes: alignUp(askedBytes, blockBytes), askedBytes };
}

function parseCount(text: string, option: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new ChunkvolError('usage', `${option} ${JSON.stringify(text)} is not a number`);
}
