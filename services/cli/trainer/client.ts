import { TrainerService } from "../../../proto/mod.ts";
import { type GrpcClient, grpcClient } from "../../common/mod.ts";
import type { Arguments, Option } from "../command.ts";

/** Where `drtune up` puts the trainer. */
export const DEFAULT_TRAINER = "127.0.0.1:50060";

/** Options of every command that talks to a trainer. */
export const TRAINER_OPTIONS = {
  trainer: {
    type: "string",
    value: "HOST:PORT",
    help: `the trainer service (default ${DEFAULT_TRAINER}, or DRTUNE_TRAINER)`,
  },
  json: { type: "boolean", help: "print JSON" },
} as const satisfies Readonly<Record<string, Option>>;

/** A client of the trainer named on the command line; retries while the service starts. */
export function trainerClient(args: Arguments): GrpcClient<typeof TrainerService> {
  const address = args.text("trainer") ?? Deno.env.get("DRTUNE_TRAINER") ?? DEFAULT_TRAINER;
  return grpcClient(TrainerService, address, { retry: { attempts: 5 } });
}
