/** A remote on simulated files: a second folder of the same machine, whose files are always durable. */
import type { Remote, RemoteFile } from '../../src/sync/remote.js';
import type { SimulatedFiles } from './files.js';
import { turn } from './turn.js';

export class SimulatedRemote implements Remote {
  readonly url = 'simulated:remote';
  private readonly contents = new Map<string, Uint8Array>();

  /** `files` gives the machine's disk as it is now: after a crash it is another one. */
  constructor(private readonly files: () => SimulatedFiles) {}

  /** The same remote for a fork of the machine. */
  copy(files: () => SimulatedFiles): SimulatedRemote {
    const copy = new SimulatedRemote(files);
    for (const [path, bytes] of this.contents) copy.contents.set(path, bytes);
    return copy;
  }

  list(folder: string): Promise<RemoteFile[]> {
    const found = [...this.contents].filter(([path]) => path.startsWith(`${folder}/`));
    return Promise.resolve(found.map(([path, { length }]) => ({ path, bytes: length })));
  }

  async upload(localFolder: string, paths: readonly string[]): Promise<void> {
    const files = this.files();
    for (const path of paths) {
      // What ran on a machine that has crashed since does not go on.
      if (this.files() !== files) await new Promise(() => undefined);
      const bytes = files.peek(`${localFolder}/${path}`);
      if (!bytes) throw new Error(`${path} was deleted before it was uploaded`);
      if (this.contents.get(path)?.length !== bytes.length) this.contents.set(path, bytes);
      // Long copying: the volume is at work meanwhile.
      await turn();
    }
  }

  download(localFolder: string, paths: readonly string[]): Promise<void> {
    for (const path of paths) {
      this.files().poke(`${localFolder}/${path}`, this.contents.get(path)!);
    }
    return Promise.resolve();
  }

  remove(paths: readonly string[]): Promise<void> {
    for (const path of paths) this.contents.delete(path);
    return Promise.resolve();
  }
}
