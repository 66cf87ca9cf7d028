/**
 * What there is of the disk beside its blocks: its size, and its snapshots. Commits say how it changes
 * (state entries); a running volume and a recovery apply the same entries, in the order of the log.
 */
import { equalBytes } from '../base/bytes.js';
import type { StateEntry } from '../format/commit.js';
import type { MapPointer, Snapshot } from '../format/snapshot.js';
import type { BlockMap } from './block-map.js';

export class Heads {
  private list: readonly Snapshot[];
  /** Counts what was applied: nothing has come or gone while it stays. */
  version = 0;

  constructor(
    private size: number,
    snapshots: readonly Snapshot[],
  ) {
    this.list = snapshots;
  }

  get sizeBytes(): number {
    return this.size;
  }

  /** In the order in which they were made. */
  get snapshots(): readonly Snapshot[] {
    return this.list;
  }

  find(id: Uint8Array): Snapshot | undefined {
    return this.list.find((snapshot) => equalBytes(snapshot.id, id));
  }

  named(name: string): Snapshot | undefined {
    return this.list.find((snapshot) => snapshot.name === name);
  }

  /** `map` is the map of the disk itself. Applying the last entries once more changes nothing. */
  apply(entries: readonly StateEntry[], map: BlockMap): void {
    this.version++;
    for (const entry of entries) {
      if (entry.kind === 'head') {
        this.size = entry.sizeBytes;
        map.reset(entry.map, entry.mappedBlocks);
      } else if (entry.kind === 'drop') {
        this.list = this.list.filter(({ id }) => !equalBytes(id, entry.id));
      } else {
        this.put(entry.snapshot);
      }
    }
  }

  /**
   * Whether a slot of the disk that is overwritten is still some snapshot's. A map's top node is the last
   * of it to be written, so what stands before the newest one may be held. A guess on the safe side: what
   * a collector has moved since counts as held, until the maps are walked.
   */
  mayHold(ordinal: number, position: number): boolean {
    return this.list.some(({ map }) => isBefore(ordinal, position, map));
  }

  private put(snapshot: Snapshot): void {
    const at = this.list.findIndex(({ id }) => equalBytes(id, snapshot.id));
    this.list = at < 0 ? [...this.list, snapshot] : this.list.with(at, snapshot);
  }
}

function isBefore(ordinal: number, position: number, map: MapPointer): boolean {
  return ordinal < map.ordinal || (ordinal === map.ordinal && position <= map.position);
}
