/** One turn of the event loop, in which everything that is ready goes on. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
