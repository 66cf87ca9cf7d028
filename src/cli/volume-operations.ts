/** The operations that change an open volume as a whole, or what becomes of its files. */
import { alignUp } from '../base/bytes.js';
import { cloneSnapshot } from '../volume/clone.js';
import type { CollectReport } from '../volume/collector.js';
import type { Attachment } from './attachment.js';
import type { Operation, OperationContext } from './control-server.js';
import type { LongWork } from './long-work.js';
import type { OperationHost } from './operations.js';

export interface CollectArguments {
  readonly aggressive: boolean;
}

export interface ResizeArguments {
  /** Rounded up to whole blocks. */
  readonly sizeBytes: number;
}

export interface ResizeOutcome {
  readonly oldSizeBytes: number;
  readonly sizeBytes: number;
  /** Where the disk is shown, maybe in the size that it had when it was attached. */
  readonly attachments: readonly Attachment[];
}

export interface CloneArguments {
  readonly snapshot: string;
  /** Absolute; empty or absent. */
  readonly folder: string;
  readonly name: string;
}

/** `hold` sends one part, once nothing is deleted any more, and ends when it is aborted. */
export function volumeOperations(
  host: OperationHost,
  long: LongWork,
): Record<'collect' | 'resize' | 'clone' | 'hold', Operation> {
  const { volume } = host;
  return {
    collect: long.exclusive('gc', (args, context) =>
      collect(host, args as CollectArguments, context),
    ),
    resize: (args) => resize(host, args as ResizeArguments),
    clone: (args, { signal }) => {
      const { snapshot, folder, name } = args as CloneArguments;
      return cloneSnapshot(volume, snapshot, folder, { name, signal });
    },
    hold: (_, context) => hold(host, context),
  };
}

function collect(
  { volume }: OperationHost,
  { aggressive }: CollectArguments,
  { signal, onProgress }: OperationContext,
): Promise<CollectReport> {
  return volume.collect({
    aggressive,
    signal,
    onProgress: (doneBytes, totalBytes) => {
      onProgress({ phase: 'collecting', doneBytes, totalBytes });
    },
  });
}

async function resize(
  { volume, attachments }: OperationHost,
  args: ResizeArguments,
): Promise<ResizeOutcome> {
  const oldSizeBytes = volume.sizeBytes;
  const sizeBytes = alignUp(args.sizeBytes, volume.blockBytes);
  if (sizeBytes !== oldSizeBytes) await volume.resize(sizeBytes);
  const ofDisk = attachments.filter(({ snapshot }) => snapshot === null);
  return { oldSizeBytes, sizeBytes, attachments: ofDisk };
}

async function hold({ volume }: OperationHost, { signal, send }: OperationContext): Promise<void> {
  const release = volume.holdDeletion();
  try {
    // An open file gets another name when it is sealed: a copier that had listed it would miss it.
    if (!volume.readOnly) await volume.sealNow();
    await send('held');
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => {
        resolve();
      });
    });
  } finally {
    release();
  }
}
