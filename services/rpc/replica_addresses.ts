import { lookup } from "node:dns/promises";
import { type Endpoint, parseEndpoint, secured } from "./endpoint.ts";
import { StatusError } from "./errors.ts";

/** Where the replicas of one service are: at fixed addresses, or wherever a name leads. */
export type ReplicaAddresses =
  | { readonly kind: "list"; readonly addresses: readonly string[] }
  | { readonly kind: "name"; readonly endpoint: Endpoint };

/** How addresses are written, for messages. */
export const ADDRESS_FORMS =
  "HOST:PORT or grpcs://HOST:PORT, several with commas, or dns:///HOST:PORT or grpcs+dns:///HOST:PORT";

/**
 * Reads one address, or those of replicas: "host:port" and "grpcs://host:port" as often as wanted with commas between
 * them, or "dns:///host:port" and "grpcs+dns:///host:port" for every address that the name has. Undefined for anything
 * else, and where an address stands twice.
 */
export function parseReplicaAddresses(text: string): ReplicaAddresses | undefined {
  const [, scheme, rest = ""] = /^(dns|grpcs\+dns):\/\/\/(.*)$/.exec(text) ?? [];
  if (scheme !== undefined) {
    const endpoint = parseEndpoint(scheme === "dns" ? rest : secured(rest));
    const isPlain = !rest.includes("://");
    return endpoint && isPlain ? { kind: "name", endpoint } : undefined;
  }
  const addresses = text.split(",");
  const areSound = addresses.every((address) => parseEndpoint(address) !== undefined);
  return areSound && new Set(addresses).size === addresses.length
    ? { kind: "list", addresses }
    : undefined;
}

/** Looks up the addresses of a name: numbers, for IPv6 without brackets. Throws where it has none. */
export type LookUp = (name: string) => Promise<readonly string[]>;

/** By the system's resolver, as every program does. */
export const lookUp: LookUp = async (name) =>
  (await lookup(name, { all: true })).map(({ address }) => address);

/** The address of each replica as of now, sorted. Throws `StatusError` UNAVAILABLE for a name that is not found. */
export async function replicaAddresses(
  where: ReplicaAddresses,
  find: LookUp = lookUp,
): Promise<readonly string[]> {
  if (where.kind === "list") return where.addresses;
  const { host, authority, secure } = where.endpoint;
  const port = authority.slice(authority.lastIndexOf(":") + 1);
  try {
    const numbers = new Set(await find(host));
    const addresses = [...numbers].map((n) => n.includes(":") ? `[${n}]:${port}` : `${n}:${port}`);
    return addresses.sort().map((address) => secure ? secured(address) : address);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StatusError("UNAVAILABLE", `Name ${host} has no address: ${reason}`, { cause });
  }
}
