/** Operations on an open volume, as they are called without a server. */
import { describe, expect, it, vi } from 'vitest';
import type { OperationContext } from '../../../src/cli/control-server.js';
import { operationsOf, type OperationHost } from '../../../src/cli/operations.js';
import type { RollbackOutcome } from '../../../src/cli/snapshot-operations.js';
import type { ResizeOutcome } from '../../../src/cli/volume-operations.js';
import { unlock } from '../../../src/store/key-files.js';
import type { Volume } from '../../../src/volume/volume.js';
import {
  environment,
  keyFile,
  makeVolume,
  open,
  patterned,
  temporaryFolder,
} from '../../support/volumes.js';

const MIB = 2 ** 20;

const context: OperationContext = {
  signal: new AbortController().signal,
  onProgress: () => undefined,
  send: () => Promise.resolve(),
};

/** Works with the operations on a new volume, which is closed after. */
async function withHost(
  work: (
    operations: ReturnType<typeof operationsOf>,
    volume: Volume,
    attachments: OperationHost['attachments'][number][],
  ) => Promise<void>,
): Promise<void> {
  const folder = temporaryFolder();
  await makeVolume(folder);
  const unlocked = await unlock(environment.files, folder, keyFile);
  const volume = await open(folder);
  const attachments: OperationHost['attachments'][number][] = [];
  const host = { environment, folder, volume, unlocked, server: null, attachments, served: null };
  try {
    await work(operationsOf(host), volume, attachments);
  } finally {
    await volume.close();
  }
}

describe('scrub and repair', () => {
  it.each(['scrub', 'repair'] as const)('have no file deleted: %s', async (name) => {
    await withHost(async (operations, volume) => {
      await volume.write(0, patterned(MIB, 1));
      await volume.sealNow();
      const release = vi.fn();
      const hold = vi.spyOn(volume, 'holdDeletion').mockReturnValue(release);
      const groups = vi.spyOn(volume, 'groups').mockImplementation(() => {
        expect(hold).toHaveBeenCalledTimes(1);
        expect(release).not.toHaveBeenCalled();
        return [];
      });
      await operations[name]({ from: null }, context);
      expect(groups).toHaveBeenCalled();
      expect(release).toHaveBeenCalledTimes(1);
      vi.restoreAllMocks();
    });
  });
});

describe('hold', () => {
  it('tells when it holds, and lets go when it is aborted', async () => {
    await withHost(async (operations, volume) => {
      const release = vi.fn();
      vi.spyOn(volume, 'holdDeletion').mockReturnValue(release);
      const seal = vi.spyOn(volume, 'sealNow');
      const controller = new AbortController();
      const parts: unknown[] = [];
      const send = (part: unknown): Promise<void> => {
        parts.push(part);
        return Promise.resolve();
      };
      const holding = operations.hold({}, { ...context, signal: controller.signal, send });
      await expect.poll(() => parts).toEqual(['held']);
      expect(seal).toHaveBeenCalledOnce();
      expect(release).not.toHaveBeenCalled();
      controller.abort();
      await holding;
      expect(release).toHaveBeenCalledTimes(1);
      await operations.hold({}, { ...context, signal: controller.signal, send });
      expect(release).toHaveBeenCalledTimes(2);
      vi.restoreAllMocks();
    });
  });
});

describe('the operations of snapshots', () => {
  it('find names of their own for rollbacks within one second', async () => {
    await withHost(async (operations, volume) => {
      await operations['create-snapshot']({ name: 'one' }, context);
      const kept: string[] = [];
      for (let count = 0; count < 3; count++) {
        await volume.write(count * 4096, patterned(4096, count));
        const outcome = await operations.rollback({ name: 'one' }, context);
        kept.push((outcome as RollbackOutcome).kept.name);
      }
      expect(new Set(kept).size).toBe(3);
      expect(volume.snapshots().map(({ name }) => name)).toEqual(['one', ...kept]);
      await expect(operations['create-snapshot']({ name: 'one' }, context)).rejects.toMatchObject({
        code: 'exists',
      });
    });
  });

  it('roll back the size as well, and say so', async () => {
    await withHost(async (operations, volume) => {
      const before = volume.sizeBytes;
      await operations['create-snapshot']({ name: 'one' }, context);
      await operations.resize({ sizeBytes: 2 * before }, context);
      expect(await operations.rollback({ name: 'one' }, context)).toMatchObject({
        sizeBytes: before,
        oldSizeBytes: 2 * before,
      });
      expect(volume.sizeBytes).toBe(before);
    });
  });

  it('send changed ranges in parts, of a bounded length', async () => {
    await withHost(async (operations, volume) => {
      await operations['create-snapshot']({ name: 'one' }, context);
      for (let block = 0; block < 6000; block += 2) {
        await volume.write(block * 4096, patterned(4096, block + 1));
      }
      const parts: { offset: number; bytes: number }[][] = [];
      let sending = false;
      const send = async (part: unknown): Promise<void> => {
        expect(sending).toBe(false);
        sending = true;
        await new Promise((resolve) => setTimeout(resolve, 5));
        sending = false;
        parts.push(part as { offset: number; bytes: number }[]);
      };
      const outcome = await operations.diff({ from: 'one', to: null }, { ...context, send });
      expect(outcome).toEqual({ ranges: 3000, changedBytes: 3000 * 4096 });
      expect(parts.map(({ length }) => length)).toEqual([1024, 1024, 952]);
      const offsets = parts.flat().map(({ offset }) => offset);
      expect(offsets).toEqual(Array.from({ length: 3000 }, (_, at) => at * 8192));
    });
  });
});

describe('resize', () => {
  it('names where the disk is shown in its old size, and no snapshot', async () => {
    await withHost(async (operations, volume, attachments) => {
      const place = { kind: 'fuse', createdFile: true } as const;
      attachments.push({ ...place, target: '/a', snapshot: 'one' });
      attachments.push({ ...place, target: '/b', snapshot: null });
      const sizeBytes = volume.sizeBytes + 5000;
      const outcome = (await operations.resize({ sizeBytes }, context)) as ResizeOutcome;
      expect(outcome.sizeBytes).toBe(volume.sizeBytes);
      expect(outcome.sizeBytes - outcome.oldSizeBytes).toBe(8192);
      expect(outcome.attachments.map(({ target }) => target)).toEqual(['/b']);
      const again = (await operations.resize({ sizeBytes }, context)) as ResizeOutcome;
      expect(again).toEqual({ ...outcome, oldSizeBytes: outcome.sizeBytes });
    });
  });
});
