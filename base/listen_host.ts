import { InputError } from "./input_error.ts";

/**
 * The host to listen on as the system takes it: IPv6 without the brackets that it has in addresses. Throws `InputError`
 * for what is no host: paths of Unix sockets, URLs, a port behind it.
 */
export function listenHost(given: string): string {
  const [, inBrackets] = /^\[([\da-f:.]+(?:%\w+)?)\]$/i.exec(given) ?? [];
  if (inBrackets !== undefined) return inBrackets;
  const fail = (expected: string): never => {
    throw new InputError(`Host is ${JSON.stringify(given)}, expected ${expected}`);
  };
  if (/^unix:|^[./]/.test(given)) {
    return fail("a name or an address: servers here listen on TCP, not on paths");
  }
  if (given === "" || /[\s/\[\]]/.test(given)) {
    return fail("a name or an address, such as 127.0.0.1 or ::1");
  }
  if (/^[^:]+:\d+$/.test(given)) return fail("no port behind it; the port is an option of its own");
  return given;
}
