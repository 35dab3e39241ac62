import { type Arguments, type Options, UsageError } from "./options.ts";
import { readClientTls } from "./read_tls.ts";
import { readToken } from "./read_token.ts";

/** How to reach NATS. */
export interface NatsOptions {
  /** "nats://HOST:PORT", or "tls://HOST:PORT", of one or several servers. */
  readonly servers: readonly string[];
  /** What the server asks of its clients. Default: nothing. */
  readonly token?: string | undefined;
  /** PEM texts for servers that speak TLS; `cert` and `key` where they ask for a certificate. */
  readonly tls?: {
    readonly ca?: string;
    readonly cert?: string;
    readonly key?: string;
  } | undefined;
}

/** Options of a command line that say how to reach NATS. */
export const NATS_OPTIONS = {
  nats: {
    type: "string",
    value: "ADDR,…",
    help: "nats://HOST:PORT of the cluster's NATS servers, tls://HOST:PORT for TLS",
  },
  "nats-token-file": {
    type: "string",
    value: "FILE",
    help: "NATS asks its clients for the file's first line",
  },
  "nats-ca": {
    type: "string",
    value: "FILE",
    help: "PEM of the authorities of NATS' certificate (default: the system's)",
  },
  "nats-cert": {
    type: "string",
    value: "FILE",
    help: "PEM of a certificate to show to NATS, with --nats-key",
  },
  "nats-key": { type: "string", value: "FILE", help: "PEM of its key" },
} as const satisfies Options;

/** The options as given, with files read; `undefined` without `--nats`. Throws an `Error` that names the fault. */
export async function readNatsOptions(args: Arguments): Promise<NatsOptions | undefined> {
  const servers = args.text("nats");
  if (servers === undefined) return undefined;
  const tokenFile = args.text("nats-token-file");
  const tls = await readClientTls({
    ca: args.text("nats-ca"),
    cert: args.text("nats-cert"),
    key: args.text("nats-key"),
  });
  const pems = Object.entries(tls).map(([name, pem]) => [name, new TextDecoder().decode(pem)]);
  return {
    servers: servers.split(",").map(checkServer),
    ...(tokenFile !== undefined && { token: await readToken(tokenFile) }),
    ...(pems.length > 0 && { tls: Object.fromEntries(pems) }),
  };
}

function checkServer(server: string): string {
  if (/^(nats|tls):\/\/[^\s/@]+:\d+$/.test(server)) return server;
  throw new UsageError(
    `Option --nats has "${server}", expected nats://HOST:PORT or tls://HOST:PORT`,
  );
}
