/**
 * `chunkvol key`: who can open a volume. Works while it is attached, too: key files are files of their
 * own, and a new one takes the place of the old in one step.
 */
import { Option, type Command } from 'commander';
import { equalBytes, toHex } from '../../base/bytes.js';
import { ChunkvolError } from '../../base/errors.js';
import { wrapVolumeKey, type Credential } from '../../crypto/key-slot.js';
import { MAX_KEY_SLOTS, type KeySlot } from '../../format/key-file.js';
import type { Environment } from '../../store/context.js';
import {
  keySlot,
  lockKeyFiles,
  publishKeyFile,
  unlock,
  type UnlockedVolume,
} from '../../store/key-files.js';
import { newArgon2Parameters, systemEnvironment } from '../environment.js';
import { print, remark, type GlobalOptions } from '../options.js';
import {
  addCredentialOptions,
  readCredential,
  readNewCredential,
  type CredentialSources,
} from '../passphrase.js';
import { existingVolume } from '../volume-folder.js';

interface Options extends GlobalOptions, CredentialSources {
  readonly newPassphraseFile?: string;
  readonly newKeyFile?: string;
}

const SLOT_ID_BYTES = 8;
const OLD_COPIES =
  '\nA passphrase or key file that was removed still opens old copies of the files in keys/, on remotes\n' +
  'and in backups: whoever may have learnt it and has such a copy can read the volume.';

export function addKey(program: Command): void {
  const key = program
    .command('key')
    .summary('list, add, remove and change passphrases and key files')
    .description('Passphrases and key files, each of which opens the volume.')
    .addHelpText(
      'after',
      `${OLD_COPIES}\n\nExample:\n  chunkvol -C backup key add --new-key-file usb.key`,
    );

  const list = key.command('list').description('Lists who can open the volume.');
  addCredentialOptions(list)
    .addHelpText('after', '\nExample:\n  chunkvol key list')
    .action(() => runList(list.optsWithGlobals()));

  const add = key
    .command('add')
    .description('Adds a passphrase or a key file (of 32 bytes or more).');
  addNewCredentialOptions(add)
    .addHelpText('after', '\nExample:\n  chunkvol key add --new-passphrase-file second.txt')
    .action(() => runAdd(add.optsWithGlobals()));

  const remove = key
    .command('remove')
    .description('Removes the one with this ID; the last one stays.')
    .argument('<id>', 'as key list shows it, or its first digits');
  addCredentialOptions(remove)
    .addHelpText('after', `${OLD_COPIES}\n\nExample:\n  chunkvol key remove 3f9a02c41b77e5d0`)
    .action((id: string) => runRemove(id, remove.optsWithGlobals()));

  const change = key
    .command('change')
    .description('Replaces the passphrase or key file that is given by a new one.');
  addNewCredentialOptions(change)
    .addHelpText('after', `${OLD_COPIES}\n\nExample:\n  chunkvol key change`)
    .action(() => runChange(change.optsWithGlobals()));
}

function addNewCredentialOptions(command: Command): Command {
  return addCredentialOptions(command)
    .option('--new-passphrase-file <file>', 'read the new passphrase from a file')
    .addOption(
      new Option('--new-key-file <file>', 'the new one is a key file').conflicts(
        'newPassphraseFile',
      ),
    );
}

async function runList(options: Options): Promise<void> {
  const { keyFile, slotId } = await open(options, systemEnvironment());
  for (const slot of keyFile.slots) {
    const created = new Date(slot.createdMs).toISOString().slice(0, 10);
    const used = equalBytes(slot.id, slotId) ? '  (opened with this one)' : '';
    print(`${toHex(slot.id)}  ${slot.kind.padEnd(10)}  ${created}${used}`);
  }
}

