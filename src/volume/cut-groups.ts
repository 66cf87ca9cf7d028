/**
 * Groups that were cut (after a crash, or a failed write) and wait to be sealed in their writer's
 * stead. They are readable meanwhile; only their parity is missing.
 */
import { ChunkvolError, errorMessage, isChunkvolError } from '../base/errors.js';
import type { LogPoint } from '../format/root.js';
import { readHeader } from '../store/chunk-meta.js';
import type { StoreContext } from '../store/context.js';
import { groupLabel, type Group } from '../store/group.js';
import type { OpenFiles } from '../store/open-files.js';
import { isDecided, takeFinalNames } from '../store/seal.js';
import { removeAbandoned, sealTakenOver } from '../store/takeover.js';

interface Waiting {
  readonly group: Group;
  /** The log's end in that group; null when whoever cut it is not known to this process. */
  readonly cut: LogPoint | null;
}

/** Reading a group and writing its parity is much work, and on a full disk in everybody's way. */
const FIRST_RETRY_MS = 1000;
const MAX_FAILURES = 10;

export class CutGroups {
  private waiting: Waiting[] = [];
  /** Why the last one that could not be sealed could not. */
  private failure: unknown = null;
  private isBusy = false;
  /** Attempts that failed, one after the other, and when the collector may make another one. */
  private failures = 0;
  private retryAtMs = -Infinity;
  /** What was last told of each group. */
  private readonly told = new Map<Group, string>();
  private running: Promise<void> = Promise.resolve();

  constructor(
    private readonly context: StoreContext,
    private readonly openFiles: OpenFiles,
    private readonly onNotice: (line: string) => void,
  ) {}

  /** Takes a group that ends at `group.end`; sealed by the next `sealInBackground`. */
  add(group: Group, cut: LogPoint | null): void {
    this.waiting.push({ group, cut });
  }

  /** Tries again to seal what could not be sealed, if anything waits and it is time to: ever more rarely. */
  retry(): void {
    const isDue = this.context.clock.monotonic() >= this.retryAtMs;
    if (!this.isBusy && this.waiting.length > 0 && isDue) this.sealInBackground();
  }

  sealInBackground(): void {
    this.running = this.running.then(() => this.sealAll());
  }

  /** Seals all that wait, now; throws when one cannot be sealed. */
  async finish(): Promise<void> {
    await this.running;
    if (this.waiting.length === 0) return;
    this.sealInBackground();
    await this.running;
    const [first] = this.waiting;
    if (first) {
      throw new ChunkvolError(
        isChunkvolError(this.failure) ? this.failure.code : 'io',
        `${groupLabel(first.group)} could not be sealed after a crash or a failed write: ${errorMessage(this.failure)}`,
        { cause: this.failure },
      );
    }
  }

  /** Resolves when nothing runs any more; groups that could not be sealed are tried again at the next open. */
  async idle(): Promise<void> {
    await this.running;
  }

  private async sealAll(): Promise<void> {
    const all = this.waiting;
    this.waiting = [];
    this.isBusy = true;
    for (const entry of all) {
      const before = [...entry.group.paths];
      try {
        await this.sealOne(entry);
        this.told.delete(entry.group);
      } catch (error) {
        this.waiting.push(entry);
        this.failure = error;
        this.tell(entry.group, error);
      }
      for (const path of before) this.openFiles.forget(path);
    }
    this.isBusy = false;
    this.failures = this.waiting.length === 0 ? 0 : Math.min(this.failures + 1, MAX_FAILURES);
    this.retryAtMs = this.context.clock.monotonic() + FIRST_RETRY_MS * 2 ** this.failures;
  }

  /** Once: it is tried again and again. */
  private tell(group: Group, error: unknown): void {
    const reason = isChunkvolError(error) ? error.code : errorMessage(error);
    if (this.told.get(group) === reason) return;
    this.told.set(group, reason);
    this.onNotice(`${groupLabel(group)} stays without parity: ${errorMessage(error)}`);
  }

  private async sealOne({ group, cut }: Waiting): Promise<void> {
    const header = await this.anyHeader(group);
    if (!header) throw new Error('no header of it can be read');
    if (isDecided(group)) {
      await takeFinalNames(this.context, group);
      await removeAbandoned(this.context, group, header);
      return;
    }
    await sealTakenOver(this.context, group, header, {
      end: group.end,
      firstSequence: header.firstSequence,
      endSequence: cut?.sequence ?? 0,
      chain: cut?.chain ?? new Uint8Array(32),
    });
  }

  private async anyHeader(group: Group): Promise<Awaited<ReturnType<typeof readHeader>>> {
    for (const path of group.paths) {
      const header = await this.openFiles.use(path, (file) =>
        readHeader(this.context.keys.maintenance, file),
      );
      if (header) return header;
    }
    return null;
  }
}
