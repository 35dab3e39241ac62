import { readToken } from "../../launch/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { checkHealth } from "../stack/health.ts";
import { TLS_OPTIONS, tlsOf } from "../tls_options.ts";

/** Asks one service how it is; what the health checks of containers run. */
export const health: Command = {
  name: "health",
  summary: "Ask one service whether it is ready",
  usage: "ADDRESS [--service NAME]",
  options: {
    service: { type: "string", value: "NAME", help: "gRPC service (default: the whole process)" },
    "token-file": { type: "string", value: "FILE", help: "what the gateway asks for" },
    ...TLS_OPTIONS,
    timeout: { type: "string", value: "SECONDS", help: "longest wait for an answer (default 5)" },
    json: { type: "boolean", help: "print JSON" },
  },
  examples: [
    "drtune health 127.0.0.1:50060",
    "drtune health 127.0.0.1:50051 --service drtune.reward.v1.RewardService",
    "drtune health grpcs://localhost:50051 --ca ca.pem",
    "drtune health http://127.0.0.1:8080",
  ],
  exitCodes: { 0: "ready", 1: "not ready, or no answer" },
  async run(args, signal) {
    const [given, ...more] = args.positionals;
    if (given === undefined) throw new UsageError("Name an address");
    if (more.length > 0) throw new UsageError(`Unexpected "${more[0]}"`);
    const file = args.text("token-file");
    const { address, tls } = await tlsOf(args, given);
    const { healthy, status } = await checkHealth(address, {
      service: args.text("service") ?? "",
      timeoutMs: 1000 * (args.number("timeout", { min: 0.001, max: 3600 }) ?? 5),
      tls,
      ...(file !== undefined && { token: await readToken(file) }),
      signal,
    });
    console.log(args.flag("json") ? JSON.stringify({ address, healthy, status }) : status);
    return healthy ? 0 : 1;
  },
};
