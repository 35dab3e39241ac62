import { InputError } from "../../base/mod.ts";
import { parseEndpoint } from "../rpc/mod.ts";

/** Words on a command line that are not addresses. */
export class AddressError extends InputError {
  override readonly name = "AddressError";
}

/** "host:port" or "grpcs://host:port" as given for an option. Throws `AddressError`. */
export function parseAddress(option: string, text: string): string {
  if (parseEndpoint(text) !== undefined) return text;
  throw new AddressError(`Option ${option} is "${text}", expected HOST:PORT or grpcs://HOST:PORT`);
}

/** Addresses by name, from "clip=127.0.0.1:50051,jpeg=127.0.0.1:50052". Throws `AddressError`. */
export function parseAddresses(option: string, text: string): ReadonlyMap<string, string> {
  const addresses = new Map<string, string>();
  for (const entry of text.split(",").filter((entry) => entry !== "")) {
    const [name, value] = [/^([\w.-]+)=/.exec(entry)?.[1], entry.slice(entry.indexOf("=") + 1)];
    if (name === undefined) {
      throw new AddressError(`Option ${option} has "${entry}", expected NAME=HOST:PORT`);
    }
    if (addresses.has(name)) throw new AddressError(`Option ${option} names ${name} twice`);
    addresses.set(name, parseAddress(option, value));
  }
  return addresses;
}
