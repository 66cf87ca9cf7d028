/**
 * Where results are kept: as JSON in bench/results/, and as tables between the markers of docs/benchmarks.md.
 * Parts that were measured apart replace their own sections there, and nothing else.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchRecord } from './report.js';

const BEGIN = '<!-- results: begin -->';
const END = '<!-- results: end -->';

export function saveRecord(project: string, record: BenchRecord): void {
  const folder = join(project, 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  const name = record.date.replace(' ', 'T').replace(':', '');
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(record, null, 2)}\n`);
}

/** Everything between the markers becomes `text`. */
export function replaceResults(project: string, text: string): void {
  edit(project, () => text);
}

/** What comes before the first section becomes `text`. */
export function replaceServers(project: string, text: string): void {
  edit(project, (before) => [text, ...sectionsOf(before).slice(1)].join('\n\n'));
}

/** Each section, by its title, takes the place of the one of before, or comes last. */
export function replaceSections(project: string, sections: ReadonlyMap<string, string>): void {
  edit(project, (before) => {
    let after = before;
    for (const [title, section] of sections) after = withSection(after, title, section);
    return after;
  });
}

function withSection(results: string, title: string, section: string): string {
  const parts = sectionsOf(results);
  const known = parts.findIndex((part) => part.startsWith(`### ${title}\n`));
  if (known < 0) parts.push(section);
  else parts[known] = section;
  return parts.join('\n\n');
}

/** The tables of the servers, and each section behind them. */
function sectionsOf(results: string): string[] {
  return results.split(/^(?=### )/m).map((part) => part.trim());
}

function edit(project: string, change: (results: string) => string): void {
  const path = join(project, 'docs', 'benchmarks.md');
  const document = readFileSync(path, 'utf8');
  const begin = document.indexOf(BEGIN) + BEGIN.length;
  const end = document.indexOf(END);
  if (begin < BEGIN.length || end < begin) throw new Error(`${path} has lost its markers`);
  const results = change(document.slice(begin, end).trim());
  writeFileSync(path, `${document.slice(0, begin)}\n\n${results}\n\n${document.slice(end)}`);
}
