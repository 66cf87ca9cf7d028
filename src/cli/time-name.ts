/** Names for snapshots that nobody has named. */

/** A name made of a time, "2026-11-25T022206Z", behind a prefix when there is one. */
export function timeName(timeMs: number, prefix = ''): string {
  const time = new Date(timeMs).toISOString().slice(0, 19).replaceAll(':', '');
  return `${prefix === '' ? '' : `${prefix}-`}${time}Z`;
}
