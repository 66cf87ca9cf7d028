import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isChunkvolError } from '../../../src/base/errors.js';
import { RemoteMemory } from '../../../src/sync/memory.js';
import { downloadVolume } from '../../../src/sync/restore.js';
import { runSync } from '../../../src/sync/run.js';
import { MemoryRemote, type Fault } from '../../support/memory-remote.js';
import { credential, environment, SealedVolume } from '../../support/sealed-volume.js';
import { wholeRoots } from '../../support/whole-roots.js';

const KINDS: readonly Fault[] = ['before', 'midway', 'after'];

let base: string;
let runs = 0;

beforeAll(() => {
  base = fs.mkdtempSync(path.join(os.tmpdir(), 'interrupt-'));
});

afterAll(() => {
  fs.rmSync(base, { recursive: true });
});

/** A volume, what this machine remembers, and a remote, each a copy of its own. */
class Scene {
  private constructor(
    readonly volume: SealedVolume,
    readonly remote: MemoryRemote,
    readonly folder: string,
  ) {}

  static async create(): Promise<Scene> {
    const folder = path.join(base, String(runs++));
    const volume = await SealedVolume.create(path.join(folder, 'volume'));
    fs.mkdirSync(path.join(folder, 'state'));
    return new Scene(volume, new MemoryRemote(), folder);
  }

  copy(): Scene {
    const folder = path.join(base, String(runs++));
    fs.cpSync(path.join(this.folder, 'state'), path.join(folder, 'state'), { recursive: true });
    const remote = new MemoryRemote();
    for (const [name, bytes] of this.remote.files) remote.files.set(name, bytes);
    return new Scene(this.volume.copyTo(path.join(folder, 'volume')), remote, folder);
  }

  async sync(): Promise<void> {
    await runSync(this.volume, this.remote, { memory: this.memory() });
  }

  async restore(): Promise<number> {
    const target = path.join(this.folder, 'restored');
    const options = { credential, memory: this.memory() };
    return (await downloadVolume(environment, this.remote, target, options)).generation;
  }

  whole(): number[] {
    return wholeRoots(this.volume.context, this.remote);
  }

  /** Runs `work` with one operation broken; true when it failed for that. */
  async broken(operation: number, kind: Fault, work: () => Promise<unknown>): Promise<boolean> {
    this.remote.log.length = 0;
    this.remote.fault = { operation, kind };
    try {
      await work();
      return false;
    } catch (error) {
      if (!isChunkvolError(error, 'remote')) throw error;
      return true;
    } finally {
      expect(this.remote.fault, 'the operation was never reached').toBeNull();
    }
  }

  private memory(): RemoteMemory {
    return new RemoteMemory(environment.files, path.join(this.folder, 'state'));
  }
}

/** Breaks every operation that `work` takes, in every way. */
async function breakEverywhere(
  template: Scene,
  work: (scene: Scene) => Promise<unknown>,
  check: (scene: Scene, failed: boolean) => Promise<void>,
): Promise<string[]> {
  const clean = template.copy();
  await work(clean);
  const operations = [...clean.remote.log];
  for (const operation of operations.keys()) {
    for (const kind of KINDS) {
      const scene = template.copy();
      const failed = await scene.broken(operation, kind, () => work(scene));
      await check(scene, failed);
    }
  }
  return operations;
}

describe('a sync that is interrupted anywhere', () => {
  it('is finished by the next one, from nothing', async () => {
    const template = await Scene.create();
    template.volume.write();
    await template.volume.sealNow();
    const operations = await breakEverywhere(
      template,
      (scene) => scene.sync(),
      async (scene, failed) => {
        expect(failed).toBe(true);
        scene.whole();
        await scene.sync();
        expect(scene.whole()).toEqual([2]);
      },
    );
    expect(operations).toHaveLength(10);
  });

  it('leaves the earlier state whole, and is finished by the next one', async () => {
    const template = await Scene.create();
    template.volume.write();
    await template.sync();
    template.volume.write();
    await template.volume.sealNow();
    await template.volume.changeKeys();
    const operations = await breakEverywhere(
      template,
      (scene) => scene.sync(),
      async (scene, failed) => {
        // Removing the old key file comes after the copy is complete, and may fail.
        expect(failed || scene.remote.log.at(-1) === 'remove 1 keys').toBe(true);
        expect(scene.whole()[0]).toBe(2);
        expect(await scene.copy().restore()).toBe(scene.whole().at(-1));
        await scene.sync();
        expect(scene.whole()).toEqual([2, 3]);
        expect(scene.remote.names('keys')).toHaveLength(1);
        expect(scene.remote.names('chunks')).toHaveLength(12);
      },
    );
    expect(operations).toHaveLength(11);
  });
});

describe('a restore that is interrupted anywhere', () => {
  it('is finished by the next one', async () => {
    const template = await Scene.create();
    template.volume.write(3, true);
    await template.sync();
    template.volume.write();
    await template.sync();
    await breakEverywhere(
      template,
      (scene) => scene.restore(),
      async (scene, failed) => {
        const target = path.join(scene.folder, 'restored');
        expect(fs.existsSync(path.join(target, 'keys'))).toBe(!failed);
        if (failed) expect(await scene.restore()).toBe(3);
        for (const name of scene.remote.names('chunks')) {
          const bytes = fs.readFileSync(path.join(target, name));
          expect(bytes.equals(scene.remote.files.get(name)!)).toBe(true);
        }
        expect(fs.existsSync(path.join(target, 'local/restoring'))).toBe(false);
      },
    );
  });
});
