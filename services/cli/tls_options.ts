import { readClientTls } from "../launch/mod.ts";
import { type ClientTls, secured } from "../rpc/mod.ts";
import type { Arguments, Option } from "./command.ts";

/** Options of every command that may call a service over TLS. */
export const TLS_OPTIONS = {
  tls: { type: "boolean", help: "the connection is encrypted, as to grpcs://HOST:PORT" },
  ca: {
    type: "string",
    value: "FILE",
    help: "PEM of the authorities of its certificate, for TLS (default: the system's)",
  },
  cert: { type: "string", value: "FILE", help: "PEM of a certificate to show, with --key" },
  key: { type: "string", value: "FILE", help: "PEM of its key" },
} as const satisfies Readonly<Record<string, Option>>;

/** The address as it is to be called, and the files that were named; either or both mean TLS. */
export async function tlsOf(
  args: Arguments,
  address: string,
): Promise<{ readonly address: string; readonly tls: ClientTls }> {
  const [ca, cert, key] = [args.text("ca"), args.text("cert"), args.text("key")];
  const tls = await readClientTls({ ca, cert, key });
  const wanted = args.flag("tls") || Object.keys(tls).length > 0;
  return { address: wanted ? secured(address) : address, tls };
}
