/**
 * How much of the log is dead, whether that is too much, and which groups to empty. Decided on the
 * groups' live bytes as they are known.
 */
import { KIB } from '../base/bytes.js';
import type { Group } from '../store/group.js';
import {
  COLLECT_FROM_SHARE,
  GARBAGE_SHARE,
  GARBAGE_SHARE_BY_HAND,
  GARBAGE_SHARE_THOROUGH,
  MAX_SHORT_GROUPS,
  MIN_GARBAGE_BYTES,
} from './limits.js';

/** background: as little as will do. by-hand: until little is left. thorough: until hardly any is. */
export type Effort = 'background' | 'by-hand' | 'thorough';

export interface Garbage {
  readonly storedBytes: number;
  readonly liveBytes: number;
  readonly garbageBytes: number;
  /** Their number. */
  readonly groups: number;
}

/** What a group has beside its live slots, however often it is written anew. */
export const OVERHEAD_BYTES: number = 128 * KIB;

/** Part of a group's room up to which it counts as short. */
const SHORT_SHARE = 0.75;

export function measureGarbage(groups: readonly Group[]): Garbage {
  const storedBytes = sum(groups.map(({ end }) => end));
  const liveBytes = sum(groups.map(liveOf));
  return { storedBytes, liveBytes, garbageBytes: storedBytes - liveBytes, groups: groups.length };
}

/**
 * The garbage that is borne with. Records, padding and a root are in every group: to write them anew would
 * gain nothing.
 */
export function allowedBytes(garbage: Garbage, groupBytes: number, effort: Effort): number {
  const { liveBytes, groups } = garbage;
  if (effort === 'thorough') return liveBytes * GARBAGE_SHARE_THOROUGH;
  if (effort === 'by-hand') return liveBytes * GARBAGE_SHARE_BY_HAND + groups * OVERHEAD_BYTES;
  return Math.max(liveBytes * GARBAGE_SHARE, Math.min(MIN_GARBAGE_BYTES, groupBytes));
}

/** Garbage beyond what a collection of this effort leaves; a background one begins before the bounds are met. */
export function excessBytes(garbage: Garbage, groupBytes: number, effort: Effort): number {
  const allowed = allowedBytes(garbage, groupBytes, effort);
  return garbage.garbageBytes - allowed * (effort === 'background' ? COLLECT_FROM_SHARE : 1);
}

/**
 * The groups to empty next, of those that may be (sealed ones), the best first; together they hold at
 * most `limitBytes` of live slots, but for the first. None when garbage is within its bounds.
 */
export function chooseVictims(
  candidates: readonly Group[],
  excessBytes: number,
  groupBytes: number,
  limitBytes: number,
): Group[] {
  const merging = tooManyShort(candidates, groupBytes);
  const byScore = scored(candidates).filter((group) => !merging.includes(group));
  const victims: Group[] = [];
  let moved = 0;
  let freed = 0;
  for (const group of [...merging, ...byScore]) {
    const isMerged = merging.includes(group);
    if (!isMerged && freed >= excessBytes) break;
    const live = liveOf(group);
    if (victims.length > 0 && moved + live > limitBytes) break;
    victims.push(group);
    moved += live;
    freed += group.end - live;
  }
  return victims;
}

/** Short groups, if any size has too many of them, the smallest size first. */
function tooManyShort(candidates: readonly Group[], groupBytes: number): Group[] {
  const tiers = new Map<number, Group[]>();
  for (const group of candidates) {
    if (group.end >= groupBytes * SHORT_SHARE) continue;
    const tier = Math.floor(Math.log(Math.max(group.end, 1)) / Math.log(4));
    tiers.set(tier, [...(tiers.get(tier) ?? []), group]);
  }
  const full = [...tiers].filter(([, groups]) => groups.length >= MAX_SHORT_GROUPS);
  return full.sort(([a], [b]) => a - b)[0]?.[1] ?? [];
}

/**
 * By benefit for cost: what is freed, times how long it is likely to stay so, for what has to be read and
 * written (Rosenblum and Ousterhout, The design and implementation of a log-structured file system, 1992,
 * section 3.5). The age of a group is what was written since.
 */
function scored(candidates: readonly Group[]): Group[] {
  let since = 0;
  const scores = new Map<Group, number>();
  for (const group of candidates.toSorted((a, b) => b.ordinal - a.ordinal)) {
    since += group.end;
    const live = liveOf(group);
    const use = group.end === 0 ? 0 : live / group.end;
    if (live === 0 || group.end - live > OVERHEAD_BYTES)
      scores.set(group, ((1 - use) * since) / (1 + use));
  }
  return [...scores.keys()].sort((a, b) => scores.get(b)! - scores.get(a)!);
}

function liveOf(group: Group): number {
  return Math.min(group.liveBytes, group.end);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
