/**
 * Syncs to every kind of remote, killed at many moments, with the disk in use: the remote always holds
 * a whole state that is no older than the last finished sync; syncing again finishes; a volume comes
 * back from it with as many files of each group missing as parity makes up for.
 */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KilledSyncs } from '../support/killed-syncs.js';
import {
  LOCAL_FOLDER,
  S3,
  SFTP,
  SSH_HOST,
  type Place,
  type PlaceKind,
} from '../support/remote-places.js';
import { fingerprint, Sandbox } from '../support/sandbox.js';
import { describeWith } from '../support/tools.js';
import { seededRandom } from '../support/versioned-disk.js';

const KINDS: [kind: PlaceKind, kills: number][] = [
  [LOCAL_FOLDER, 12],
  [SSH_HOST, 8],
  [SFTP, 6],
  [S3, 6],
];
const PARITY = 2;

for (const [kind, kills] of KINDS) {
  const { title, needs } = kind;
  describeWith(needs, `sync to ${title}`, () => {
    let sandbox: Sandbox;
    let place: Place;

    beforeEach(async () => {
      sandbox = new Sandbox();
      place = await kind.open(sandbox);
    });

    afterEach(async () => {
      await place.close();
      await sandbox.release();
    });

    const seed = Date.now() % 2 ** 31;

    it(`survives ${kills} kills (seed ${seed})`, async () => {
      const syncs = await KilledSyncs.begin(sandbox, place, seededRandom(seed));
      // A sync that is done before its kill shows nothing: more, until enough were cut short.
      const enough = (): boolean => syncs.tally.killed > kills / 4;
      for (let count = 0; count < kills || (count < 4 * kills && !enough()); count++) {
        await syncs.killOne();
      }
      expect(syncs.tally.killed, 'syncs that were cut short').toBeGreaterThan(kills / 4);
      console.log(`${title}: ${JSON.stringify(syncs.tally)}`);

      await syncs.finish();
      const before = await syncs.restoreAll();

      const lost = await syncs.loseFiles(PARITY, before);
      expect(lost).toBeGreaterThan(PARITY);
      const after = await syncs.restoreAll('--verify');
      expect(chunksOf(after)).toEqual(chunksOf(before));
      const here = new Map(chunksOf(syncs.volume));
      const both = chunksOf(after).filter(([name]) => here.has(name));
      expect(both.length).toBeGreaterThan(PARITY);
      for (const [name, contents] of both) expect(contents, name).toBe(here.get(name));
      // The next sync puts back what the remote has lost.
      await syncs.finish();
      await syncs.restoreAll('--verify');
    });
  });
}

function chunksOf(folder: string): [name: string, contents: string][] {
  return [...fingerprint(folder)].filter(([name]) => name.startsWith('chunks/')).sort();
}
