/** Where a gRPC server is. */
export interface Endpoint {
  /** Name or address, IPv6 without brackets. */
  readonly host: string;
  /** "host:port". */
  readonly authority: string;
  /** Whether the connection is encrypted. */
  readonly secure: boolean;
}

/** Reads "host:port" or "grpcs://host:port"; undefined for anything else. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const [, scheme, authority = "", name = "", port] =
    /^(grpcs:\/\/)?((\[[\da-f:.]+\]|[^\s/:[\]]+):(\d{1,5}))$/i.exec(text) ?? [];
  if (!(Number(port) >= 1 && Number(port) <= 65535)) return undefined;
  return { host: name.replace(/^\[|\]$/g, ""), authority, secure: scheme !== undefined };
}

/** The address of the same server, or replicas, over TLS. */
export function secured(address: string): string {
  if (address.startsWith("dns:///")) return `grpcs+${address}`;
  if (address.startsWith("grpcs+dns:///")) return address;
  return address.split(",").map((one) => one.startsWith("grpcs://") ? one : `grpcs://${one}`)
    .join(",");
}
