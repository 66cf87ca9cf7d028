/** Where an NBD server is found. */

export type NbdAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** The address and an export's name as the URI that other NBD programs understand. */
export function nbdUri(address: NbdAddress, exportName = ''): string {
  const name = encodeURIComponent(exportName);
  return address.kind === 'unix'
    ? `nbd+unix:///${name}?socket=${encodeURI(address.path).replace(/[&#?]/g, encodeURIComponent)}`
    : `nbd://${bracketed(address.host)}:${address.port}/${name}`;
}

/** The address as people write it in a message. */
export function formatAddress(address: NbdAddress): string {
  return address.kind === 'unix' ? address.path : `${bracketed(address.host)}:${address.port}`;
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
