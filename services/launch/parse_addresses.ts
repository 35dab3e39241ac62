import { InputError } from "../../base/mod.ts";
import { ADDRESS_FORMS, parseEndpoint, parseReplicaAddresses } from "../rpc/mod.ts";

/** Words on a command line that are not addresses. */
export class AddressError extends InputError {
  override readonly name = "AddressError";
}

/** "host:port" or "grpcs://host:port" as given for an option. Throws `AddressError`. */
export function parseAddress(option: string, text: string): string {
  if (parseEndpoint(text) !== undefined) return text;
  throw new AddressError(`Option ${option} is "${text}", expected HOST:PORT or grpcs://HOST:PORT`);
}

/**
 * Addresses by name, from "clip=127.0.0.1:50051,jpeg=127.0.0.1:50052". Addresses without a name are further replicas of
 * the name before: "clip=a:50051,b:50051". Throws `AddressError`.
 */
export function parseAddresses(option: string, text: string): ReadonlyMap<string, string> {
  const lists = new Map<string, string[]>();
  let last: string[] | undefined;
  for (const entry of text.split(",").filter((entry) => entry !== "")) {
    const name = /^([\w.-]+)=/.exec(entry)?.[1];
    if (name === undefined) {
      if (last === undefined || entry.includes("=")) {
        throw new AddressError(`Option ${option} has "${entry}", expected NAME=HOST:PORT`);
      }
      last.push(entry);
      continue;
    }
    if (lists.has(name)) throw new AddressError(`Option ${option} names ${name} twice`);
    lists.set(name, last = [entry.slice(name.length + 1)]);
  }
  const joined = [...lists].map(([name, list]) => [name, list.join(",")] as const);
  for (const [name, address] of joined) {
    if (parseReplicaAddresses(address) !== undefined) continue;
    throw new AddressError(
      `Option ${option} has "${address}" for ${name}, expected ${ADDRESS_FORMS}`,
    );
  }
  return new Map(joined);
}
