import type { ClientTls } from "../rpc/mod.ts";
import type { Arguments, Options } from "./options.ts";
import { readClientTls } from "./read_tls.ts";

/** Options of a command line for rewards whose addresses begin with "grpcs://". */
export const REWARD_TLS_OPTIONS = {
  "reward-ca": {
    type: "string",
    value: "FILE",
    help: "PEM of the authorities of rewards' certificates (default: the system's)",
  },
  "reward-cert": {
    type: "string",
    value: "FILE",
    help: "PEM of a certificate for those that ask for one, with --reward-key",
  },
  "reward-key": { type: "string", value: "FILE", help: "PEM of its key" },
} as const satisfies Options;

/** The files that they name, read. Throws an `Error` that names the fault. */
export async function readRewardTls(args: Arguments): Promise<ClientTls> {
  return await readClientTls({
    ca: args.text("reward-ca"),
    cert: args.text("reward-cert"),
    key: args.text("reward-key"),
  });
}
