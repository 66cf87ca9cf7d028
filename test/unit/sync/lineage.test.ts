import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sha256, type Lineage } from '../../../src/format/root.js';
import { ancestry, lineOf, pointOf } from '../../../src/sync/lineage.js';

interface Made {
  readonly generation: number;
  readonly lineage: Lineage;
}

const NOTHING: Made = {
  generation: 0,
  lineage: { droppedCount: 0, droppedDigest: new Uint8Array(32), entries: [] },
};

let sessions = 0;

/** The next root after `base`, by a new session. */
function attach(base: Made): Made {
  const session = new Uint8Array(16);
  new DataView(session.buffer).setUint32(0, ++sessions);
  const generation = base.generation + 1;
  const entries = [...base.lineage.entries, { session, firstGeneration: generation }];
  return { generation, lineage: { ...base.lineage, entries } };
}

/** The next root by the same session. */
function next(base: Made): Made {
  return { ...base, generation: base.generation + 1 };
}

/** Folds all but the newest `kept` sessions into the digest. */
function fold(root: Made, kept: number): Made {
  const { entries } = root.lineage;
  const dropped = entries.slice(0, Math.max(0, entries.length - kept));
  return {
    generation: root.generation,
    lineage: {
      droppedCount: root.lineage.droppedCount + dropped.length,
      droppedDigest: dropped.reduce(
        (digest, { session }) => sha256(digest, session),
        root.lineage.droppedDigest,
      ),
      entries: entries.slice(dropped.length),
    },
  };
}

function relation(a: Made, b: Made): string {
  return ancestry(pointOf(a), lineOf(b));
}

describe('ancestry', () => {
  it('follows one session, and from one to the next', () => {
    const a = attach(NOTHING);
    const b = next(a);
    const c = attach(b);
    expect(relation(a, a)).toBe('ancestor');
    expect(relation(a, b)).toBe('ancestor');
    expect(relation(b, c)).toBe('ancestor');
    expect(relation(b, a)).toBe('stranger');
    expect(relation(c, b)).toBe('stranger');
  });

  it('tells a copy that was attached elsewhere, on both sides', () => {
    const common = next(attach(NOTHING));
    const here = attach(common);
    const there = next(attach(common));
    expect(relation(there, here)).toBe('stranger');
    expect(relation(here, there)).toBe('stranger');
    expect(relation(common, here)).toBe('ancestor');
    expect(relation(common, there)).toBe('ancestor');
  });

  it('takes what a session wrote after another one had gone on from it for a fork', () => {
    const common = attach(NOTHING);
    const copy = attach(common);
    const original = next(common);
    expect(original.generation).toBe(copy.generation);
    expect(relation(original, copy)).toBe('stranger');
  });

  it('still tells when the heads of both lists were dropped', () => {
    const old = attach(attach(NOTHING));
    const middle = next(attach(old));
    const head = attach(attach(middle));
    for (const kept of [1, 2, 3, 4]) {
      expect(relation(fold(middle, 1), fold(head, kept))).toBe(kept < 2 ? 'unknown' : 'ancestor');
    }
    expect(relation(old, fold(head, 1))).toBe('unknown');
  });

  it('does not take a later fork of few sessions for something unknown', () => {
    const common = attach(NOTHING);
    let head = common;
    for (let i = 0; i < 5; i++) head = attach(head);
    let original = common;
    for (let i = 0; i < 10; i++) original = next(original);
    expect(relation(original, fold(head, 2))).toBe('stranger');
  });

  it('holds on any history', () => {
    const step = fc.record({ from: fc.nat(), attach: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 20 }), fc.nat(6), (steps, kept) => {
        // A tree of states: a session goes on only from its own newest state, else another attaches.
        const states = [{ made: attach(NOTHING), ancestors: new Set([0]), continued: false }];
        for (const { from, attach: fresh } of steps) {
          const base = states[from % states.length]!;
          const made = fresh || base.continued ? attach(base.made) : next(base.made);
          if (!fresh) base.continued = true;
          const ancestors = new Set([...base.ancestors, states.length]);
          states.push({ made, ancestors, continued: false });
        }
        for (const state of states) {
          for (const [other, { made }] of states.entries()) {
            const found = relation(fold(made, 3), fold(state.made, kept + 1));
            if (state.ancestors.has(other)) expect(found).not.toBe('stranger');
            else expect(found).not.toBe('ancestor');
          }
        }
      }),
    );
  });
});
