/**
 * Syncs of a volume under load that are killed, with the server and all tools, at random moments. After
 * each the remote must hold a whole state that is no older than the last sync that was finished.
 */
import * as path from 'node:path';
import { expect } from 'vitest';
import { groupFiles } from './group-files.js';
import type { Place } from './remote-places.js';
import { delay, type Outcome, type Sandbox, type ServedVolume } from './sandbox.js';
import { Load, UNIT_BYTES, VersionedDisk, type Marks } from './versioned-disk.js';

const DISK_BYTES = 12 * 2 ** 20;
/** So that the log grows by a few MiB in a round, and not by hundreds. */
const PAUSE_MS = 20;
const NAME = 'volume';

export class KilledSyncs {
  readonly disk: VersionedDisk = new VersionedDisk(DISK_BYTES / UNIT_BYTES);
  readonly tally = { finished: 0, killed: 0 };
  /** What the last finished sync has brought to the remote at least. */
  #floor: Marks | null = null;
  #syncMs = 0;
  #restoreCount = 0;

  private constructor(
    private readonly sandbox: Sandbox,
    private readonly place: Place,
    readonly volume: string,
    private readonly random: () => number,
  ) {}

  static async begin(sandbox: Sandbox, place: Place, random: () => number): Promise<KilledSyncs> {
    Object.assign(sandbox.environment, place.environment);
    const volume = await sandbox.create(sandbox.path(NAME));
    const syncs = new KilledSyncs(sandbox, place, volume, random);
    await syncs.finish();
    return syncs;
  }

  get url(): string {
    return this.place.url(NAME);
  }

  /** One sync under load, killed at a moment within the time that it needs; then looks at the remote. */
  async killOne(): Promise<void> {
    const server = await this.#serve();
    const load = await this.#load(server);
    await delay(100 + this.random() * 300);
    const marks = this.disk.acknowledged();
    const sync = this.sandbox.start(this.#syncWords());
    await delay(this.random() * this.#syncMs * 1.2);
    // The tools belong to the server; the command is but its client.
    await server.kill();
    await sync.kill();
    await load.stop();
    expect(load.refusals).toEqual([]);
    const { status } = await sync.outcome;
    this.tally[status === 0 ? 'finished' : 'killed']++;
    if (status === 0) this.#floor = marks;
    await this.restoreAndCheck(this.#floor!);
  }

  /** Writes some more, and syncs without being disturbed. */
  async finish(): Promise<Outcome> {
    const server = await this.#serve();
    const load = await this.#load(server);
    await delay(500);
    await load.stop();
    const start = performance.now();
    const outcome = await this.sandbox.succeed(this.#syncWords());
    this.#syncMs = performance.now() - start;
    this.#floor = this.disk.acknowledged();
    expect((await server.stop()).status).toBe(0);
    return outcome;
  }

  /** Restores from the remote into a new folder; everything is to be as the last finished sync left it. */
  async restoreAll(...words: string[]): Promise<string> {
    return this.restoreAndCheck(this.#floor!, ...words);
  }

  /** Restores, and checks that nothing is older than `floor`. Returns the folder. */
  async restoreAndCheck(floor: Marks, ...words: string[]): Promise<string> {
    const { sandbox, disk } = this;
    const folder = sandbox.path(`restored-${++this.#restoreCount}`);
    const key = ['--key-file', sandbox.keyFile];
    const { stdout } = await sandbox.succeed(['restore', ...key, this.url, folder, ...words]);
    // A root that had come before its files would be passed over with such a remark.
    expect(stdout).not.toMatch(/lacks|newest that is whole/);
    await sandbox.withServer(
      folder,
      async (client) => {
        await disk.check((offset, bytes) => client.read(offset, bytes), floor);
      },
      '--read-only',
    );
    return folder;
  }

  /**
   * Has the remote lose as many files of each group as parity makes up for; returns their number.
   * `restored` is a folder restored from what it holds now.
   */
  async loseFiles(parity: number, restored: string): Promise<number> {
    const groups = await groupFiles(restored, this.sandbox.keyFile);
    const lost = groups.flatMap((files, number) =>
      Array.from({ length: parity }, (_, i) => {
        return path.relative(restored, files[(number + i) % files.length]!);
      }),
    );
    this.place.lose(NAME, lost);
    return lost.length;
  }

  #syncWords(): string[] {
    return this.sandbox.on(this.volume, 'sync', this.url);
  }

  async #serve(): Promise<ServedVolume> {
    const server = await this.sandbox.serve(this.volume);
    const client = await server.connect();
    this.disk.settleOn(await this.disk.check((offset, bytes) => client.read(offset, bytes)));
    await client.disconnect();
    return server;
  }

  async #load(server: ServedVolume): Promise<Load> {
    const clients = [await server.connect(), await server.connect()];
    return new Load(this.disk, clients, { random: this.random, depth: 1, pauseMs: PAUSE_MS });
  }
}
