/**
 * What comes out of a benchmark: the record that is kept as JSON, and the same as Markdown tables.
 *
 * Every figure is the median of its rounds, with the lowest and the highest in parentheses.
 */
import { cpus, release, totalmem } from 'node:os';
import { format, resolveConfig } from 'prettier';
import type { Workload } from './fio.js';
import type { Noise } from './noise.js';
import { CHUNKVOL_NAME } from './peers.js';

/** One server's figures; `rates` has one list per workload, by name, with one rate per round. */
export interface PeerResult {
  readonly peer: string;
  readonly rates: Record<string, number[]>;
  /** The most that the server's process had resident in any round. */
  peakResidentBytes: number;
}

/** What a benchmark of a part (bench/codec.ts, bench/crypto.ts, ...) returns. */
export interface PartResult {
  readonly title: string;
  readonly rows: readonly {
    readonly name: string;
    readonly unit: string;
    readonly value: number;
    /** What the figure ought to be. */
    readonly target?: string;
  }[];
}

export interface BenchRecord {
  readonly date: string;
  readonly command: string;
  readonly machine: string;
  readonly rounds: number;
  readonly sizeBytes: number;
  readonly results: readonly PeerResult[];
  readonly noise: readonly Noise[];
  readonly parts: readonly PartResult[];
}

export function describeMachine(): string {
  const processors = cpus();
  const model = processors[0]?.model.trim() ?? 'unknown CPU';
  const memoryGib = Math.round(totalmem() / 2 ** 30);
  return `${processors.length} x ${model}, ${memoryGib} GiB, Linux ${release()}, Node ${process.versions.node}`;
}

/** The record as Markdown, in the shape that the project's formatter leaves alone. */
export async function toMarkdown(
  record: BenchRecord,
  workloads: readonly Workload[],
): Promise<string> {
  const gib = record.sizeBytes / 2 ** 30;
  const sections = [
    `${record.date}, ${record.machine}.`,
    `\`${record.command}\`, rounds: ${record.rounds}, disks of ${gib} GiB. ${noiseLine(record.noise)}`,
    rateTable(record, workloads),
    ratioTable(record, workloads),
    memoryLine(record),
    ...record.parts.map((part) => partTable(part)),
  ];
  return formatted(sections.filter((section) => section !== '').join('\n\n'));
}

/** The section of each part of a record that has nothing else, by its title; it tells when it was measured. */
export async function toSections(record: BenchRecord): Promise<Map<string, string>> {
  const sections = new Map<string, string>();
  for (const part of record.parts) {
    const origin = `${record.date}, ${record.machine}. \`${record.command}\`.`;
    const text = partTable(part, `${origin} ${noiseLine(record.noise)}`);
    sections.set(part.title, await formatted(text));
  }
  return sections;
}

async function formatted(text: string): Promise<string> {
  const options = await resolveConfig('docs/benchmarks.md');
  return (await format(text, { ...options, parser: 'markdown' })).trimEnd();
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? NaN;
  return Number.isInteger(middle) ? ((sorted[middle - 1] ?? NaN) + upper) / 2 : upper;
}

/** Three significant digits (two below 1), but never fewer than the whole number has. */
export function round(value: number): string {
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toPrecision(Math.abs(value) >= 1 ? 3 : 2);
}

function rateTable(record: BenchRecord, workloads: readonly Workload[]): string {
  const rows = record.results.map(({ peer, rates }) => {
    return [peer, ...workloads.map(({ name }) => spread(rates[name] ?? []))];
  });
  return table(['server', ...workloads.map(({ name, unit }) => `${name}, ${unit}`)], rows);
}

function ratioTable(record: BenchRecord, workloads: readonly Workload[]): string {
  const own = record.results.find(({ peer }) => peer === CHUNKVOL_NAME);
  if (!own) return '';
  const others = record.results.filter((result) => result !== own);
  const rows = others.map(({ peer, rates }) => [
    `chunkvol / ${peer}`,
    ...workloads.map(({ name }) => ratio(own.rates[name] ?? [], rates[name] ?? [])),
  ]);
  return table(['ratio of medians', ...workloads.map(({ name }) => name)], rows);
}

function memoryLine(record: BenchRecord): string {
  const own = record.results.find(({ peer }) => peer === CHUNKVOL_NAME);
  if (!own) return '';
  const mib = own.peakResidentBytes / 2 ** 20;
  return `Peak resident memory of the chunkvol server: ${round(mib)} MiB.`;
}

function noiseLine(noise: readonly Noise[]): string {
  const others = noise.map((one) => one.others);
  const stolen = noise.map((one) => one.stolen);
  return (
    `Noise: other processes used ${percent(median(others))} of the CPUs (at most ` +
    `${percent(Math.max(...others))}), the hypervisor took ${percent(median(stolen))} (at most ` +
    `${percent(Math.max(...stolen))}).`
  );
}

function partTable({ title, rows }: PartResult, origin = ''): string {
  const withTargets = rows.some(({ target }) => target !== undefined);
  const cells = rows.map(({ name, unit, value, target = '' }) => {
    return [name, `${round(value)} ${unit}`, ...(withTargets ? [target] : [])];
  });
  const head = ['what', 'figure', ...(withTargets ? ['target'] : [])];
  return [`### ${title}`, origin, table(head, cells)].filter((text) => text !== '').join('\n\n');
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => '---'), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function spread(values: readonly number[]): string {
  if (values.length === 0) return '';
  if (values.length === 1) return round(median(values));
  return `${round(median(values))} (${round(Math.min(...values))}–${round(Math.max(...values))})`;
}

function ratio(own: readonly number[], other: readonly number[]): string {
  return own.length === 0 || other.length === 0 ? '' : `${round(median(own) / median(other))}x`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
