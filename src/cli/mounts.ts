/** What the kernel says is mounted: /proc/self/mounts. */
import * as fs from 'node:fs';

export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly type: string;
}

export function listMounts(): Mount[] {
  return parseMounts(fs.readFileSync('/proc/self/mounts', 'utf8'));
}

/** The kernel writes space, tab, line end and backslash as octal escapes. */
export function parseMounts(text: string): Mount[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [source = '', target = '', type = ''] = line.split(' ').map(decodeEscapes);
      return { source, target, type };
    });
}

function decodeEscapes(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