async function runAdd(options: Options): Promise<void> {
  const added = await edit(options, async (environment, { volumeKey, keyFile }) => {
    if (keyFile.slots.length >= MAX_KEY_SLOTS) {
      throw new ChunkvolError('usage', `there are ${MAX_KEY_SLOTS} already; remove one first`);
    }
    const slot = await makeSlot(environment, volumeKey, await askNew(options));
    return { slots: [...keyFile.slots, slot], slot };
  });
  remark(options, `added ${toHex(added.id)}`);
}

async function runRemove(prefix: string, options: Options): Promise<void> {
  const removed = await edit(options, (_, { keyFile }) => {
    const slot = findSlot(keyFile.slots, prefix);
    if (keyFile.slots.length === 1) {
      throw new ChunkvolError('usage', 'this is the only one left; add another first');
    }
    return Promise.resolve({ slots: keyFile.slots.filter((other) => other !== slot), slot });
  });
  remark(options, `removed ${toHex(removed.id)}; it still opens old copies of the key file`);
}

async function runChange(options: Options): Promise<void> {
  const added = await edit(options, async (environment, { volumeKey, keyFile, slotId }) => {
    const slot = await makeSlot(environment, volumeKey, await askNew(options));
    const slots = keyFile.slots.map((old) => (equalBytes(old.id, slotId) ? slot : old));
    return { slots, slot };
  });
  remark(
    options,
    `changed to ${toHex(added.id)}; the old one still opens old copies of the key file`,
  );
}

async function open(options: Options, environment: Environment): Promise<UnlockedVolume> {
  const folder = existingVolume(options.volume);
  return unlock(environment.files, folder, await readCredential(options));
}

type Change = (
  environment: Environment,
  unlocked: UnlockedVolume,
) => Promise<{ readonly slots: readonly KeySlot[]; readonly slot: KeySlot }>;

/** Two changes at once would publish the same counter twice, and one of them would be lost. */
async function edit(options: Options, change: Change): Promise<KeySlot> {
  const folder = existingVolume(options.volume);
  refuseTwoFromStandardInput(options);
  const environment = systemEnvironment();
  const credential = await readCredential(options);
  const lock = await lockKeyFiles(environment.files, folder);
  try {
    const unlocked = await unlock(environment.files, folder, credential);
    const { slots, slot } = await change(environment, unlocked);
    const { volumeId, counter } = unlocked.keyFile;
    const keyFile = { volumeId, counter: counter + 1, slots };
    await publishKeyFile(environment.files, folder, unlocked.keys, keyFile);
    return slot;
  } finally {
    await lock.release();
  }
}

function refuseTwoFromStandardInput(options: Options): void {
  const sources = [
    options.passphraseFile,
    options.keyFile,
    options.newPassphraseFile,
    options.newKeyFile,
  ];
  if (sources.filter((source) => source === '-').length > 1) {
    throw new ChunkvolError('usage', 'only one of the two can come from standard input');
  }
}

function askNew({ newPassphraseFile, newKeyFile }: Options): Promise<Credential> {
  return readNewCredential(
    { passphraseFile: newPassphraseFile, keyFile: newKeyFile },
    {
      question: 'New passphrase',
      useEnvironment: false,
      ways: '--new-passphrase-file F or --new-key-file F',
    },
  );
}

async function makeSlot(
  environment: Environment,
  volumeKey: Uint8Array,
  credential: Credential,
): Promise<KeySlot> {
  const { random, clock } = environment;
  const wrapped = await wrapVolumeKey(volumeKey, credential, random, newArgon2Parameters());
  return keySlot(random.bytes(SLOT_ID_BYTES), clock.now(), wrapped);
}

function findSlot(slots: readonly KeySlot[], prefix: string): KeySlot {
  const found = slots.filter((slot) => toHex(slot.id).startsWith(prefix.toLowerCase()));
  if (found.length === 1) return found[0]!;
  const problem = found.length === 0 ? 'no key has' : 'several keys have';
  throw new ChunkvolError(
    'usage',
    `${problem} the ID ${JSON.stringify(prefix)}; see chunkvol key list`,
  );
}
