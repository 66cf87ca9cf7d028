/**
 * Reading the stored bytes of a member, wherever its file is at the moment. A file that is missing,
 * too short, or that cannot be read gives `false`: that is an erasure, which parity is there for. Where
 * there is none yet a disk's error is thrown: it must not pass for the end of the log.
 */
import { tellsDamage } from '../base/errors.js';
import type { OpenFiles } from './open-files.js';
import { memberPaths, type Group } from './group.js';
import type { StoreContext } from './context.js';

export class MemberReader {
  constructor(
    private readonly context: StoreContext,
    private readonly openFiles: OpenFiles,
  ) {}

  /** Fills `into` from byte `offset` of the member's file. */
  async read(group: Group, place: number, offset: number, into: Uint8Array): Promise<boolean> {
    const isProtected = Math.floor(offset / group.geometry.unitBytes) < group.parityRows;
    for (const path of this.places(group, place)) {
      const got = await this.openFiles
        .use(path, (file) => file.read(into, offset))
        .catch((error: unknown) => {
          if (isProtected && tellsDamage(error)) return 0;
          throw error;
        });
      if (got !== null) return got === into.length;
    }
    return false;
  }

  /** Where to look: a group that is just being sealed may have been renamed since it was asked. */
  private *places(group: Group, place: number): Generator<string> {
    const wasSealed = group.state === 'sealed';
    yield group.paths[place]!;
    if (wasSealed) return;
    yield memberPaths(this.context, group.id, group.sealId, group.geometry, '')[place]!;
    yield group.paths[place]!;
  }
}
